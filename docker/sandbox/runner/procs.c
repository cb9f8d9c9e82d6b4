#include "procs.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tree.h"

/* Above all that run may have; the largest two numbers mean "none" in places. */
#define KILLER_UID 0xfffffffdu

void procs_note_child(struct runner *r, pid_t pid) {
    /* A gap means that a stranger was created since the last look. Wrapping around pid_max looks like a gap: harmless. */
    if (pid != r->last_pid + 1)
        r->strangers = true;
    r->last_pid = pid;
}

static pid_t last_pid(const struct runner *r) {
    char text[128];
    ssize_t n = pread(r->loadavg_fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return -1;
    text[n] = '\0';
    const char *field = strrchr(text, ' ');
    return field == NULL ? -1 : (pid_t)strtol(field + 1, NULL, 10);
}

bool procs_strangers(struct runner *r) {
    if (!r->strangers && last_pid(r) != r->last_pid)
        r->strangers = true;
    return r->strangers;
}

pid_t procs_adopt(struct runner *r) {
    siginfo_t info;
    pid_t pid = last_pid(r);
    if (r->strangers || pid != r->last_pid + 1 || waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
        return -1;
    r->last_pid = pid;
    return pid;
}

void procs_resync(struct runner *r) {
    pid_t last = last_pid(r);
    r->strangers = last < 0;
    r->last_pid = last;
}

static ssize_t read_proc(const struct runner *r, pid_t pid, const char *file, char *text, size_t size) {
    char path[48];
    snprintf(path, sizeof path, "%d/%s", (int)pid, file);
    int fd = openat(r->proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n;
}

static uint64_t field(const char *text, const char *name) {
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}

/*
 * The owner of /proc/<pid> would be cheaper, but a process can make that root by giving up being dumpable. The name in the
 * first line is the process's own choice: the kernel escapes newlines in it, so a search for "\nUid:" cannot be fooled.
 */
static bool read_status(const struct runner *r, struct proc *proc) {
    char text[4096];
    if (read_proc(r, proc->pid, "status", text, sizeof text) <= 0)
        return false;
    const char *state = strstr(text, "\nState:\t");
    proc->blocked = state != NULL && state[8] == 'D';
    proc->parent = (pid_t)field(text, "\nPPid:\t");
    proc->uid = (uid_t)field(text, "\nUid:\t");
    proc->anon = (field(text, "\nRssAnon:\t") + field(text, "\nRssShmem:\t")) << 10;
    proc->file = field(text, "\nRssFile:\t") << 10;
    return true;
}

/* cutime and cstime, fields 16 and 17: what the process's reaped children used. */
static uint64_t children_cpu(const struct runner *r, pid_t pid) {
    char text[1024];
    unsigned long user = 0, sys = 0;
    if (read_proc(r, pid, "stat", text, sizeof text) <= 0)
        return 0;
    const char *at = strrchr(text, ')'); /* the name before it may contain anything */
    if (at == NULL || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %lu %lu", &user, &sys) != 2)
        return 0;
    return (user + sys) * (SECOND / (uint64_t)sysconf(_SC_CLK_TCK));
}

uint64_t procs_cpu(pid_t pid) {
    /* Nanoseconds, where /proc/<pid>/stat has only ticks of 10 ms. The kernel's own encoding of "CPU clock of that process":
     * clock_getcpuclockid() would make it with one more system call. */
    struct timespec used;
    const clockid_t clock = (clockid_t)((~(unsigned)pid << 3) | 2u);
    if (pid <= 0 || clock_gettime(clock, &used) != 0)
        return 0;
    return (uint64_t)used.tv_sec * SECOND + (uint64_t)used.tv_nsec;
}

uint64_t procs_resident(const struct runner *r, pid_t pid) {
    char text[128];
    unsigned long pages = 0;
    if (read_proc(r, pid, "statm", text, sizeof text) <= 0 || sscanf(text, "%*u %lu", &pages) != 1)
        return 0;
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

bool procs_is_waiting(const struct runner *r, pid_t pid) {
    char text[4096];
    if (read_proc(r, pid, "status", text, sizeof text) <= 0)
        return false;
    const char *state = strstr(text, "\nState:\t");
    return state != NULL && strchr("RSD", state[8]) != NULL && field(text, "\nTracerPid:\t") == 0 && field(text, "\nThreads:\t") == 1;
}

uint64_t procs_peak(const struct runner *r, pid_t pid) {
    char text[4096];
    return read_proc(r, pid, "status", text, sizeof text) <= 0 ? 0 : field(text, "\nVmHWM:\t") << 10;
}

struct scan {
    struct runner *r;
    void (*visit)(struct runner *, const struct proc *, void *);
    void *argument;
};

static int scan_entry(int fd, const char *name, void *argument) {
    struct scan *scan = argument;
    (void)fd;
    struct proc proc = {.pid = isdigit((unsigned char)name[0]) ? (pid_t)strtol(name, NULL, 10) : 0};
    if (proc.pid <= 0 || proc.pid == getpid() || !read_status(scan->r, &proc))
        return 0;
    proc.cpu_ns = procs_cpu(proc.pid) + children_cpu(scan->r, proc.pid);
    scan->visit(scan->r, &proc, scan->argument);
    return 0;
}

void procs_scan(struct runner *r, void (*visit)(struct runner *, const struct proc *, void *), void *argument) {
    struct scan scan = {r, visit, argument};
    if (tree_each(r->proc_fd, scan_entry, &scan) < 0)
        fatal(r, "cannot read /proc");
}

/*
 * kill(-1) under the victim's uid is atomic against fork: the kernel holds the task list while it signals, and a fork in
 * flight restarts when it sees the signal. Killing pid by pid loses against a fork bomb.
 *
 * Only the effective uid is that of the victim: real and saved uid are nobody else's, so that no process of that uid may signal or
 * trace the killer, and that it reaches none of ours: root's warm interpreter, or a fork of it that has no uid of its own yet.
 * A child does it, not the runner: a process whose effective uid matches may change priority and CPU affinity, and the
 * runner must not be exposed to that for even a microsecond. kill(-1) spares its caller and PID 1.
 */
__attribute__((no_sanitize("address", "undefined"))) static int killer(void *argument) {
    uid_t uid = *(const uid_t *)argument;
    if (syscall(SYS_setresuid, KILLER_UID, uid, KILLER_UID) == 0)
        syscall(SYS_kill, -1, SIGKILL);
    syscall(SYS_exit_group, 0);
    return 0;
}

static void kill_one(struct runner *r, const struct proc *proc, void *argument) {
    (void)r;
    if (proc->uid == *(const uid_t *)argument)
        kill(proc->pid, SIGKILL);
}

void procs_kill_uid(struct runner *r, uid_t uid) {
    pid_t pid = spawn_child(r, killer, &uid);
    if (pid > 0)
        waitpid(pid, NULL, __WALL);
    else
        /* The container's pids limit leaves no place for the killer. One by one makes room; callers repeat until none is left. */
        procs_scan(r, kill_one, &uid);
}
