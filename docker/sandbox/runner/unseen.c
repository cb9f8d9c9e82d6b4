/*
 * Memory and CPU time that no look at the processes of a run shows, but that the kernel counts for the container as a whole.
 *
 * Memory: files in memory (memfds, /tmp, /dev/shm, the working directory), pages of shared mappings that were let go of, what
 * lies in sockets and pipes; each is bounded by itself, together they are gigabytes. CPU time: children that nobody waits for
 * (SIGCHLD ignored) and that end before they are seen; their time goes to neither their parent nor PID 1.
 *
 * What the container's sum says cannot be told apart by runs, so the active runs answer for it together. What it holds may have
 * grown since the job began by what they may use, and no more. CPU time that has come up since the last look and is on nobody's
 * bill is shared out among them. Honest programs stay far below both; tests of a submission that does not are stopped with it.
 * Files that ended tests have left in /tmp and /dev/shm count as well.
 *
 * Pages of the image's files are the machine's and not a program's. What the runner itself keeps for a job, inputs that still
 * arrive and results that wait to be sent, is in the allowance.
 */
#include "unseen.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "procs.h"

/* Inputs (one message is 64 MiB at most), and tables of the kernel: page tables, inodes, stacks of threads. */
#define ALLOWANCE_BYTES (64ull << 20)
/* The killers of runs, and what processes use between their last figure and their end. */
#define ALLOWANCE_NS (20 * MS)
/* The kernel adds up for the container at each tick of a CPU, of 10 ms at most. */
#define TICK_NS (10 * MS)

static int open_figure(const char *v1, const char *v2) {
    int fd = open(v1, O_RDONLY | O_CLOEXEC);
    return fd >= 0 ? fd : open(v2, O_RDONLY | O_CLOEXEC);
}

void unseen_open(struct cgroup *cgroup) {
    cgroup->usage_fd = open_figure("/sys/fs/cgroup/memory/memory.usage_in_bytes", "/sys/fs/cgroup/memory.current");
    cgroup->stat_fd = open_figure("/sys/fs/cgroup/memory/memory.stat", "/sys/fs/cgroup/memory.stat");
    cgroup->cpu_fd = open_figure("/sys/fs/cgroup/cpuacct/cpuacct.usage", "/sys/fs/cgroup/cpu.stat");
    /* The whole machine has CPU time but, in v2, no memory: then this is not the container's cgroup. */
    if (cgroup->usage_fd < 0 && cgroup->cpu_fd >= 0) {
        close(cgroup->cpu_fd);
        cgroup->cpu_fd = -1;
    }
}

/* With a line feed in front, so that each line of it begins with one. */
static bool read_text(int fd, char *text, size_t size) {
    ssize_t n = fd < 0 ? -1 : pread(fd, text + 1, size - 2, 0);
    text[0] = '\n';
    text[n > 0 ? n + 1 : 1] = '\0';
    return n > 0;
}

static uint64_t line(const char *text, const char *name) {
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}

static uint64_t usage(const struct cgroup *cgroup) {
    char text[64];
    return read_text(cgroup->usage_fd, text, sizeof text) ? strtoull(text + 1, NULL, 10) : 0;
}

/*
 * All memory but pages of files on disk; 0 = unknown. "cache" in v1 and "file" in v2 are all pages of files, those of files in
 * memory (shmem) among them.
 */
static uint64_t held_bytes(const struct cgroup *cgroup) {
    char text[8192];
    uint64_t all = usage(cgroup);
    if (all == 0 || !read_text(cgroup->stat_fd, text, sizeof text))
        return 0;
    uint64_t disk = line(text, "\ncache ") + line(text, "\nfile ") - line(text, "\nshmem ");
    return all > disk ? all - disk : 0;
}

void unseen_begin(const struct runner *r, struct job *job) { job->held_bytes = held_bytes(&r->cgroup); }

bool unseen_memory(const struct runner *r) {
    const struct job *job = r->job;
    uint64_t each = job->spec.memory_bytes + 2 * job->spec.output_bytes;
    uint64_t limit = job->held_bytes + job->active_count * each + ALLOWANCE_BYTES;
    /* Usually the first figure is enough. */
    return job->held_bytes != 0 && usage(&r->cgroup) > limit && held_bytes(&r->cgroup) > limit;
}

/* Nanoseconds without the runner and its interpreter; 0 = unknown. */
uint64_t unseen_clock(const struct runner *r) {
    char text[1024];
    if (!read_text(r->cgroup.cpu_fd, text, sizeof text))
        return 0;
    uint64_t v2 = line(text, "\nusage_usec "), all = v2 > 0 ? v2 * 1000 : strtoull(text + 1, NULL, 10);
    uint64_t own = procs_cpu(getpid()) + procs_cpu(r->warm.pid);
    return all > own ? all - own : 0;
}

static uint64_t run_ns(const struct run *run) {
    return run->user_ns + run->sys_ns + run->lost_ns + run->live_ns - run->upfront_ns;
}

void unseen_ended(struct job *job, const struct run *run) { job->ended_ns += run_ns(run); }

void unseen_restart(struct job *job) { job->container_ns = 0; }

static uint64_t billed_ns(const struct job *job) {
    uint64_t sum = job->ended_ns;
    for (const struct run *run = job->active; run != NULL; run = run->next)
        sum += run_ns(run);
    return sum;
}

static uint64_t tolerance_ns(const struct runner *r) {
    uint64_t sum = ALLOWANCE_NS + r->cpus * TICK_NS;
    for (const struct run *run = r->job->active; run != NULL; run = run->next)
        sum += run->live_processes * CPU_ROUNDING_NS;
    return sum;
}

static void begin_count(struct runner *r, struct job *job) {
    job->billed_ns = billed_ns(job);
    job->container_ns = unseen_clock(r);
    job->missing_ns = 0;
}

/*
 * The container's clock is read before the processes are looked at, but for the first time afterwards: if the runner is held up
 * in between, less is missing than there was, and never more. A process that is reaped while the list is read can be missed in
 * it, and its parent too, so only what is missing twice in a row is charged.
 */
void unseen_charge(struct runner *r, uint64_t container_ns) {
    struct job *job = r->job;
    if (job->active == NULL)
        return;
    if (job->container_ns == 0) {
        begin_count(r, job);
        return;
    }
    uint64_t used = container_ns - job->container_ns, known = billed_ns(job) - job->billed_ns + tolerance_ns(r);
    uint64_t before = job->missing_ns, now = container_ns > job->container_ns && used > known ? used - known : 0;
    uint64_t share = (now < before ? now : before) / job->active_count;
    job->missing_ns = now;
    for (struct run *run = job->active; run != NULL && share > 0; run = run->next)
        run->lost_ns += share;
    if (share > 0)
        job->missing_ns = 0;
}
