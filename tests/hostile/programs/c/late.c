/* Takes its time where nobody looks: asleep, stopped, in children, in children that nobody waits for, in threads. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void burn(void) {
    for (volatile unsigned long i = 0;; i++)
        continue;
}

static void *burn_thread(void *argument) {
    burn();
    return argument;
}

static void burn_for(double seconds) {
    struct timespec t;
    do
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    while ((double)t.tv_sec + (double)t.tv_nsec / 1e9 < seconds);
}

static void nothing(int number) { (void)number; }

int main(void) {
    char how[16] = "";
    pthread_t thread;
    if (scanf("%15s", how) != 1)
        return 1;
    if (strcmp(how, "sleep") == 0)
        sleep(30);
    if (strcmp(how, "stop") == 0)
        raise(SIGSTOP);
    if (strcmp(how, "child") == 0 && fork() == 0)
        burn();
    if (strcmp(how, "grandchild") == 0 && fork() == 0) {
        setsid();
        if (fork() == 0)
            burn();
        _exit(0);
    }
    if (strcmp(how, "unwaited") == 0) {
        signal(SIGCHLD, SIG_IGN);
        for (int i = 0; i < 40; i++) {
            if (fork() == 0) {
                burn_for(0.05);
                _exit(0);
            }
            usleep(60000);
        }
    }
    if (strcmp(how, "threads") == 0)
        for (int i = 0; i < 4; i++)
            pthread_create(&thread, NULL, burn_thread, NULL);
    if (strcmp(how, "timers") == 0) {
        struct itimerval fast = {{0, 50}, {0, 50}};
        signal(SIGALRM, nothing);
        setitimer(ITIMER_REAL, &fast, NULL);
        burn();
    }
    if (strcmp(how, "traps") == 0)
        for (;;)
            getppid();
    for (;;)
        pause();
}
