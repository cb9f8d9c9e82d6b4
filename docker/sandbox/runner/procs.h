/*
 * What the runner knows about processes that it did not start itself.
 *
 * The usual program never forks, and for it a scan of /proc per test would cost more than the test. The last field of
 * /proc/loadavg is the last pid given out in this pid namespace. While it is always the pid of the runner's own last child,
 * and pids of the runner's children come without gaps, nobody else has created a process or thread. After the first stranger
 * every check is a full scan, until no run is active and the namespace is known to be empty again.
 */
#ifndef PROCS_H
#define PROCS_H

#include "runner.h"

/* /proc gives the CPU time of reaped children in ticks of 10 ms, user and system each: so much may seem to be lost per process. */
#define CPU_ROUNDING_NS (20 * MS)

struct proc {
    pid_t pid, parent;
    uid_t uid;
    bool blocked;        /* uninterruptible: what waiting for a vfork child looks like */
    uint64_t anon, file; /* resident bytes */
    uint64_t cpu_ns;     /* of the process and its reaped children */
};

void procs_note_child(struct runner *r, pid_t pid);
/* The one process that was created since the last look, if it is a child of the runner, else -1. */
pid_t procs_adopt(struct runner *r);
bool procs_strangers(struct runner *r);
/* Call when only the runner is alive. */
void procs_resync(struct runner *r);

/* Visits every process but the runner. */
void procs_scan(struct runner *r, void (*visit)(struct runner *, const struct proc *, void *), void *argument);

/* CPU time of a living process (all its threads), 0 if it is gone. */
uint64_t procs_cpu(pid_t pid);
/* Alive with one thread, neither stopped nor traced. */
bool procs_is_waiting(const struct runner *r, pid_t pid);
uint64_t procs_peak(const struct runner *r, pid_t pid);
uint64_t procs_resident(const struct runner *r, pid_t pid);

/* SIGKILL to all processes of a uid, atomically against fork. */
void procs_kill_uid(struct runner *r, uid_t uid);

#endif
