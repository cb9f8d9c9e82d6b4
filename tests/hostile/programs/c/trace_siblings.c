/* Tests trace, stop and leave hanging whoever has their user id: the fork server and the tests next to them. */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void) {
    int number = 0;
    struct stat st;
    char path[32];
    if (scanf("%d", &number) != 1)
        return 1;
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    for (int pid = 2; number % 2 == 0 && pid < 1000; pid++) {
        snprintf(path, sizeof path, "/proc/%d", pid);
        if (pid == getpid() || stat(path, &st) != 0 || st.st_uid != getuid())
            continue;
        if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) != 0)
            kill(pid, SIGSTOP);
    }
    usleep(20000);
    printf("%d\n", number * number);
    return 0;
}
