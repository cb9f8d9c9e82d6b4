/*
 * All threads but one are taken down, and made anew in each copy of the process.
 *
 * A copy of a process has one thread, that which asked for it. The virtual machine has a dozen more, that wait for something to do. Each
 * of them gets a signal: the kernel saves its registers on its stack, and the handler saves the few that a function has to keep and
 * ends the thread, for the kernel only. Stack, thread descriptor and all that glibc and the virtual machine know of it stay. A copy starts a
 * new thread in that very place: it comes back from the handler, the kernel restores the registers from the stack, and what was waited for
 * is waited for again, or looked at again (EINTR), as after any signal. So a thread may be stopped anywhere; the one that makes
 * the copies just must not need anything that one of the others holds, and therefore calls the kernel only.
 *
 * What the kernel knows of a thread is set again: its id and thread pointer. glibc's restartable sequence is marked as not registered.
 */
#include "warm.h"

#include <dirent.h>
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if !defined(__x86_64__)
#error "the warm virtual machine needs to know this architecture's registers"
#endif

enum { MOST_THREADS = 64, STOP = 40 };

/* Milliseconds for the threads to go. They are not busy: it takes less than one. */
enum { STOP_TRIES_MS = 2000 };

struct saved {
    uint64_t rbx, rbp, r12, r13, r14, r15, rsp, rip;
    char *thread; /* the thread pointer */
};

static struct saved saved[MOST_THREADS];
static atomic_int count;
static long id_offset; /* of the thread's id in glibc's thread descriptor */

int threads_save(struct saved *place);
long threads_revive(const struct saved *place, unsigned long flags, char *thread, int *id);

/* Returns 0, and once more 1 in the thread that revive has made. */
__asm__(".text\n"
        ".type threads_save, @function\n"
        "threads_save:\n"
        "  mov %rbx, 0(%rdi)\n  mov %rbp, 8(%rdi)\n  mov %r12, 16(%rdi)\n  mov %r13, 24(%rdi)\n"
        "  mov %r14, 32(%rdi)\n  mov %r15, 40(%rdi)\n"
        "  lea 8(%rsp), %rax\n  mov %rax, 48(%rdi)\n  mov (%rsp), %rax\n  mov %rax, 56(%rdi)\n"
        "  xor %eax, %eax\n  ret\n"
        ".size threads_save, .-threads_save\n"
        /* clone(flags, stack, id, id, thread): the new thread begins on the saved stack and returns from threads_save. */
        ".type threads_revive, @function\n"
        "threads_revive:\n"
        "  push %r12\n  mov %rdi, %r12\n"
        "  mov %rdx, %r8\n  mov %rcx, %rdx\n  mov %rcx, %r10\n  mov %rsi, %rdi\n  mov 48(%r12), %rsi\n"
        "  mov $56, %eax\n  syscall\n  test %rax, %rax\n  jz 1f\n  pop %r12\n  ret\n"
        "1:mov 0(%r12), %rbx\n  mov 8(%r12), %rbp\n  mov 24(%r12), %r13\n  mov 32(%r12), %r14\n  mov 40(%r12), %r15\n"
        "  mov 56(%r12), %rcx\n  mov 16(%r12), %r12\n  mov $1, %eax\n  jmp *%rcx\n"
        ".size threads_revive, .-threads_revive\n");

static void stop(int number, siginfo_t *info, void *context) {
    int error = errno;
    int index = atomic_fetch_add(&count, 1);
    struct saved *place = &saved[index < MOST_THREADS ? index : 0];
    (void)number, (void)info, (void)context;
    if (index < MOST_THREADS)
        place->thread = __builtin_thread_pointer();
    if (index >= MOST_THREADS || threads_save(place) == 0) {
        /* Or the kernel would clear the id, and who joins the thread would take it for ended. */
        syscall(SYS_set_tid_address, NULL);
        for (;;)
            syscall(SYS_exit, 0);
    }
    errno = error;
}

static bool set_handler(void (*function)(int, siginfo_t *, void *)) {
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_RESTART};
    if (function != NULL)
        action.sa_sigaction = function;
    else
        action = (struct sigaction){.sa_handler = SIG_DFL};
    sigfillset(&action.sa_mask);
    return sigaction(STOP, &action, NULL) == 0;
}

bool threads_prepare(const int *thread_id) {
    id_offset = (const char *)thread_id - (const char *)__builtin_thread_pointer();
    return set_handler(stop);
}

/* How many others there are; each gets the signal. One that is in the handler already does not come back from it. */
static int stop_others(void) {
    DIR *tasks = opendir("/proc/self/task");
    int found = 0, self = (int)syscall(SYS_gettid);
    if (tasks == NULL)
        return -1;
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        int id = atoi(entry->d_name);
        if (id <= 0 || id == self)
            continue;
        found++;
        syscall(SYS_tgkill, getpid(), id, STOP);
    }
    closedir(tasks);
    return found;
}

bool threads_stop(void) {
    int left = stop_others();
    for (int i = 0; i < STOP_TRIES_MS && left > 0; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        left = stop_others();
    }
    return left == 0 && atomic_load(&count) <= MOST_THREADS && set_handler(NULL);
}

bool threads_resume(void) {
    const unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS |
                                CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    for (int i = 0; i < atomic_load(&count); i++) {
        struct rseq *rseq = (struct rseq *)(void *)(saved[i].thread + __rseq_offset);
        if (__rseq_size > 0)
            rseq->cpu_id = (uint32_t)RSEQ_CPU_ID_REGISTRATION_FAILED;
        if (threads_revive(&saved[i], flags, saved[i].thread, (int *)(void *)(saved[i].thread + id_offset)) < 0)
            return false;
    }
    return true;
}
