/* Parts of the warm interpreter; serve.c holds the theory of operation. */
#ifndef WARM_H
#define WARM_H

#include <stdbool.h>
#include <stddef.h>

#include "warmserver.h"

enum { WARM_FDS = 4 };

/* serve.c: what is known since the start. */
extern char *warm_program; /* path of the source */

/* fork.c */
int *fork_find_thread_id(void); /* NULL if glibc is not as expected */
/* A copy of this process as a child of its parent: its pid, 0 in the copy, -1. */
int fork_for_parent(int *thread_id);

/* become.c: from the trusted copy to the process of a test. False if a step failed, with uid 0 still. */
bool become_test(const struct warm_request *request, const int *fds, int count);
bool become_compiler(const struct warm_request *request, int code_fd);

/* wake.c */
bool wake_prepare(void); /* in the trusted process, at last */
void wake(void);         /* in the copy, when it has given up its privileges */

/* program.c: both never return. */
_Noreturn void program_run(int code_fd);
_Noreturn void program_compile(int code_fd);

/* finish.c */
bool finish_prepare(void); /* in the trusted process */
/* The end of a program that ran to its end, as of Py_RunMain. */
_Noreturn void finish(int status, bool whole);

#endif
