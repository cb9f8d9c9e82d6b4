/*
 * Takes the fork server's place in an IFUNC resolver, which runs before there are libraries, so with system calls only. HOW is
 * defined by the test. Started without a fork server it is an honest program.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>

enum { HANGS = 1, ENDS, CRASHES, FLOODS, CLOSES, TAKES_IT_AWAY, FORKS, GREETS_AND_HANGS, GREETS_AND_ENDS, USES_OUTPUT, STOPS };

static long call(long number, long a, long b, long c, long d) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = 0;
    register long r9 __asm__("r9") = 0;
    __asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return number;
}

static void say(uint32_t sequence) { call(SYS_sendto, 3, (long)&sequence, sizeof sequence, 0x4000); }

static void hang(void) {
    for (;;)
        call(SYS_pause, 0, 0, 0, 0);
}

static void take_over(void) {
    if (HOW == HANGS)
        hang();
    if (HOW == ENDS)
        call(SYS_exit_group, 0, 0, 0, 0);
    if (HOW == CRASHES)
        __builtin_trap();
    for (uint32_t i = 0; HOW == FLOODS && i < 100000; i++)
        say(i % 2);
    if (HOW == CLOSES)
        call(SYS_close, 3, 0, 0, 0);
    if (HOW == TAKES_IT_AWAY) {
        call(SYS_dup2, 3, 100, 0, 0);
        call(SYS_dup2, 1, 3, 0, 0);
    }
    if (HOW == FORKS && call(SYS_fork, 0, 0, 0, 0) == 0)
        hang();
    if (HOW == GREETS_AND_HANGS) {
        say(0);
        hang();
    }
    if (HOW == GREETS_AND_ENDS) {
        say(0);
        call(SYS_exit_group, 0, 0, 0, 0);
    }
    if (HOW == USES_OUTPUT)
        call(SYS_write, 1, (long)"forged", 6, 0);
    if (HOW == STOPS)
        call(SYS_kill, call(SYS_getpid, 0, 0, 0, 0), 19, 0, 0);
}

static void nothing(void) {}
static void (*resolve(void))(void) {
    if (call(SYS_fcntl, 3, F_GETFD, 0, 0) >= 0)
        take_over();
    return nothing;
}
void chosen(void) __attribute__((ifunc("resolve")));

int main(void) {
    int number = 0;
    chosen();
    if (scanf("%d", &number) != 1)
        return 1;
    printf("%d\n", number * number);
    return 0;
}
