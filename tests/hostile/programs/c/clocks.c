/* Turns the clocks, and asks for more of the CPU than is its share. Prints what worked. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    struct timespec t = {1000000000, 0};
    struct timeval v = {1000000000, 0};
    struct timex x = {.modes = ADJ_OFFSET, .offset = 1000};
    struct sched_param p = {1};
    if (clock_settime(CLOCK_REALTIME, &t) == 0 || settimeofday(&v, NULL) == 0)
        puts("worked: clock_settime");
    if (adjtimex(&x) >= 0 || clock_adjtime(CLOCK_REALTIME, &x) >= 0)
        puts("worked: adjtimex");
    if (sched_setscheduler(0, SCHED_FIFO, &p) == 0 || sched_setscheduler(0, SCHED_RR, &p) == 0)
        puts("worked: real-time scheduling");
    if (setpriority(PRIO_PROCESS, 0, -20) == 0)
        puts("worked: nice -20");
    if (setpriority(PRIO_PROCESS, 1, 19) == 0)
        puts("worked: somebody else's priority");
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    if (sched_setaffinity(1, sizeof one, &one) == 0)
        puts("worked: the runner's CPUs");
    struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
    for (int what = 0; what < 16; what++) {
        struct rlimit now;
        if (getrlimit((__rlimit_resource_t)what, &now) == 0 && now.rlim_max != RLIM_INFINITY &&
            setrlimit((__rlimit_resource_t)what, &more) == 0)
            printf("worked: limit %d\n", what);
    }
    if (syscall(SYS_ioprio_set, 1, 1, 0) == 0)
        puts("worked: the runner's priority of input and output");
    puts("end");
    return 0;
}
