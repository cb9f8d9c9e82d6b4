/* What the attacks in C share. Each attempt is made in a child and says by one line how it ended: "+ NAME" = it worked,
 * "- NAME ERROR" = it was refused. The tests want to see all names, and no "+". */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void say(const char *name, long result) {
    if (result == -1)
        printf("- %s %s\n", name, strerrorname_np(errno));
    else
        printf("+ %s %ld\n", name, result);
    fflush(stdout);
}

#define TRY(name, expression)                                                                                                    \
    do {                                                                                                                         \
        int status_;                                                                                                             \
        fflush(stdout);                                                                                                          \
        pid_t child_ = fork();                                                                                                   \
        if (child_ == 0) {                                                                                                       \
            alarm(5);                                                                                                            \
            errno = 0;                                                                                                           \
            say(name, (long)(expression));                                                                                       \
            _exit(0);                                                                                                            \
        }                                                                                                                        \
        waitpid(child_, &status_, 0);                                                                                            \
        if (WIFSIGNALED(status_))                                                                                                \
            printf("- %s SIG%s\n", name, sigabbrev_np(WTERMSIG(status_)));                                                       \
    } while (0)

#define TRY_CALL(name, ...) TRY(#name, syscall(SYS_##name, __VA_ARGS__))
