/*
 * From zombies to results.
 *
 * As PID 1 the runner reaps everything: the main processes of runs and whatever they orphaned. A zombie is looked at first
 * (WNOWAIT), which gives its real uid and so the run that its CPU time belongs to, and only then reaped. Nothing of a run can
 * escape its bill by changing session or parent, since no program can change its uid.
 *
 * The end of a main process is the end of its run. If anybody but the runner has created processes, the rest of the uid is
 * killed, and the run is answered when /proc shows none of it any more (DRAINING); its last children are on its bill.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bytes.h"
#include "captures.h"
#include "procs.h"
#include "served.h"
#include "spawn.h"
#include "warm.h"

enum { DRAIN_TICK_MS = 2 /* killed processes are gone after about one scheduling round */ };

static struct run *run_of(const struct runner *r, pid_t pid, uid_t uid) {
    for (struct run *run = r->job == NULL ? NULL : r->job->active; run != NULL; run = run->next)
        if (run->uid == uid || (run->pid == pid && run->state == RUN_RUNNING))
            return run;
    return NULL;
}

static uint64_t timeval_ns(struct timeval t) { return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_usec * 1000; }

static void charge(struct run *run, const struct rusage *usage) {
    uint64_t peak = (uint64_t)usage->ru_maxrss << 10;
    peak = peak > run->credit_bytes ? peak - run->credit_bytes : 0;
    run->user_ns += timeval_ns(usage->ru_utime);
    run->sys_ns += timeval_ns(usage->ru_stime);
    if (peak > run->peak)
        run->peak = peak;
}

/*
 * Whoever is killed for want of memory dies of a SIGKILL, so the counter is read when one was seen, or could have been missed among
 * processes that others made; what it said then is what later runs count from.
 */
static bool was_oom_killed(struct runner *r, const struct run *run, bool foreign_kill) {
    /* Of a forked run it was seen just now that it is alone. */
    if (!foreign_kill && (run->served || !procs_strangers(r)))
        return false;
    r->oom_kills = watch_oom_kills(r);
    return r->oom_kills > run->oom_before;
}

/* The limits once more, on the final figures: what was crossed between two looks of the watch is caught here. */
static void judge_finally(struct runner *r, struct run *run) {
    const struct job_spec *spec = &r->job->spec;
    bool foreign_kill = WIFSIGNALED(run->status) && WTERMSIG(run->status) == SIGKILL && run->killed_ns == 0;
    run->oom_killed = was_oom_killed(r, run, foreign_kill);
    if (captures_exceed(run, spec->output_bytes))
        run->over |= OVER_OUTPUT;
    if (run->peak > spec->memory_bytes || (run->oom_killed && foreign_kill))
        run->over |= OVER_MEMORY;
    if (run->user_ns + run->sys_ns > spec->cpu_ns)
        run->over |= OVER_CPU;
    if (run->ended_ns - run->started_ns > spec->wall_ns)
        run->over |= OVER_WALL;
}

static enum outcome outcome_of(const struct run *run) {
    if (run->cancelled)
        return OUTCOME_CANCELLED;
    if (run->over & OVER_OUTPUT)
        return OUTCOME_OUTPUT_LIMIT;
    if (run->over & OVER_MEMORY)
        return OUTCOME_MEMORY_LIMIT;
    if (run->over & OVER_CPU)
        return OUTCOME_CPU_LIMIT;
    if (run->over & OVER_WALL)
        return OUTCOME_WALL_LIMIT;
    return WIFSIGNALED(run->status) ? OUTCOME_SIGNALED : OUTCOME_EXITED;
}

static void finish(struct runner *r, struct run *run) {
    watch_settle(run);
    run->user_ns += run->lost_ns;
    run->lost_ns = 0;
    judge_finally(r, run);
    enum outcome outcome = outcome_of(run);
    bool succeeded = outcome == OUTCOME_EXITED && WEXITSTATUS(run->status) == 0;
    job_deactivate(r->job, run);
    job_answer(r, run, outcome);
    if (succeeded && r->job->spec.collectc > 0)
        collect(r, r->job, run);
    if (!cwd_is_kept(r, run))
        remove_cwd(r, run);
}

static void main_ended(struct runner *r, struct run *run, int status, bool alone) {
    run->status = status;
    run->ended_ns = now_ns();
    run->state = RUN_DRAINING;
    run->live_ns = 0;
    if (served_retry(r->job, run))
        return;
    if (alone) {
        finish(r, run);
        return;
    }
    procs_kill_uid(r, run->uid);
    run->check_ns = run->ended_ns + DRAIN_TICK_MS * MS;
}

static void reap_one(struct runner *r, pid_t pid, uid_t uid) {
    struct rusage usage;
    int status;
    struct run *run = served_check(r, pid, run_of(r, pid, uid));
    /* Before reaping: while the zombie holds its pid, nobody can bring the pid counter back to it unseen. */
    bool is_main = run != NULL && run->pid == pid && run->state == RUN_RUNNING;
    bool alone = is_main && (run->served /* checked just now */ || !procs_strangers(r));
    if (wait4(pid, &status, 0, &usage) != pid)
        return;
    if (run == NULL) {
        warm_reaped(r, pid, timeval_ns(usage.ru_utime) + timeval_ns(usage.ru_stime), (uint64_t)usage.ru_maxrss << 10);
        return;
    }
    if (is_main && warm_retry(r, run, uid))
        return;
    charge(run, &usage);
    if (is_main)
        main_ended(r, run, status, alone);
}

static void count_living(struct runner *r, const struct proc *proc, void *argument) {
    (void)argument;
    struct run *run = run_of(r, 0, proc->uid);
    if (run != NULL)
        run->live_processes++;
}

static bool any_draining(const struct job *job) {
    for (const struct run *run = job == NULL ? NULL : job->active; run != NULL; run = run->next)
        if (run->state == RUN_DRAINING)
            return true;
    return false;
}

static void drain_one(struct runner *r, struct run *run, uint64_t now) {
    if (run->live_processes == 0) {
        finish(r, run);
    } else if (run->check_ns <= now) {
        watch_kill(r, run, 0);
        run->check_ns = now + DRAIN_TICK_MS * MS;
    }
}

void reap_drain(struct runner *r, uint64_t now) {
    if (!any_draining(r->job))
        return;
    for (struct run *run = r->job->active; run != NULL; run = run->next)
        run->live_processes = 0;
    procs_scan(r, count_living, NULL);
    for (struct run *run = r->job->active, *next; run != NULL; run = next) {
        next = run->next;
        if (run->state == RUN_DRAINING)
            drain_one(r, run, now);
    }
}

void reap(struct runner *r) {
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
            break;
        reap_one(r, info.si_pid, info.si_uid);
    }
    reap_drain(r, now_ns());
    served_settle(r, now_ns());
}
