/*
 * Takes the fork server's place and serves well, all but for one thing: HOW is defined by the test. Without a fork server it is
 * an honest program, so its tests must come out the same, unless it writes to outputs of its own tests while they run.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
    WRITES_LATER = 1, /* into outputs of tests that have ended, and of those that run */
    MAPS_OUTPUTS,     /* shared and writable, to change them after the end */
    CUTS_OUTPUTS,
    SEALS_OUTPUTS,
    SWAPS_OUTPUTS,    /* each test gets the output of the one before */
    KEEPS_CONTROL,    /* tests get the socket as well, and talk on it */
    SHARES_MEMORY,    /* CLONE_VM: all tests in one address space, one after the other */
    SHARES_STACK,     /* the same at once, on one stack: they run into each other */
    SHARES_FILES,     /* CLONE_FILES and CLONE_FS: one table of descriptors */
    COMPUTES,         /* works for the tests between two forks */
    FORKS_AHEAD,      /* makes the next test before it is asked for */
    STOPS_ITSELF,
    RAISES_PRIORITY,  /* gives tests timers, signals and limits that are not theirs */
    KILLS_TESTS,
    CLOSES_CONTROL,
};

struct request {
    uint32_t sequence;
    char cwd[28];
};

static int outputs[64], pids[64];

static long clone_test(long flags) { return syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0); }
static void say(uint32_t sequence) { send(3, &sequence, sizeof sequence, MSG_NOSIGNAL); }

static int hear(struct request *request, int *fds) {
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(3 * sizeof(int))];
    } control;
    struct iovec part = {request, sizeof *request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (recvmsg(3, &message, 0) <= 0)
        return 0;
    memcpy(fds, CMSG_DATA(&control.head), 3 * sizeof(int));
    return 1;
}

static double used(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void burn(double seconds) {
    for (double end = used() + seconds; used() < end;)
        continue;
}

/* The true fork server comes later and must not find its mark. */
static void hide_mark(char **env) {
    while (*env != NULL && strncmp(*env, "EVALX_FORK_SERVER", 17) != 0 && strncmp(*env, "LD_PRELOAD=", 11) != 0)
        env++;
    *env = NULL;
}

static void be_test(const struct request *request, const int *fds, char **env) {
    int swap = HOW == SWAPS_OUTPUTS && request->sequence > 1 ? outputs[request->sequence - 1] : fds[1];
    hide_mark(env);
    setpgid(0, 0);
    if (chdir(request->cwd) < 0)
        _exit(4);
    dup2(fds[0], 0);
    dup2(swap, 1);
    dup2(fds[2], 2);
    if (HOW == KEEPS_CONTROL)
        for (uint32_t i = 0; i < 100; i++)
            say(i);
    else
        syscall(SYS_close_range, 3, ~0u, 0);
}

static void meddle(uint32_t sequence, const int *fds) {
    static char frame[64] = "\x20\0\0\0\x82forged";
    outputs[sequence] = dup(fds[1]);
    if (HOW == WRITES_LATER)
        for (uint32_t i = 1; i <= sequence; i++)
            for (int times = 0; times < 100; times++)
                (void)!write(outputs[i], frame, sizeof frame);
    if (HOW == MAPS_OUTPUTS)
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
    for (uint32_t i = 1; HOW == CUTS_OUTPUTS && i <= sequence; i++)
        (void)!ftruncate(outputs[i], i % 2);
    if (HOW == SEALS_OUTPUTS)
        fcntl(fds[1], F_ADD_SEALS, F_SEAL_SEAL);
    if (HOW == COMPUTES)
        burn(0.1);
}

static void after(uint32_t sequence, char **env) {
    struct itimerval soon = {{0, 0}, {0, 100000}};
    if (HOW == FORKS_AHEAD && clone_test(CLONE_PARENT) == 0) {
        hide_mark(env);
        pause();
    }
    if (HOW == STOPS_ITSELF && sequence == 2)
        kill(getpid(), SIGSTOP);
    if (HOW == RAISES_PRIORITY) {
        setitimer(ITIMER_REAL, &soon, NULL);
        signal(SIGALRM, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
        nice(19);
    }
    for (uint32_t i = 1; HOW == KILLS_TESTS && i <= sequence; i++)
        kill(pids[i], SIGKILL);
    if (HOW == CLOSES_CONTROL && sequence == 2)
        close(3);
}

/* Returns in the tests only. */
static void serve(char **env) {
    struct request request;
    int fds[3];
    long flags = CLONE_PARENT;
    if (HOW == SHARES_MEMORY)
        flags |= CLONE_VM | CLONE_VFORK;
    if (HOW == SHARES_STACK)
        flags |= CLONE_VM;
    if (HOW == SHARES_FILES)
        flags |= CLONE_FILES | CLONE_FS;
    say(0);
    while (hear(&request, fds)) {
        meddle(request.sequence, fds);
        long pid = clone_test(flags);
        if (pid == 0) {
            be_test(&request, fds, env);
            return;
        }
        pids[request.sequence] = (int)pid;
        for (int i = 0; i < 3 && HOW != SHARES_FILES; i++)
            close(fds[i]);
        say(request.sequence);
        after(request.sequence, env);
    }
    _exit(0);
}

static void take_over(int argc, char **argv, char **env) {
    (void)argc, (void)argv;
    int served = 0;
    for (char **e = env; *e != NULL; e++)
        served |= strncmp(*e, "EVALX_FORK_SERVER", 17) == 0;
    if (served)
        serve(env);
}

__attribute__((section(".preinit_array"), used)) static void (*const first)(int, char **, char **) = take_over;

int main(void) {
    int number = 0;
    if (scanf("%d", &number) != 1)
        return 1;
    printf("%d\n", number * number);
    return 0;
}
