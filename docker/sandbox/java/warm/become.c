/*
 * From the trusted copy to the process of a test: the same steps as the runner takes for a program that it starts (spawn.c there).
 *
 * The copy has one thread, and glibc believes in many: user ids are changed by the kernel's own calls. The uid changes last. A process
 * that ends with uid 0 never became a test, which tells our fault from the program's.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "warm.h"

enum { OPEN_FILES = 1024, MOST_KEPT = 8 };

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

static bool volunteer_for_oom(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, "1000", 4) == 4;
    if (fd >= 0)
        close(fd);
    return good;
}

static struct kept {
    int fd;
    char path[PATH_MAX];
} kept[MOST_KEPT];
static int kept_count;

/* A regular file that could only be read, or the virtual machine is not what is known here. */
static bool keep(int fd) {
    struct kept *one = &kept[kept_count];
    char name[32];
    struct stat status;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    if (kept_count++ == MOST_KEPT || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return false;
    one->fd = fd;
    return (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY && readlink(name, one->path, sizeof one->path - 1) > 0;
}

bool become_prepare(void) {
    DIR *all = opendir("/proc/self/fd");
    bool good = all != NULL;
    for (struct dirent *entry; good && (entry = readdir(all)) != NULL;) {
        int fd = atoi(entry->d_name);
        if (fd > WARM_FD && fd != dirfd(all))
            good = keep(fd);
    }
    if (all != NULL)
        closedir(all);
    return good;
}

/* What the virtual machine has open are files of the image. Each test opens them anew: their offsets and locks would be everybody's. */
static bool renew_kept(void) {
    for (int i = 0; i < kept_count; i++) {
        int fd = open(kept[i].path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || dup3(fd, kept[i].fd, O_CLOEXEC) < 0 || close(fd) < 0)
            return false;
    }
    return true;
}

static bool set_descriptors(const int *fds, int count) {
    for (int i = 0; i < 3; i++)
        if (dup3(fds[i], i, 0) < 0)
            return false;
    for (int i = 0; i < count; i++)
        close(fds[i]);
    return close(WARM_FD) == 0 && renew_kept();
}

static bool become(uint32_t uid) {
    if (syscall(SYS_setresgid, uid, uid, uid) < 0 || syscall(SYS_setresuid, uid, uid, uid) < 0)
        return false;
    /* A change of uid takes it away, execve would have given it back: /proc/self and /dev/stdin depend on it. */
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    return true;
}

/* The virtual machine works on one CPU with the runner; tests run wherever they may. */
static void leave_cpu(void) {
    cpu_set_t everywhere;
    memset(&everywhere, 0xff, sizeof everywhere);
    sched_setaffinity(0, sizeof everywhere, &everywhere);
}

bool become_test(const struct warm_request *request, const int *fds, int count) {
    if (!volunteer_for_oom() || !set_limits(request) || setsid() < 0 || chdir(request->cwd) < 0)
        return false;
    leave_cpu();
    return set_descriptors(fds, count) && become(request->uid);
}
