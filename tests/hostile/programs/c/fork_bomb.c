/* Makes processes or threads until nobody can, and again: the process limit, the container's pids limit, and the killing of them. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void *forever(void *argument) {
    for (;;)
        pause();
    return argument;
}

int main(void) {
    char how[16] = "";
    if (scanf("%15s", how) != 1)
        return 1;
    for (;;) {
        pthread_t thread;
        if (strcmp(how, "fork") == 0)
            fork();
        else if (strcmp(how, "vfork") == 0 && vfork() == 0)
            _exit(0);
        else if (strcmp(how, "thread") == 0)
            pthread_create(&thread, NULL, forever, NULL);
        else if (strcmp(how, "exec") == 0 && fork() >= 0 && fork() == 0)
            execl("/proc/self/exe", "main", (char *)NULL);
    }
}
