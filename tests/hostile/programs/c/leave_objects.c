/* Objects of the kernel that outlive their maker, where their system calls are allowed: System V's, in numbers, and a lock. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    int made = 0;
    for (int i = 0; i < 100; i++) {
        made += shmget(IPC_PRIVATE, 4096, 0600) >= 0;
        made += semget(IPC_PRIVATE, 1, 0600) >= 0;
        made += msgget(IPC_PRIVATE, 0600) >= 0;
    }
    syscall(SYS_add_key, "user", "left", "x", 1L, -4L);
    flock(open("/opt/evalx/runner", O_RDONLY), LOCK_EX);
    printf("%d\n", made);
    return 0;
}
