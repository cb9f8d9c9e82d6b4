/* Files in memory that hold what runs write. captures.c holds the theory of operation. */
#ifndef CAPTURES_H
#define CAPTURES_H

#include "runner.h"

/* Bytes of a stdout that are copied when a forked run has ended: what most tests write. */
enum { MAX_COPY_BYTES = 4096 };

/* An empty one that is append only: 0 or errno. */
int capture_open(const char *name, int *fd);
/* For a run that is about to start, run->served being known: 0 or errno. */
int captures_open(struct job *job, struct run *run);
/* Of a forked run that has ended: nobody can change what it has written any more. False if that cannot be. */
bool captures_settle(struct server *server, struct run *run);
/* Whether it has written more than so many bytes to one of them. */
bool captures_exceed(const struct run *run, uint64_t bytes);
void captures_close(struct run *run);
/* Those that are kept for later runs. */
void captures_forget(struct server *server);

#endif
