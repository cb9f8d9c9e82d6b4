/* Computes before main, where a fork server's tests would find the work done: 400 ms, in a constructor or an IFUNC resolver. */
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double used(void) {
    struct timespec t;
    long result = SYS_clock_gettime;
    __asm__ volatile("syscall" : "+a"(result) : "D"(CLOCK_PROCESS_CPUTIME_ID), "S"(&t) : "rcx", "r11", "memory");
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void work(void) {
    for (double end = used() + 0.4; used() < end;)
        continue;
}

#if HOW == 1
__attribute__((constructor)) static void early(void) { work(); }
#elif HOW == 2
#pragma GCC diagnostic ignored "-Wprio-ctor-dtor"
__attribute__((constructor(50))) static void early(void) { work(); }
#elif HOW == 3
static void nothing(void) {}
static void (*resolve(void))(void) {
    work();
    return nothing;
}
void chosen(void) __attribute__((ifunc("resolve")));
#else
static void early(void) { work(); }
__attribute__((section(".preinit_array"), used)) static void (*const first)(void) = early;
#endif

int main(void) {
#if HOW == 3
    chosen();
#endif
    puts("done");
    return 0;
}
