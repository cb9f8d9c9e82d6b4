/*
 * The warm virtual machine: one start of Java for all tests of a container.
 *
 * Theory of operation. The runner starts the command of a run with this library preloaded, when there is no program yet. The library takes
 * the place of main() of the `java` launcher: it makes a virtual machine from the very arguments and environment, as the launcher does,
 * lets it run a small class of ours that uses what programs use most, takes its threads down (threads.c), and waits for requests on
 * a socket. For each request it makes a copy of the process, which takes on the uid, limits and descriptors of a test, and only then makes the
 * threads anew and looks at the program (machine.c). It is the virtual machine of the image itself, not a build of ours.
 *
 * Trust. This process is root's and never looks at a byte that comes from a submission; while it waits it has one thread, which runs
 * nothing but the loop below. The virtual machine itself has never run as root: its threads have another uid while it is made, and that
 * of the test in a copy. Each test has a uid of its own, so none may signal, trace or read this process.
 *
 * If anything is not as expected the process ends, and the runner starts tests in the ordinary way. A program that the launcher would not
 * run by `static void main(String[])` is left to the launcher: the copy becomes one by exec.
 *
 *   threads.c  taking down and making anew    become.c  privileges and limits
 *   machine.c  Java's side                    fork.c (Python's)  a copy that is the runner's child
 */
#include <dlfcn.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "warm.h"

/* As -Xss in the command, which the launcher takes for its main thread as well. */
enum { STACK_BYTES = 64 << 20 };

/* Nobody's: the user has no name and no home, as those of tests. */
static const uint32_t UNNAMED = UINT32_MAX - 1;

static int *thread_id;
/* A word that the kernel can wait for. */
enum { STARTING, READY, COPIED };
static volatile uint32_t stage = STARTING;
static volatile bool started;
static char directory[sizeof((struct warm_request){0}).cwd + 1];

_Noreturn static void give_up(void) { _exit(1); }

/* The environment is the very array that Java reads. The text goes too: /proc/<pid>/environ shows it. */
static bool take_mark(void) {
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    if (count == 0 || strcmp(environ[count - 1], WARM_PRELOAD) != 0)
        return false;
    memset(environ[count - 1], 0, strlen(environ[count - 1]));
    environ[count - 1] = NULL;
    return true;
}

/* Java's main thread. It is taken down while it waits at the end, and goes on there in a copy. */
static void *main_thread(void *unused) {
    (void)unused;
    if (syscall(SYS_setresgid, UNNAMED, UNNAMED, 0) < 0 || syscall(SYS_setresuid, UNNAMED, UNNAMED, 0) < 0)
        give_up();
    started = machine_start();
    stage = READY;
    while (stage == READY)
        syscall(SYS_futex, &stage, FUTEX_WAIT_PRIVATE, READY, NULL, NULL, 0);
    machine_run(directory);
}

static bool start_main_thread(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    bool good = pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0 && pthread_attr_setguardsize(&attributes, 0) == 0 &&
                pthread_create(&thread, &attributes, main_thread, NULL) == 0;
    pthread_attr_destroy(&attributes);
    while (good && stage == STARTING)
        usleep(1000);
    return good && started;
}

union control {
    struct cmsghdr head;
    char space[CMSG_SPACE(WARM_FDS * sizeof(int))];
};

static int receive(struct warm_request *request, int *fds) {
    union control control;
    struct iovec part = {request, sizeof *request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (recvmsg(WARM_FD, &message, MSG_CMSG_CLOEXEC) != sizeof *request || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
        return -1;
    if (message.msg_controllen < CMSG_LEN(sizeof(int)) || control.head.cmsg_type != SCM_RIGHTS)
        return -1;
    size_t count = (control.head.cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(&control.head), count * sizeof(int));
    return (int)count;
}

_Noreturn static void be_test(const struct warm_request *request, const int *fds, int count) {
    if (count < 3 || !become_test(request, fds, count))
        _exit(1);
    memcpy(directory, request->cwd, sizeof request->cwd);
    stage = COPIED;
    if (!threads_resume())
        _exit(1);
    for (;;)
        pause();
}

/*
 * There is nothing to compile for all tests: the process that is asked for ends as soon as it is there. It has the memory and the stack of
 * this one, and so must not call a function.
 */
static int compile(void) {
    register long stack_end __asm__("r10") = 0, thread __asm__("r8") = 0;
    long pid = SYS_clone;
    __asm__ volatile("syscall\n test %%rax, %%rax\n jnz 1f\n mov %[exit], %%eax\n mov $1, %%edi\n syscall\n 1:"
                     : "+a"(pid)
                     : "D"(CLONE_PARENT | CLONE_VM | CLONE_VFORK | SIGCHLD), "S"(0L), "d"(0L), "r"(stack_end), "r"(thread),
                       [exit] "i"(SYS_exit_group)
                     : "rcx", "r11", "memory");
    return (int)pid;
}

static int make_process(const struct warm_request *request, const int *fds, int count) {
    if (request->kind == WARM_COMPILE)
        return compile();
    int pid = fork_for_parent(thread_id);
    if (pid == 0)
        be_test(request, fds, count);
    return pid;
}

static bool answer(uint32_t sequence, int pid) {
    struct warm_answer text = {sequence, pid, 0};
    return send(WARM_FD, &text, sizeof text, MSG_NOSIGNAL) == sizeof text;
}

_Noreturn static void serve(void) {
    struct warm_request request;
    int fds[WARM_FDS], count;
    if (!answer(0, getpid()))
        give_up();
    while ((count = receive(&request, fds)) > 0) {
        int pid = make_process(&request, fds, count);
        for (int i = 0; i < count; i++)
            close(fds[i]);
        if (pid < 0 || !answer(request.sequence, pid))
            break;
    }
    give_up();
}

static int serve_main(int argc, char **argv, char **env) {
    (void)env;
    thread_id = fork_find_thread_id();
    if (thread_id == NULL || !threads_prepare(thread_id) || !machine_parse(argc, argv) || !machine_make_place())
        give_up();
    bool good = start_main_thread() && threads_stop() && become_prepare();
    if (!machine_remove_place() || !good)
        give_up();
    serve();
}

/* Takes the place of glibc's own function of this name, which calls main(). */
typedef int (*main_function)(int, char **, char **);
__attribute__((visibility("default"))) int __libc_start_main(main_function, int, char **, void (*)(void), void (*)(void),
                                                            void (*)(void), void *);

int __libc_start_main(main_function function, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void *stack_end) {
    int (*start)(main_function, int, char **, void (*)(void), void (*)(void), void (*)(void), void *) = NULL;
    *(void **)&start = dlsym(RTLD_NEXT, "__libc_start_main");
    return start(take_mark() ? serve_main : function, argc, argv, init, fini, loader_fini, stack_end);
}
