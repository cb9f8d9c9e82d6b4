/*
 * Starting a run.
 *
 * The child shares the runner's memory until execve (CLONE_VM | CLONE_VFORK): nothing is copied, the runner sleeps meanwhile,
 * and the child reports a failed step by writing into its argument, so that our fault is never blamed on the program. Sharing
 * is safe although the child takes the run's uid on the way: uids are never used twice, so no process of that uid exists yet.
 * The child keeps to raw system calls on a stack of its own.
 *
 * What all children need and none may change later is set once in the runner itself and inherited: no-new-privileges, no
 * supplementary groups, umask, default signal dispositions, no core files, no locked memory, no POSIX queues (main.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "captures.h"
#include "procs.h"
#include "served.h"
#include "spawn.h"
#include "warm.h"

#define RAW __attribute__((no_sanitize("address", "undefined")))

enum { CHILD_STACK_BYTES = 64 << 10, OPEN_FILES = 1024 };

#define TRUSTED_STACK_BYTES (64ull << 30)

/* The exit code of shells. */
enum { CANNOT_EXECUTE = 126 };

static const char BOX[] = "/box/";
static const char DEFAULT_PATH[] = "/usr/local/bin:/usr/bin:/bin";

pid_t spawn_child(struct runner *r, int (*function)(void *), void *argument) {
    _Alignas(16) static char stack[CHILD_STACK_BYTES];
    pid_t pid = clone(function, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, argument);
    if (pid > 0)
        procs_note_child(r, pid);
    return pid;
}

/* Without CAP_SYS_RESOURCE a hard limit cannot be raised: the container's own one then holds. */
RAW static int limit(int what, uint64_t value) {
    struct rlimit old, wanted = {value, value};
    if (syscall(SYS_prlimit64, 0, what, &wanted, NULL) == 0)
        return 0;
    if (syscall(SYS_prlimit64, 0, what, NULL, &old) < 0)
        return -1;
    wanted.rlim_cur = wanted.rlim_max = value < old.rlim_max ? value : old.rlim_max;
    return (int)syscall(SYS_prlimit64, 0, what, &wanted, NULL);
}

/*
 * Only a backstop: the watch is finer, and sees the whole process tree. It is wide because the kernel counts ticks here, which
 * on a machine whose CPUs are taken away by others come to more than was used; dying of it would look like a crash.
 */
RAW uint64_t cpu_backstop_seconds(const struct job_spec *spec) { return 2 * (spec->cpu_ns / SECOND) + 2; }

RAW static int set_limits(const struct job_spec *spec, uint64_t processes) {
    if (limit(RLIMIT_CPU, cpu_backstop_seconds(spec)) < 0 || limit(RLIMIT_FSIZE, spec->file_bytes) < 0)
        return -1;
    if (limit(RLIMIT_STACK, spec->stack_bytes == 0 ? RLIM_INFINITY : spec->stack_bytes) < 0)
        return -1;
    if (spec->address_space != 0 && limit(RLIMIT_AS, spec->address_space) < 0)
        return -1;
    return limit(RLIMIT_NPROC, processes) < 0 ? -1 : limit(RLIMIT_NOFILE, OPEN_FILES);
}

/* The kernel's OOM killer must take a judged program, never the runner: raising the score needs no privilege. */
RAW static int volunteer_for_oom(void) {
    long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    long written = syscall(SYS_write, fd, "1000", 4);
    syscall(SYS_close, fd);
    return written == 4 ? 0 : -1;
}

/* Standard descriptors are the captures, everything else is closed: CLOEXEC alone would trust every open() of the runner. */
RAW static int set_descriptors(const struct child *child) {
    for (int i = 0; i < child->fd_count; i++)
        if (syscall(SYS_dup3, child->fds[i], i, 0) < 0)
            return -1;
    /* Kernels before 5.9, and seccomp profiles of their time, do not know it: CLOEXEC is what is left. */
    return syscall(SYS_close_range, child->fd_count, ~0u, 0) == 0 || errno == ENOSYS ? 0 : -1;
}

RAW static int become(uid_t uid, const char *cwd) {
    if (syscall(SYS_setsid) < 0 || syscall(SYS_chdir, cwd) < 0)
        return -1;
    if (syscall(SYS_setresgid, uid, uid, uid) < 0 || syscall(SYS_setresuid, uid, uid, uid) < 0)
        return -1;
    uint64_t nothing = 0;
    return (int)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &nothing, NULL, sizeof nothing);
}

/*
 * What came with the job can be a file that compiled well and that the kernel takes for no program (an overlong .interp). Then
 * the program is to blame, and ends as in a shell. A loader that is missing (ENOENT, EACCES) is a fault of the image.
 */
RAW static bool is_no_program(const struct job *job) {
    for (size_t i = 0; i < sizeof BOX - 1; i++)
        if (job->paths[0] == NULL || job->paths[0][i] != BOX[i])
            return false;
    return errno == ENOEXEC || errno == EINVAL || errno == EIO;
}

RAW static void execute(const struct job *job, char **envp) {
    int error = ENOENT;
    for (char **path = job->paths; *path != NULL; path++) {
        syscall(SYS_execve, *path, job->spec.argv, envp);
        if (errno != ENOENT && errno != ENOTDIR)
            error = errno;
        if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
            break;
    }
    errno = error;
    if (is_no_program(job))
        syscall(SYS_exit_group, CANNOT_EXECUTE);
}

RAW static int child_main(void *argument) {
    struct child *child = argument;
    if (child->cpus != NULL)
        syscall(SYS_sched_setaffinity, 0, sizeof *child->cpus, child->cpus);
    /* OOM score and limits come before the uid changes, while the files in /proc and a high NPROC are still ours. */
    if (volunteer_for_oom() == 0 && set_limits(&child->job->spec, child->processes) == 0 && set_descriptors(child) == 0 &&
        become(child->uid, child->cwd) == 0)
        execute(child->job, child->envp);
    child->error = errno;
    syscall(SYS_exit_group, 127);
    return 0;
}

/*
 * The soft limit of the stack at execve decides how far below the stack the kernel begins with mappings: there must be room for the
 * largest stack that a fork may get later.
 */
RAW static int set_trusted_limits(void) {
    struct rlimit stack;
    if (syscall(SYS_prlimit64, 0, RLIMIT_STACK, NULL, &stack) < 0)
        return -1;
    stack.rlim_cur = TRUSTED_STACK_BYTES < stack.rlim_max ? TRUSTED_STACK_BYTES : stack.rlim_max;
    return (int)syscall(SYS_prlimit64, 0, RLIMIT_STACK, &stack, NULL);
}

RAW static int trusted_main(void *argument) {
    struct child *child = argument;
    uint64_t nothing = 0;
    if (set_trusted_limits() == 0 && set_descriptors(child) == 0 && syscall(SYS_setsid) > 0 &&
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &nothing, NULL, sizeof nothing) == 0)
        execute(child->job, child->envp);
    child->error = errno;
    syscall(SYS_exit_group, 127);
    return 0;
}

void name_cwd(char *path, size_t size, uid_t number) { snprintf(path, size, "/scratch/%u", (unsigned)number); }

static pid_t spawn(struct runner *r, int (*function)(void *), struct child *child) {
    pid_t pid = spawn_child(r, function, child);
    if (pid < 0)
        return -errno;
    if (child->error != 0) {
        waitpid(pid, NULL, 0);
        return -child->error;
    }
    return pid;
}

pid_t spawn_program(struct runner *r, struct child *child) {
    name_cwd(child->cwd, sizeof child->cwd, child->uid);
    return spawn(r, child_main, child);
}

pid_t spawn_trusted(struct runner *r, struct child *child) { return spawn(r, trusted_main, child); }

static int exec_start(struct runner *r, struct job *job, struct run *run) {
    const struct job_spec *spec = &job->spec;
    struct child child = {
        .job = job, .envp = spec->envp, .uid = run->uid, .processes = spec->processes == 0 ? 1 : spec->processes,
        .cpus = &r->allowed, .fds = {run->in_fd, run->out_fd, run->err_fd < 0 ? run->out_fd : run->err_fd}, .fd_count = 3,
    };
    pid_t pid = spawn_program(r, &child);
    if (pid < 0)
        return -pid;
    run->pid = pid;
    return 0;
}

static char *join(const char *directory, size_t size, const char *name) {
    char *path = malloc(size + strlen(name) + 2);
    if (path != NULL) {
        memcpy(path, directory, size);
        path[size] = '/';
        strcpy(path + size + 1, name);
    }
    return path;
}

static const char *search_path(const struct job_spec *spec) {
    for (unsigned i = 0; i < spec->envc; i++)
        if (strncmp(spec->envp[i], "PATH=", 5) == 0)
            return spec->envp[i] + 5;
    return DEFAULT_PATH;
}

/* All candidates are made here, once per job: the child may not allocate. */
int spawn_find(struct job *job) {
    if (job->spec.argc == 0)
        return EINVAL;
    const char *name = job->spec.argv[0], *path = strchr(name, '/') != NULL || *name == '\0' ? "" : search_path(&job->spec);
    size_t count = 1, found = 0;
    for (const char *at = path; *at != '\0'; at++)
        count += *at == ':';
    job->paths = calloc(count + 1, sizeof *job->paths);
    if (job->paths == NULL)
        return ENOMEM;
    if (*path == '\0' && (job->paths[found++] = strdup(name)) == NULL)
        return ENOMEM;
    for (size_t size; *path != '\0'; path += size + (path[size] == ':')) {
        size = strcspn(path, ":");
        if (size > 0 && (job->paths[found++] = join(path, size, name)) == NULL)
            return ENOMEM;
    }
    return 0;
}

static int exec_begin(struct runner *r, struct job *job) {
    (void)r;
    return spawn_find(job);
}

void spawn_forget(struct job *job) {
    for (char **path = job->paths; path != NULL && *path != NULL; path++)
        free(*path);
    free(job->paths);
    job->paths = NULL;
}

static void exec_end(struct runner *r, struct job *job) {
    (void)r;
    spawn_forget(job);
}

static const struct spawner exec_spawner = {exec_begin, exec_start, exec_end};

static void fork_end(struct runner *r, struct job *job) {
    served_end(r, job);
    exec_end(r, job);
}

static int fork_start(struct runner *r, struct job *job, struct run *run) {
    return run->served ? served_start(r, job, run) : exec_start(r, job, run);
}

static const struct spawner fork_spawner = {exec_begin, fork_start, fork_end};

static void warm_spawner_end(struct runner *r, struct job *job) {
    warm_end(job);
    exec_end(r, job);
}

static int warm_spawner_start(struct runner *r, struct job *job, struct run *run) {
    return run->warm ? warm_fork(r, job, run) : exec_start(r, job, run);
}

static const struct spawner warm_spawner = {exec_begin, warm_spawner_start, warm_spawner_end};

const struct spawner *spawner_of(const struct job *job) {
    static const struct spawner *const spawners[] = {&exec_spawner, &fork_spawner, &warm_spawner};
    return spawners[job->spec.mode];
}

int make_cwd(const struct runner *r, uid_t number, uid_t owner) {
    char name[16];
    snprintf(name, sizeof name, "%u", (unsigned)number);
    if (mkdirat(r->work_fd, name, 0700) < 0 || fchownat(r->work_fd, name, owner, owner, AT_SYMLINK_NOFOLLOW) < 0)
        return errno;
    return 0;
}

static off_t size_of(const struct runner *r, const char *name) {
    struct stat st;
    return fstatat(r->work_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_size : -1;
}

void measure_cwd(struct runner *r) {
    if (mkdirat(r->work_fd, "measure", 0700) < 0)
        return;
    off_t empty = size_of(r, "measure");
    if (mkdirat(r->work_fd, "measure/entry", 0700) == 0)
        r->empty_size = size_of(r, "measure") > empty ? empty : -1;
    unlinkat(r->work_fd, "measure/entry", AT_REMOVEDIR);
    unlinkat(r->work_fd, "measure", AT_REMOVEDIR);
}

bool cwd_is_kept(struct runner *r, const struct run *run) {
    struct server *server = &r->job->server;
    struct stat st;
    char name[16];
    if (!run->served || server->state != SERVER_UP || server->spares == SPARE_CWDS || r->empty_size < 0)
        return false;
    snprintf(name, sizeof name, "%u", (unsigned)run->uid);
    if (fstatat(r->work_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_mode != (S_IFDIR | 0700) || st.st_size != r->empty_size ||
        st.st_uid != server->uid || st.st_gid != server->uid)
        return false;
    server->spare_cwds[server->spares++] = run->uid;
    return true;
}

static int take_cwd(struct runner *r, struct job *job, struct run *run) {
    struct server *server = &job->server;
    if (run->served && server->spares > 0) {
        run->uid = server->spare_cwds[--server->spares];
        return 0;
    }
    if (r->uids_used >= r->uid_count)
        return EUSERS;
    run->uid = r->uid_base + r->uids_used++;
    return make_cwd(r, run->uid, run->served ? server->uid : run->uid);
}

static int prepare(struct runner *r, struct job *job, struct run *run) {
    int error = take_cwd(r, job, run);
    return error == 0 ? captures_open(job, run) : error;
}

static int set_up(struct runner *r, struct job *job, struct run *run) {
    int error = run->error != 0 ? run->error : job->error;
    if (error == 0)
        error = prepare(r, job, run);
    run->oom_before = r->oom_kills;
    run->started_ns = now_ns();
    return error == 0 ? spawner_of(job)->start(r, job, run) : error;
}

/* A run by exec is not started twice: its input may go. */
static void close_input(struct run *run) {
    if (run->served || run->warm)
        return;
    if (run->in_fd >= 0)
        close(run->in_fd);
    run->in_fd = -1;
}

void spawn_start(struct runner *r, struct run *run) {
    struct job *job = r->job;
    served_hear(r);
    if (!served_settled(job))
        return;
    run->served = run->error == 0 && job->error == 0 && served_wanted(r, job, run);
    run->warm = run->error == 0 && job->error == 0 && warm_wanted(r, job, run);
    if (!served_settled(job) || !warm_settled(job))
        return;
    run->error = set_up(r, job, run);
    close_input(run);
    if (!served_settled(job)) {
        served_requeue(job, run);
    } else if (run->warm && run->error != 0) {
        remove_cwd(r, run);
        run->error = 0;
        served_requeue(job, run);
    } else if (run->error != 0) {
        remove_cwd(r, run);
        job_answer(r, run, OUTCOME_INTERNAL);
    } else {
        run->state = RUN_RUNNING;
        job_activate(job, run);
        watch_begin(r, run);
    }
}
