/*
 * A program that takes its fork server over before that is ready: the first argument says how it breaks the protocol, the second
 * what main does. Without a fork server (plain execve) it is an honest program, so both ways must give the same results.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../forkserver.h"

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void burn(double seconds) {
    for (double end = cpu_seconds() + seconds; cpu_seconds() < end;)
        continue;
}

static void *sleeper(void *argument) { sleep(30); return argument; }

static void say(uint32_t sequence) { send(FORKSERVER_FD, &sequence, sizeof sequence, MSG_NOSIGNAL); }

static uint32_t hear(int *fds) {
    struct fork_request request = {0};
    char control[CMSG_SPACE(3 * sizeof(int))];
    struct iovec part = {&request, sizeof request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(FORKSERVER_FD, &message, 0) <= 0)
        _exit(0);
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), 3 * sizeof *fds);
    return request.sequence;
}

/* The true fork server, whose turn comes later, must not find its mark. */
static void take(const int *fds, char **env) {
    while (*env != NULL && strncmp(*env, "LD_PRELOAD=", 11) != 0)
        env++;
    *env = NULL;
    for (int i = 0; i < 3; i++)
        dup2(fds[i], i);
    syscall(SYS_close_range, 3, ~0u, 0);
}

static pid_t fork_with(int flags) { return (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0); }

static void forever(const char *how, char **env) {
    int fds[3], kept = -1;
    if (strcmp(how, "silent") == 0)
        sleeper(NULL);
    if (strcmp(how, "dies") == 0)
        _exit(0);
    if (strcmp(how, "flood") == 0)
        for (;;)
            say(0);
    if (strcmp(how, "long") == 0)
        for (char text[4096] = {0};;)
            send(FORKSERVER_FD, text, sizeof text, MSG_NOSIGNAL);
    if (strcmp(how, "lie-early") == 0)
        for (uint32_t i = 0;; i++)
            say(i);
    say(0);
    for (int count = 1;; count++) {
        uint32_t sequence = hear(fds);
        if (strcmp(how, "keep-file") == 0) {
            (void)!write(kept, "forged", 6);
            (void)!ftruncate(kept, 1);
            close(kept);
            kept = dup(fds[1]);
        }
        if (strcmp(how, "lie") == 0) {
            say(sequence);
            continue;
        }
        if (strcmp(how, "hang-later") == 0 && count == 3)
            sleeper(NULL);
        if (strcmp(how, "die-later") == 0 && count == 3)
            _exit(0);
        if (strcmp(how, "stray") == 0 && fork_with(0) == 0)
            sleeper(NULL);
        if (fork_with(strcmp(how, "own-child") == 0 ? 0 : CLONE_PARENT) == 0) {
            take(fds, env);
            return;
        }
        if (strcmp(how, "twice") == 0 && fork_with(CLONE_PARENT) == 0) {
            take(fds, env);
            return;
        }
        if (strcmp(how, "keep-map") == 0)
            mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
        for (int i = 0; i < 3; i++)
            close(fds[i]);
        if (strcmp(how, "compute") == 0)
            burn(0.2);
        say(strcmp(how, "wrong-number") == 0 ? sequence + 1 : sequence);
        if (strcmp(how, "fork-later") == 0 && fork_with(0) == 0)
            sleeper(NULL);
    }
}

static void early(int argc, char **argv, char **env) {
    struct stat st;
    const char *how = argc > 1 ? argv[1] : "";
    pthread_t thread;
    if (strcmp(how, "early-burn") == 0)
        burn(0.05);
    if (strcmp(how, "early-touch") == 0)
        munmap(memset(mmap(NULL, 40 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, 40 << 20), 40 << 20);
    if (strcmp(how, "early-write") == 0)
        (void)!write(1, "early ", 6);
    if (strcmp(how, "early-thread") == 0)
        pthread_create(&thread, NULL, sleeper, NULL);
    if (strncmp(how, "early", 5) == 0 || strcmp(how, "honest") == 0 || strncmp(how, "constructor", 11) == 0)
        return;
    if (fstat(FORKSERVER_FD, &st) == 0 && S_ISSOCK(st.st_mode))
        forever(how, env);
}

__attribute__((section(".preinit_array"), used)) static void (*const before)(int, char **, char **) = early;

__attribute__((constructor)) static void construct(int argc, char **argv) {
    pthread_t thread;
    const char *how = argc > 1 ? argv[1] : "";
    if (strcmp(how, "constructor-burn") == 0)
        burn(0.05);
    if (strcmp(how, "constructor-thread") == 0)
        pthread_create(&thread, NULL, sleeper, NULL);
}

static void at_end(void) { printf("|end"); }

int main(int argc, char **argv) {
    const char *what = argc > 2 ? argv[2] : "cat";
    char block[4096];
    if (strcmp(what, "kill-all") == 0) {
        usleep(20000);
        kill(-1, argc > 3 ? atoi(argv[3]) : SIGKILL);
    }
    if (strcmp(what, "leave") == 0) {
        int fd = open("/tmp/left", O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (fd < 0)
            return 5;
        if (fork_with(0) == 0)
            _exit(0);
        usleep(200000); /* longer than it takes to see the fork */
        unlink("/tmp/left");
        return 0;
    }
    if (strcmp(what, "seal") == 0)
        fcntl(1, F_ADD_SEALS, F_SEAL_SEAL);
    if (strcmp(what, "trace") == 0)
        for (pid_t pid = 2; pid < 3000; pid++)
            if (pid != getpid())
                ptrace(PTRACE_SEIZE, pid, NULL, NULL);
    if (strcmp(what, "raise") == 0)
        return raise(SIGUSR1);
    atexit(at_end);
    for (ssize_t n; (n = read(0, block, sizeof block)) > 0;)
        fwrite(block, 1, (size_t)n, stdout);
    return 7;
}
