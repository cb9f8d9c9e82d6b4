/* Signals for everybody: the runner, the fork server, tests of the same batch, and whoever else a pid may name. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void to(pid_t pid, int number) {
    if (kill(pid, number) == 0 && pid == 1)
        printf("worked: kill(%d, %d)\n", (int)pid, number);
}

int main(void) {
    char how[16] = "";
    if (scanf("%15s", how) != 1)
        return 1;
    /* The runner takes no signal from here. */
    for (int number = 0; number < 65; number++)
        to(1, number);
    int descriptor = (int)syscall(SYS_pidfd_open, 1, 0);
    if (descriptor >= 0 && syscall(SYS_pidfd_send_signal, descriptor, SIGKILL, NULL, 0) == 0)
        puts("worked: pidfd_send_signal");
    if (strcmp(how, "all") == 0) {
        for (int number = 1; number < 65; number++)
            if (number != SIGSTOP)
                signal(number, SIG_IGN);
        /* It spares its caller. */
        for (int number = 1; number < 65; number++)
            if (number != SIGSTOP && number != SIGKILL)
                kill(-1, number);
        kill(-1, SIGKILL);
    } else if (strcmp(how, "group") == 0) {
        signal(SIGTERM, SIG_IGN);
        kill(0, SIGTERM);
    } else if (strcmp(how, "each") == 0) {
        for (pid_t pid = 2; pid < 3000; pid++)
            if (pid != getpid())
                kill(pid, SIGKILL);
    }
    puts("end");
    return 0;
}
