/* Runs that are forked by the warm interpreter of the container. warm.c holds the theory of operation. */
#ifndef WARM_H
#define WARM_H

#include "runner.h"

bool warm_available(void);
/* A WARM frame: waits until the interpreter is ready, or goes without one. */
void warm_start(struct runner *r, const struct event *event);

/* Whether the run is to be forked by it; has the program compiled at the first call of a job. */
bool warm_wanted(struct runner *r, struct job *job, const struct run *run);
/* False while the program is being compiled: no run may start. */
bool warm_settled(const struct job *job);
int warm_fork(struct runner *r, struct job *job, struct run *run); /* fills run->pid; 0 or errno */
void warm_end(struct job *job);
/* It ended with uid 0, before it was a test: it was put back, to be started by exec. */
bool warm_retry(struct runner *r, struct run *run, uid_t uid);

/* A child that is no run was reaped: the interpreter or the process that compiles. */
void warm_reaped(struct runner *r, pid_t pid, uint64_t cpu_ns, uint64_t peak_bytes);
/* Whether a process of this pid belongs to the container and not to a job. */
bool warm_is_server(const struct runner *r, pid_t pid);
/* Between jobs: marks the container dirty if the interpreter is not what it was. */
void warm_verify(struct runner *r);

#endif
