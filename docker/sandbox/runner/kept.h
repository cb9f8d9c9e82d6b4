/* Files that stay in the container between jobs, see kept.c. */
#ifndef KEPT_H
#define KEPT_H

#include "runner.h"

/* In /box, root's alone. FILEs cannot go there. */
#define KEPT_DIRECTORY ".kept"

bool kept_is_reserved(const char *name);
/* A KEEP: returns a descriptor for the content, placed in /box as `name` already, or -1 with errno. */
int kept_create(struct runner *r, const struct event *event);
/* Its content is there, or `error` came in between. Closes the descriptor. */
void kept_settle(struct runner *r, int fd, int error);
/* A KEPT: false if nothing is kept under the id. */
bool kept_place(struct runner *r, const struct event *event, int *error);
/* Whether all is as it was placed; /box is empty but for the kept files. */
bool kept_verify(const struct runner *r);

#endif
