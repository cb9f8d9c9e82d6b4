/* Parts of the warm virtual machine; serve.c holds the theory of operation. */
#ifndef WARM_H
#define WARM_H

#include <stdbool.h>
#include <stddef.h>

#include "warmserver.h"

enum { WARM_FDS = 4 };

/* ../../python/warm/fork.c */
int *fork_find_thread_id(void); /* NULL if glibc is not as expected */
/* A copy of this process as a child of its parent: its pid, 0 in the copy, -1. */
int fork_for_parent(int *thread_id);

/* threads.c */
bool threads_prepare(const int *thread_id); /* in the first thread, before there are others */
bool threads_stop(void);                    /* all but the calling one are taken down; false if one did not go */
bool threads_resume(void);                  /* in a copy: makes them anew, where they were */

/* become.c */
bool become_prepare(void); /* when the virtual machine is there: remembers what it has open */
/* From the trusted copy to the process of a test. False if a step failed, with uid 0 still. */
bool become_test(const struct warm_request *request, const int *fds, int count);

/* machine.c: the virtual machine. */
bool machine_parse(int argc, char **argv);
bool machine_make_place(void); /* for the program, which is not there yet */
bool machine_remove_place(void);
bool machine_start(void);                          /* makes it, in the thread that will be Java's main thread */
_Noreturn void machine_run(const char *directory); /* in the copy, in that thread */

#endif
