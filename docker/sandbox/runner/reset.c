/*
 * Between jobs: bring the container back to its first state, then prove it. Every step may fail silently, because what counts is
 * the proof at the end; a container that fails it is marked dirty and never gets another job.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kept.h"
#include "procs.h"
#include "tree.h"
#include "warm.h"

/* A killed process with gigabytes mapped needs up to a second to end. */
enum { ALONE_TRIES = 5000, ALONE_PAUSE_NS = 1000000 };
enum { IPC_TRIES = 1000 /* a read shows some 60 of the at most 32,000 objects */ };

static int is_stranger(int fd, const char *name, void *argument) {
    (void)fd;
    pid_t pid = isdigit((unsigned char)name[0]) ? (pid_t)strtol(name, NULL, 10) : 0;
    return pid > 0 && pid != getpid() && !warm_is_server(argument, pid);
}

/* But for the warm interpreter. */
static bool alone(struct runner *r) { return tree_each(r->proc_fd, is_stranger, r) == 0; }

/* By uid, as kill(-1) would hit the interpreter too. What has uid 0 is a fork of it that has not come far. */
static void kill_stranger(struct runner *r, const struct proc *proc, void *argument) {
    (void)argument;
    if (warm_is_server(r, proc->pid))
        return;
    if (proc->uid == 0)
        kill(proc->pid, SIGKILL);
    else
        procs_kill_uid(r, proc->uid);
}

static void kill_strangers(struct runner *r) {
    if (r->warm.pid == 0)
        kill(-1, SIGKILL);
    else
        procs_scan(r, kill_stranger, NULL);
}

static bool kill_all(struct runner *r) {
    for (int i = 0; i < ALONE_TRIES; i++) {
        if (alone(r))
            return true;
        kill_strangers(r);
        for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) > 0;)
            warm_reaped(r, pid, 0, 0);
        nanosleep(&(struct timespec){0, ALONE_PAUSE_NS}, NULL);
    }
    return alone(r);
}

struct ipc_kind {
    const char *file;
    int creator; /* column of the creator's uid */
    int (*remove)(int id);
};

static int remove_shm(int id) { return shmctl(id, IPC_RMID, NULL); }
static int remove_sem(int id) { return semctl(id, 0, IPC_RMID); }
static int remove_msg(int id) { return msgctl(id, IPC_RMID, NULL); }

static const struct ipc_kind ipc_kinds[] = {
    {"sysvipc/shm", 9, remove_shm},
    {"sysvipc/sem", 6, remove_sem},
    {"sysvipc/msg", 9, remove_msg},
};

/* The lines after the heading, "" if there are none. A kernel without System V IPC has nothing to clean. */
static const char *read_ipc(const struct runner *r, const struct ipc_kind *kind, char *text, size_t size) {
    int fd = openat(r->proc_fd, kind->file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *lines = strchr(text, '\n');
    return lines == NULL ? "" : lines + 1;
}

static void remove_ipc(const struct ipc_kind *kind, const char *line) {
    long id = 0, creator = 0;
    char *at = (char *)(uintptr_t)line;
    for (int column = 0; column <= kind->creator; column++) {
        long value = strtol(at, &at, 10);
        if (column == 1)
            id = value;
        creator = value;
    }
    /* Only the creator may remove it, as the runner lacks CAP_SYS_ADMIN. Nobody is alive to use the moment. */
    if (setresuid((uid_t)-1, (uid_t)creator, (uid_t)-1) == 0)
        kind->remove((int)id);
    if (setresuid((uid_t)-1, 0, (uid_t)-1) < 0)
        abort();
}

static bool empty_ipc(const struct runner *r, const struct ipc_kind *kind) {
    char text[4096];
    for (int i = 0; i < IPC_TRIES; i++) {
        const char *line = read_ipc(r, kind, text, sizeof text);
        if (*line == '\0')
            return true;
        for (const char *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
            remove_ipc(kind, line);
    }
    return false;
}

static void reset_ipc(struct runner *r) {
    for (size_t i = 0; i < sizeof ipc_kinds / sizeof *ipc_kinds; i++)
        if (!empty_ipc(r, &ipc_kinds[i]))
            mark_dirty(r, "/proc/%s is not empty", ipc_kinds[i].file);
}

static void reset_places(struct runner *r) {
    const struct { int fd; const char *name; } places[] = {
        {r->box_fd, "/box"}, {r->work_fd, "/scratch"}, {r->tmp_fd, "/tmp"}, {r->shm_fd, "/dev/shm"}, {r->mqueue_fd, "/dev/mqueue"},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *but = i == 0 ? KEPT_DIRECTORY : NULL;
        if (places[i].fd >= 0 && (!tree_empty(places[i].fd, but) || !tree_is_empty(places[i].fd, but)))
            mark_dirty(r, "%s is not empty", places[i].name);
    }
    if (!kept_verify(r))
        mark_dirty(r, "kept files are not as they were placed");
}

void reset(struct runner *r) {
    if (!kill_all(r)) {
        mark_dirty(r, "processes survive SIGKILL");
        return;
    }
    reset_places(r);
    reset_ipc(r);
    if (r->uids_used >= r->uid_count)
        mark_dirty(r, "all uids are used up");
    warm_verify(r);
    if (!alone(r))
        mark_dirty(r, "a process appeared during the reset");
}

void remove_cwd(struct runner *r, const struct run *run) {
    char name[16];
    snprintf(name, sizeof name, "%u", (unsigned)run->uid);
    if (run->uid == 0 || unlinkat(r->work_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return;
    int fd = openat(r->work_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
        tree_empty(fd, NULL);
        close(fd);
    }
    unlinkat(r->work_fd, name, AT_REMOVEDIR); /* what is left is found by the reset */
}
