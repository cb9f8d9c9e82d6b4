/*
 * Takes the fork server's place before it can start (.preinit_array comes before all constructors) and plays it falsely. HOW is
 * defined by the test. Whatever it says, tests must come out as if there were no fork server at all.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SILENT = 1, DIES, FLOODS, LIES, FORKS_ITSELF, FORKS_TWICE, HANGS_LATER, STAYS_IN_CONTROL, CLOSES, NOT_A_FORK };

static void say(uint32_t sequence) { send(3, &sequence, sizeof sequence, MSG_NOSIGNAL); }

static int hear(int *fds) {
    char text[64];
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(3 * sizeof(int))];
    } control;
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (recvmsg(3, &message, 0) <= 0)
        return 0;
    memcpy(fds, CMSG_DATA(&control.head), 3 * sizeof(int));
    return 1;
}

/* Answers the test's question by itself, without a test. */
static void answer_by_itself(int out) { dprintf(out, "forged\n"); }

static void serve_falsely(void) {
    int fds[3];
    say(0);
    for (uint32_t sequence = 1; hear(fds); sequence++) {
        if (HOW == HANGS_LATER && sequence > 1)
            for (;;)
                pause();
        if (HOW == FORKS_ITSELF || HOW == FORKS_TWICE) {
            for (int i = 0; i < (HOW == FORKS_TWICE ? 2 : 1); i++)
                if (fork() == 0) {
                    answer_by_itself(fds[1]);
                    _exit(0);
                }
        }
        answer_by_itself(fds[1]);
        say(HOW == LIES ? sequence + 1 : sequence);
    }
    _exit(0);
}

static void take_over(int argc, char **argv, char **env) {
    (void)argc, (void)argv;
    int served = 0;
    for (char **e = env; *e != NULL; e++)
        served |= strncmp(*e, "EVALX_FORK_SERVER", 17) == 0;
    if (!served)
        return;
    if (HOW == SILENT)
        for (;;)
            pause();
    if (HOW == DIES)
        abort();
    if (HOW == CLOSES) {
        close(3);
        return;
    }
    if (HOW == FLOODS)
        for (uint32_t i = 0; i < 100000; i++)
            say(i % 3);
    if (HOW == STAYS_IN_CONTROL && fork() == 0)
        return;
    serve_falsely();
}

__attribute__((section(".preinit_array"), used)) static void (*const first)(int, char **, char **) = take_over;

int main(void) {
    int number = 0;
    if (scanf("%d", &number) != 1)
        return 1;
    printf("%d\n", number * number);
    return 0;
}
