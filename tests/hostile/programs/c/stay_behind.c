/* Leaves a process behind that has a session of its own, is nobody's child, and ignores what can be ignored, to meet the next batch. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void wait_for_the_next(void) {
    for (int i = 0; i < 30000; i++) {
        mkdir("/tmp/hello", 0777);
        close(open("/dev/shm/hello", O_CREAT | O_RDWR, 0666));
        usleep(1000);
    }
    _exit(0);
}

int main(void) {
    char how[16] = "";
    if (scanf("%15s", how) != 1)
        return 1;
    puts("left");
    fflush(stdout);
    if (fork() == 0) {
        if (strcmp(how, "ignore-all") == 0)
            for (int number = 1; number < 65; number++)
                signal(number, SIG_IGN);
        if (strcmp(how, "new-group") == 0)
            setpgid(0, 0);
        else
            setsid();
        if (fork() == 0)
            wait_for_the_next();
        _exit(0);
    }
    usleep(20000);
    return 0;
}
