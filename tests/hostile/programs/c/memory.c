/* Takes memory until it is stopped, in every way there is. Exit code 9: it was refused, and says so itself. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PIECE = 4 << 20, PIECES = 256 };
static char block[PIECE];
static char in_bss[(size_t)PIECE * PIECES];

static int deeper(int depth) {
    volatile char frame[65536];
    memset((char *)frame, depth, sizeof frame);
    return depth > 100000 ? frame[7] : deeper(depth + 1) + frame[9];
}

static void map(int flags, int fd) {
    for (int i = 0; i < PIECES; i++) {
        char *at = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, flags, fd, fd < 0 ? 0 : (off_t)i * PIECE);
        if (at == MAP_FAILED || (fd >= 0 && ftruncate(fd, (off_t)(i + 1) * PIECE) < 0))
            exit(9);
        memset(at, i + 1, PIECE);
    }
}

static void fill(int fd) {
    for (int i = 0; i < PIECES; i++)
        if (write(fd, block, PIECE) != PIECE)
            exit(9);
}

int main(void) {
    char how[16] = "";
    if (scanf("%15s", how) != 1)
        return 1;
    memset(block, 1, sizeof block);
    if (strcmp(how, "heap") == 0)
        for (int i = 0; i < PIECES; i++) {
            char *at = malloc(PIECE);
            if (at == NULL)
                return 9;
            memset(at, 1, PIECE);
        }
    if (strcmp(how, "stack") == 0)
        return deeper(0) & 1;
    if (strcmp(how, "static") == 0)
        memset(in_bss, 1, sizeof in_bss);
    if (strcmp(how, "private") == 0)
        map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (strcmp(how, "shared") == 0)
        map(MAP_SHARED | MAP_ANONYMOUS, -1);
    if (strcmp(how, "populate") == 0)
        map(MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1);
    if (strcmp(how, "memfd-map") == 0)
        map(MAP_SHARED, memfd_create("x", 0));
    if (strcmp(how, "memfd") == 0)
        fill(memfd_create("x", 0));
    if (strcmp(how, "shm") == 0)
        fill(open("/dev/shm/x", O_CREAT | O_WRONLY, 0600));
    if (strcmp(how, "tmp") == 0)
        fill(open("/tmp/x", O_CREAT | O_WRONLY, 0600));
    if (strcmp(how, "cwd") == 0)
        fill(open("x", O_CREAT | O_WRONLY, 0600));
    if (strcmp(how, "processes") == 0) {
        for (int i = 0; i < 6; i++)
            if (fork() == 0) {
                memset(in_bss, 1, 30 << 20);
                sleep(2);
                _exit(0);
            }
        while (wait(NULL) > 0)
            continue;
    }
    puts("end");
    return 0;
}
