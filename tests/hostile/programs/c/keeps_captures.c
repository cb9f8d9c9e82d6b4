/*
 * Its fork server lets one test after the other be forked as it should, but keeps a second descriptor of each test's output, and
 * writes into the output of the test before.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void) {
    int number = 0, others = 0;
    if (scanf("%d", &number) != 1)
        return 1;
    /* Outputs of other tests, if this one can reach them by any descriptor or name. */
    for (int fd = 3; fd < 256; fd++)
        others += write(fd, "forged\n", 7) == 7;
    for (int pid = 2; pid < 400; pid++)
        for (int fd = 0; fd < 8; fd++) {
            char path[64];
            snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
            int theirs = pid == getpid() ? -1 : open(path, O_WRONLY | O_APPEND);
            if (theirs >= 0 && write(theirs, "", 0) == 0)
                others++;
        }
    (void)others;
    /* A mapping through which the output could be changed after the end. */
    printf("%d\n", number * number);
    fflush(stdout);
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 1, 0) == MAP_FAILED ? 0 : 0;
}
