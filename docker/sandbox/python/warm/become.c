/*
 * From the trusted copy to the process of a test: the same steps as the runner takes for a program that it starts (spawn.c there).
 *
 * The uid changes last. A process that ends with uid 0 never became a test, which tells our fault from the program's.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "warm.h"

enum { OPEN_FILES = 1024 };

/* Seconds. A parser that needs longer is left to the tests, which are watched. */
enum { COMPILE_CPU_SECONDS = 2 };

/* Without CAP_SYS_RESOURCE a hard limit cannot be raised: the container's own one then holds. */
static bool limit(int what, uint64_t value) {
    struct rlimit old, wanted = {value, value};
    if (setrlimit(what, &wanted) == 0)
        return true;
    if (getrlimit(what, &old) < 0)
        return false;
    wanted.rlim_cur = wanted.rlim_max = value < old.rlim_max ? value : old.rlim_max;
    return setrlimit(what, &wanted) == 0;
}

static bool set_limits(const struct warm_request *request) {
    return limit(RLIMIT_CPU, request->cpu_seconds) && limit(RLIMIT_FSIZE, request->file_bytes) &&
           limit(RLIMIT_STACK, request->stack_bytes) && limit(RLIMIT_AS, request->address_space) &&
           limit(RLIMIT_NPROC, request->processes) && limit(RLIMIT_NOFILE, OPEN_FILES);
}

/* glibc takes the size of new threads' stacks from RLIMIT_STACK when a process starts; this one started under another. */
static void set_thread_stacks(uint64_t stack_bytes) {
    const uint64_t least = 16 << 10, usual = 2 << 20, page = 4 << 10;
    pthread_attr_t attributes;
    uint64_t size = stack_bytes == RLIM_INFINITY ? usual : stack_bytes;
    size = (size < least ? least : size + page - 1) & ~(page - 1);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, size);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

static bool volunteer_for_oom(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, "1000", 4) == 4;
    if (fd >= 0)
        close(fd);
    return good;
}

/* fds[i] becomes `first + i`, everything above is closed. The numbers received are above all of these. */
static bool set_descriptors(const int *fds, int first, int count) {
    for (int i = 0; i < count; i++)
        if (dup3(fds[i], first + i, 0) < 0)
            return false;
    return close_range((unsigned)(first + count), ~0u, 0) == 0;
}

static bool become(const struct warm_request *request) {
    if (setresgid(request->uid, request->uid, request->uid) < 0 || setresuid(request->uid, request->uid, request->uid) < 0)
        return false;
    /* A change of uid takes it away, execve would have given it back: /proc/self and /dev/stdin depend on it. */
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    return true;
}

/* The interpreter works on one CPU with the runner; tests run wherever they may. */
static void leave_cpu(void) {
    cpu_set_t everywhere;
    memset(&everywhere, 0xff, sizeof everywhere);
    sched_setaffinity(0, sizeof everywhere, &everywhere);
}

bool become_test(const struct warm_request *request, const int *fds, int count) {
    if (!volunteer_for_oom() || !set_limits(request) || setsid() < 0 || chdir(request->cwd) < 0)
        return false;
    set_thread_stacks(request->stack_bytes);
    leave_cpu();
    return set_descriptors(fds, 0, count) && become(request);
}

bool become_compiler(const struct warm_request *request, int code_fd) {
    struct warm_request own = *request;
    if (own.cpu_seconds > COMPILE_CPU_SECONDS)
        own.cpu_seconds = COMPILE_CPU_SECONDS;
    own.file_bytes = RLIM_INFINITY;
    return volunteer_for_oom() && set_limits(&own) && setsid() > 0 && set_descriptors(&code_fd, STDERR_FILENO + 1, 1) &&
           become(&own);
}
