/* Computes in an IFUNC resolver, which the dynamic loader calls before any constructor. */
#include <sys/syscall.h>
#include <time.h>

static void nothing(void) {}

/* Not even libc can be called here: nothing is relocated yet. */
static double cpu_seconds(void) {
    struct timespec t;
    long result = SYS_clock_gettime;
    __asm__ volatile("syscall" : "+a"(result) : "D"(CLOCK_PROCESS_CPUTIME_ID), "S"(&t) : "rcx", "r11", "memory");
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void (*resolve(void))(void) {
    for (double end = cpu_seconds() + 0.03; cpu_seconds() < end;)
        continue;
    return nothing;
}

void chosen(void) __attribute__((ifunc("resolve")));

int main(void) {
    chosen();
    return 0;
}
