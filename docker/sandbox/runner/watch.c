/*
 * Limits of running process trees.
 *
 * A run is looked at only when it could have crossed a limit since the last look: the next look is after the time in which all
 * CPUs together could use up what is left of its CPU time, or memory could grow to its limit. The bounds of that time make
 * the worst overshoot: 5 ms x CPUs of CPU time, 20 MiB of memory. Tests that end before their first look cost nothing here;
 * what they used is judged after the fact (reap.c).
 *
 * As long as nobody but the runner creates processes, a look reads the main process only. After that it scans /proc and adds
 * up by uid. CPU time of a child whose parent ignores SIGCHLD vanishes with it, neither the parent nor PID 1 gets it; such a
 * loss shows as a total that went down between two looks and stays charged. Children that live shorter than the distance of
 * two looks are found in the sum of the container (unseen.c).
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "captures.h"
#include "procs.h"
#include "served.h"
#include "unseen.h"

/* Shortest distance of looks: 200 looks a second cost under 1 % of a CPU. Longest: bounds how late a flood of output is seen. */
#define TICK_MIN_NS (5 * MS)
#define TICK_MAX_NS (50 * MS)
/* Fresh pages are zeroed at no more than about this speed, in bytes per nanosecond. */
#define MEMORY_BYTES_PER_NS 4
/* After SIGKILL a process needs milliseconds, with gigabytes mapped a second. One that takes longer hangs in the kernel. */
#define KILL_PATIENCE_NS (10 * SECOND)
/* After which a served run is taken to be held by a tracer of the same uid. */
#define SERVED_PATIENCE_NS (SECOND / 2)

uint64_t watch_oom_kills(const struct runner *r) {
    char text[512];
    ssize_t n = r->oom_fd < 0 ? -1 : pread(r->oom_fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    /* "oom_kill 3" in memory.oom_control (v1) and memory.events (v2); both have longer words that begin the same. */
    const char *at = strstr(text, "\noom_kill ");
    return at == NULL ? 0 : strtoull(at + strlen("\noom_kill "), NULL, 10);
}

static uint64_t used_ns(const struct run *run) { return run->user_ns + run->sys_ns + run->lost_ns + run->live_ns; }

static uint64_t minimum(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t headroom(uint64_t limit, uint64_t used) { return limit > used ? limit - used : 0; }

static void plan_next_look(const struct runner *r, struct run *run, uint64_t now) {
    const struct job_spec *spec = &r->job->spec;
    uint64_t cpu = headroom(spec->cpu_ns, used_ns(run)) / r->cpus;
    uint64_t memory = headroom(spec->memory_bytes, run->resident) / MEMORY_BYTES_PER_NS;
    uint64_t wait = minimum(minimum(cpu, memory), TICK_MAX_NS);
    run->check_ns = minimum(now + (wait < TICK_MIN_NS ? TICK_MIN_NS : wait), run->started_ns + spec->wall_ns + 1);
    if (run->check_ns <= now)
        run->check_ns = now + TICK_MIN_NS;
}

void watch_begin(struct runner *r, struct run *run) { plan_next_look(r, run, run->started_ns); }

void watch_kill(struct runner *r, struct run *run, unsigned over) {
    uint64_t now = now_ns();
    run->over |= over;
    if (run->killed_ns == 0)
        run->killed_ns = now;
    if (now - run->killed_ns > KILL_PATIENCE_NS)
        fatal(r, "processes of uid %u survive SIGKILL", (unsigned)run->uid);
    if (run->served && now - run->killed_ns > SERVED_PATIENCE_NS) {
        served_abandon(r);
        return;
    }
    /* Alone, the main process is not yet reaped, so its pid cannot mean another. The uid is killed as a whole else: a tracer
     * of the same uid could otherwise hold back the end of the main process. */
    if ((run->served || !procs_strangers(r)) && run->state == RUN_RUNNING)
        kill(run->pid, SIGKILL);
    else
        procs_kill_uid(r, run->uid);
    run->check_ns = now + TICK_MIN_NS;
}

static void clear_sample(struct run *run) {
    run->resident = run->file_part = run->live_ns = 0;
    run->live_processes = 0;
}

struct sample {
    size_t count;
    struct proc procs[4096]; /* over any container's pids limit; untouched pages of it cost nothing */
};

static void add_to_sample(struct runner *r, const struct proc *proc, void *argument) {
    (void)r;
    struct sample *sample = argument;
    if (sample->count < sizeof sample->procs / sizeof *sample->procs)
        sample->procs[sample->count++] = *proc;
}

static bool about_equal(uint64_t a, uint64_t b) { return (a > b ? a - b : b - a) <= 256 << 10; }

/*
 * Between vfork and exec a child shows its parent's memory as its own. One child per waiting parent is let off, so that
 * a program that starts helpers is not charged twice, and nobody can hide more than one process behind such a wait.
 */
static bool shares_memory(struct sample *sample, const struct proc *child) {
    for (size_t i = 0; i < sample->count; i++) {
        struct proc *proc = &sample->procs[i];
        if (proc->blocked && proc->pid == child->parent && about_equal(proc->anon, child->anon) &&
            about_equal(proc->file, child->file)) {
            proc->blocked = false;
            return true;
        }
    }
    return false;
}

/* Pages of files are mostly shared by the processes of a tree (libraries): the largest share counts once, the rest adds up. */
static void add_process(struct run *run, struct sample *sample, const struct proc *proc) {
    run->live_processes++;
    run->live_ns += proc->cpu_ns;
    if (shares_memory(sample, proc))
        return;
    run->resident += proc->anon;
    if (proc->file > run->file_part)
        run->file_part = proc->file;
}

static void sample_tree(struct runner *r) {
    static struct sample sample;
    sample.count = 0;
    procs_scan(r, add_to_sample, &sample);
    for (struct run *run = r->job->active; run != NULL; run = run->next) {
        clear_sample(run);
        for (size_t i = 0; i < sample.count; i++)
            if (sample.procs[i].uid == run->uid)
                add_process(run, &sample, &sample.procs[i]);
        run->resident = headroom(run->resident + run->file_part, run->credit_bytes);
    }
}

static void sample_main(const struct runner *r, struct run *run) {
    run->live_processes = 1;
    run->live_ns = procs_cpu(run->pid);
    run->resident = headroom(procs_resident(r, run->pid), run->credit_bytes);
}

static void note_seen(struct run *run) {
    run->seen_ns = used_ns(run);
    run->seen_processes = run->live_processes;
}

/* What went down since the last sample was not reaped by anybody whose time we see. */
static void keep_losses(struct run *run) {
    uint64_t now = used_ns(run) + run->seen_processes * CPU_ROUNDING_NS;
    if (now < run->seen_ns)
        run->lost_ns += run->seen_ns - now;
    note_seen(run);
}

void watch_settle(struct run *run) {
    run->live_ns = 0;
    keep_losses(run);
}

static bool is_due(const struct run *run, uint64_t now) { return run->check_ns <= now && run->state == RUN_RUNNING; }

static void sample(struct runner *r, uint64_t now) {
    if (procs_strangers(r)) {
        sample_tree(r);
        return;
    }
    for (struct run *run = r->job->active; run != NULL; run = run->next)
        if (is_due(run, now))
            sample_main(r, run);
}

static void judge(struct runner *r, struct run *run, bool too_much_held, uint64_t now) {
    const struct job_spec *spec = &r->job->spec;
    unsigned over = 0;
    if (run->resident > run->peak)
        run->peak = run->resident;
    if (captures_exceed(run, spec->output_bytes))
        over |= OVER_OUTPUT;
    if (run->resident > spec->memory_bytes || too_much_held)
        over |= OVER_MEMORY;
    if (used_ns(run) > spec->cpu_ns)
        over |= OVER_CPU;
    if (now - run->started_ns > spec->wall_ns)
        over |= OVER_WALL;
    /* A killed run is killed again at each look until it is reaped. */
    if (over != 0 || run->killed_ns != 0)
        watch_kill(r, run, over);
    else
        plan_next_look(r, run, now);
}

static void look(struct runner *r, uint64_t now) {
    served_watch(r);
    uint64_t container_ns = procs_strangers(r) && served_settled(r->job) ? unseen_clock(r) : 0;
    sample(r, now);
    for (struct run *run = r->job->active; run != NULL; run = run->next)
        (container_ns != 0 ? note_seen : keep_losses)(run);
    if (container_ns != 0)
        unseen_charge(r, container_ns);
    bool too_much = unseen_memory(r);
    for (struct run *run = r->job->active; run != NULL; run = run->next)
        if (is_due(run, now))
            judge(r, run, too_much, now);
}

uint64_t watch_deadline(const struct runner *r) {
    uint64_t first = r->job != NULL && !served_settled(r->job) ? r->job->server.check_ns : UINT64_MAX;
    for (const struct run *run = r->job == NULL ? NULL : r->job->active; run != NULL; run = run->next)
        first = minimum(first, run->check_ns);
    return first;
}

void watch_tick(struct runner *r, uint64_t now) {
    if (watch_deadline(r) > now)
        return;
    bool due = false;
    for (const struct run *run = r->job->active; run != NULL; run = run->next)
        due = due || is_due(run, now);
    if (due)
        look(r, now);
    reap_drain(r, now);
    served_settle(r, now);
}
