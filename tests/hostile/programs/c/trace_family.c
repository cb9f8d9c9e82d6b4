/* A child traces its parent, or a parent its child, and stays: the end of a traced process waits for its tracer. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <unistd.h>

static void hold(pid_t target) {
    for (int i = 0; i < 2000; i++)
        if (ptrace(PTRACE_SEIZE, target, NULL, PTRACE_O_TRACEEXIT) == 0 || ptrace(PTRACE_ATTACH, target, NULL, NULL) == 0)
            break;
    for (;;)
        pause();
}

int main(void) {
    char how[16] = "";
    if (scanf("%15s", how) != 1)
        return 1;
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        for (int number = 1; number < 65; number++)
            signal(number, SIG_IGN);
        setsid();
        if (strcmp(how, "tracer") == 0)
            hold(parent);
        for (;;)
            pause();
    }
    if (strcmp(how, "traced") == 0)
        hold(child);
    usleep(200000);
    puts("end");
    return 0;
}
