/*
 * Works in children that nobody waits for, each too short to be seen: the kernel adds their CPU time to nobody's. Four seconds in
 * all.
 */
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(void) {
    int done = 0;
    signal(SIGCHLD, SIG_IGN);
    while (done < 1000) {
        pid_t child = fork();
        if (child == 0) {
            while (now(CLOCK_PROCESS_CPUTIME_ID) < 0.004)
                continue;
            _exit(0);
        }
        done += child > 0;
        if (child < 0)
            usleep(100);
    }
    puts("worked for four seconds");
    return 0;
}
