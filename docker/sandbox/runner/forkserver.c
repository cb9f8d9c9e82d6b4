/*
 * The fork server: in the process of a judged program, it turns one start of the program into as many tests as there are.
 *
 * Theory of operation. Its constructor runs before the program's own constructors and main. It says that it is ready and then
 * waits for requests. For each it makes a copy of the process, as fork() would, and the copy takes the test's descriptors and
 * directory and returns from the constructor: its start-up goes on as if nothing had happened, so constructors, main, atexit
 * handlers and the flush at exit all run in the test. The original never returns.
 *
 * It comes in two shapes. Programs that are compiled here get it linked in (FORKSERVER_LINKED), with the first constructor
 * priority after those of the language's own library: what that library does at its start is the same for every test, is done
 * once, and its pages need not be copied for each. Any other dynamic program gets it preloaded; then it runs a little earlier.
 *
 * CLONE_PARENT makes the copy a child of the runner and not of this process: the kernel then gives its CPU time, memory and exit
 * status to the runner directly. This process belongs to the submission's author, and nothing that it says is believed.
 *
 * glibc keeps the thread's id in its thread descriptor (raise() and mutexes read it) and does not say where. The kernel writes it
 * there for a fork (CLONE_CHILD_SETTID), and the place is found as the one that holds this thread's id now. Likewise the list of
 * robust mutexes, which the kernel forgets in the copy, is set again.
 *
 * Nothing of libc is called: a program may define functions of its own by the names of system calls, and they would be taken
 * instead. The library therefore has system calls in assembly and no undefined symbol at all.
 *
 * When anything is not as expected, the process ends, and the runner starts the tests in the ordinary way.
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "forkserver.h"

enum {
    FDS = 3,
    /* glibc's thread descriptor is 2,304 bytes large, the id near its beginning; it lies in the mapping of the main thread. */
    DESCRIPTOR_BYTES = 1024,
};

#if defined(__x86_64__)
static long call(long number, long a, long b, long c, long d, long e) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}

static long clone_parent(long flags, void *tid) { return call(SYS_clone, flags, 0, 0, (long)tid, 0); }
#elif defined(__aarch64__)
static long call(long number, long a, long b, long c, long d, long e) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}

static long clone_parent(long flags, void *tid) { return call(SYS_clone, flags, 0, 0, 0, (long)tid); }
#else
#error "the fork server needs the system calls of this architecture"
#endif

_Noreturn static void leave(void) {
    for (;;)
        call(SYS_exit_group, 0, 0, 0, 0, 0);
}

static int same(const char *a, const char *b) {
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

#ifdef FORKSERVER_LINKED
/* Priorities up to 100 are the implementation's: libstdc++ sets up its streams and locales there. */
#define FIRST_OF_THE_PROGRAM __attribute__((constructor(101)))

struct note {
    uint32_t name_size, value_size, type;
    char name[8];
    uint32_t version;
};
__attribute__((section(".note.evalx"), aligned(4), used)) static const struct note note = {
    sizeof FORKSERVER_NOTE_NAME, sizeof(uint32_t), FORKSERVER_NOTE_TYPE, FORKSERVER_NOTE_NAME, FORKSERVER_VERSION,
};
static const char *const our_strings[] = {FORKSERVER_MARK};
#else
#define FIRST_OF_THE_PROGRAM __attribute__((constructor))
static const char *const our_strings[] = {FORKSERVER_PRELOAD, FORKSERVER_MARK};
#endif

enum { OUR_STRINGS = sizeof our_strings / sizeof *our_strings };

/* The environment is the very array on the stack that main gets; NULL is moved to where our strings began. */
static int take_mark(char **env) {
    size_t count = 0;
    while (env[count] != NULL)
        count++;
    if (count < OUR_STRINGS)
        return 0;
    for (size_t i = 0; i < OUR_STRINGS; i++)
        if (!same(env[count - OUR_STRINGS + i], our_strings[i]))
            return 0;
    env[count - OUR_STRINGS] = NULL;
    return 1;
}

/* NULL unless exactly one place holds the id: a wrong one would be written to. */
static int *find_thread_id(void) {
    char *thread = __builtin_thread_pointer();
    int id = (int)call(SYS_gettid, 0, 0, 0, 0, 0), *found = NULL;
    long from = 0, to = DESCRIPTOR_BYTES;
#if defined(__aarch64__)
    /* Here the descriptor lies before the place that the thread pointer names. */
    from = -2304;
    to = 0;
#endif
    for (long at = from; at < to; at += (long)sizeof(int)) {
        int *place = (int *)(void *)(thread + at);
        if (*place != id)
            continue;
        if (found != NULL)
            return NULL;
        found = place;
    }
    return found;
}

static int answer(uint32_t sequence) {
    struct fork_answer text = {sequence};
    return call(SYS_sendto, FORKSERVER_FD, (long)&text, sizeof text, MSG_NOSIGNAL, 0) == sizeof text;
}

union control {
    struct cmsghdr head;
    char space[CMSG_SPACE(FDS * sizeof(int))];
};

static int receive(struct fork_request *request, int *fds) {
    union control control;
    struct iovec part = {request, sizeof *request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (call(SYS_recvmsg, FORKSERVER_FD, (long)&message, 0, 0, 0) != sizeof *request || message.msg_flags != 0 /* was cut */)
        return 0;
    if (message.msg_controllen < sizeof control.head || control.head.cmsg_type != SCM_RIGHTS ||
        control.head.cmsg_len != CMSG_LEN(FDS * sizeof(int)) || request->cwd[sizeof request->cwd - 1] != '\0')
        return 0;
    const int *sent = (const int *)(const void *)CMSG_DATA(&control.head);
    for (int i = 0; i < FDS; i++)
        fds[i] = sent[i];
    return 1;
}

static void close_all(const int *fds) {
    for (int i = 0; i < FDS; i++)
        call(SYS_close, fds[i], 0, 0, 0, 0);
}

/* Made on the runner's CPU, where its first pages are in the cache; from here on the scheduler may take it elsewhere. */
static void leave_cpu(void) {
    static const unsigned long everywhere[16] = {
        ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul,
    };
    call(SYS_sched_setaffinity, 0, sizeof everywhere, (long)everywhere, 0, 0);
}

/*
 * A process group of its own, so that kill(0) reaches the test alone; a session of its own would cost the kernel's making of a
 * scheduling group each time. A test that cannot get what belongs to it dies of a signal that nobody sent, and the runner starts
 * it again by exec.
 */
static void become_test(const struct fork_request *request, const int *fds) {
    leave_cpu();
    int good = call(SYS_setpgid, 0, 0, 0, 0, 0) == 0 && call(SYS_chdir, (long)request->cwd, 0, 0, 0, 0) == 0;
    for (int i = 0; i < FDS; i++)
        good = good && call(SYS_dup3, fds[i], i, 0, 0, 0) == i;
    close_all(fds);
    call(SYS_close, FORKSERVER_FD, 0, 0, 0, 0);
    if (!good)
        call(SYS_kill, call(SYS_getpid, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0);
}

static void serve(int *thread_id) {
    const long flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
    struct fork_request request;
    int fds[FDS];
    void *robust = NULL;
    size_t robust_size = 0;
    call(SYS_get_robust_list, 0, (long)&robust, (long)&robust_size, 0, 0);
    if (!answer(0))
        leave();
    while (receive(&request, fds)) {
        long pid = clone_parent(flags, thread_id);
        if (pid == 0) {
            call(SYS_set_robust_list, (long)robust, (long)robust_size, 0, 0, 0);
            become_test(&request, fds);
            return;
        }
        close_all(fds);
        if (pid < 0 || !answer(request.sequence))
            break;
    }
    leave();
}

/* glibc hands these arguments to every constructor. */
FIRST_OF_THE_PROGRAM static void start(int argc, char **argv, char **env) {
    (void)argc, (void)argv;
    if (!take_mark(env))
        return;
    int *thread_id = find_thread_id();
    if (thread_id == NULL)
        leave();
    serve(thread_id);
}
