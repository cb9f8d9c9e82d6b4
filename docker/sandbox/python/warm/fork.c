/*
 * A fork whose result is a child of this process's parent (CLONE_PARENT), so that the runner gets its usage and exit status from the
 * kernel. glibc's fork() cannot do that. Of what it does besides, two things matter here: the thread's id in glibc's thread
 * descriptor, which raise() and mutexes read and which the kernel writes for us (CLONE_CHILD_SETTID) once the place is found, and
 * the list of robust mutexes, which the kernel forgets in the copy.
 */
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "warm.h"

/* The thread descriptor is some 2,300 bytes large, before or behind the thread pointer; the id is near its beginning. */
#if defined(__x86_64__)
enum { FROM = 0, TO = 1024 };
static long clone_parent(long flags, int *thread_id) { return syscall(SYS_clone, flags, 0, 0, thread_id, 0); }
#elif defined(__aarch64__)
enum { FROM = -2304, TO = 0 };
static long clone_parent(long flags, int *thread_id) { return syscall(SYS_clone, flags, 0, 0, 0, thread_id); }
#else
#error "the warm interpreter needs to know this architecture's clone and thread descriptor"
#endif

int *fork_find_thread_id(void) {
    char *thread = __builtin_thread_pointer();
    int id = (int)syscall(SYS_gettid), *found = NULL;
    for (long at = FROM; at < TO; at += (long)sizeof(int)) {
        int *place = (int *)(void *)(thread + at);
        if (*place != id)
            continue;
        if (found != NULL)
            return NULL;
        found = place;
    }
    return found;
}

int fork_for_parent(int *thread_id) {
    void *robust = NULL;
    size_t robust_size = 0;
    syscall(SYS_get_robust_list, 0, &robust, &robust_size);
    long pid = clone_parent(CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, thread_id);
    if (pid == 0)
        syscall(SYS_set_robust_list, robust, robust_size);
    return (int)pid;
}
