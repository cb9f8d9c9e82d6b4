/* One step that both ways of starting runs share: a process that becomes a program under a run's uid and limits. */
#ifndef SPAWN_H
#define SPAWN_H

#include "runner.h"

enum { CHILD_FDS = 4 };

struct child {
    const struct job *job;
    char **envp;
    uid_t uid;
    uint64_t processes; /* RLIMIT_NPROC */
    const cpu_set_t *cpus; /* where it may run, NULL = where the runner does */
    int fds[CHILD_FDS]; /* become 0, 1, 2, 3 */
    int fd_count;
    char cwd[32];
    volatile int error; /* written by the child */
};

/* Fills child.cwd, starts it and returns its pid, or -errno. */
pid_t spawn_program(struct runner *r, struct child *child);
/* Like it, but for a program of ours: root's, without limits but that of the stack, in bytes. */
pid_t spawn_trusted(struct runner *r, struct child *child);
/* RLIMIT_CPU of a run. */
uint64_t cpu_backstop_seconds(const struct job_spec *spec);
/* Candidates for execve in job->paths: 0 or errno. */
int spawn_find(struct job *job);
void spawn_forget(struct job *job);
/* The private directory of a number, owned by `owner`: 0 or errno. */
int make_cwd(const struct runner *r, uid_t number, uid_t owner);
/* Whether directories tell how many entries they have: asked once, before any run. */
void measure_cwd(struct runner *r);
/* The directory of a forked run that has ended is as it was made, and is there for the next one. */
bool cwd_is_kept(struct runner *r, const struct run *run);
void name_cwd(char *path, size_t size, uid_t number);

#endif
