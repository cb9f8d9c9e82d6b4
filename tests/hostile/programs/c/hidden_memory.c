/*
 * Keeps memory where the resident size of its processes does not show it: in files in memory that nobody maps, in shared mappings
 * whose pages it has let go of, in descriptors that are under way in a socket. Exit code 9: it was refused.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* 512 MiB in all. */
enum { PIECE = 1 << 20, PIECES = 512 };
static char block[PIECE];

static int fill(int fd) {
    if (fd < 0 || write(fd, block, PIECE) != PIECE)
        exit(9);
    return fd;
}

static int new_file(const char *directory, int number) {
    char path[64];
    snprintf(path, sizeof path, "%s/%d.%d", directory, (int)getpid(), number);
    return open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
}

/* The program has no descriptor of it any more. */
static void put_into(int socket, int fd) {
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {"", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    if (sendmsg(socket, &message, MSG_DONTWAIT) != 1)
        exit(9);
    close(fd);
}

static void let_go(void) {
    for (int i = 0; i < PIECES; i++) {
        char *at = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
            exit(9);
        memset(at, i + 1, PIECE);
        madvise(at, PIECE, MADV_DONTNEED);
    }
}

/* Nobody reads what is in them. */
static void fill_sockets(void) {
    for (int i = 0; i < 450; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
            exit(9);
        while (send(pair[0], block, 32 << 10, MSG_DONTWAIT) > 0)
            continue;
        while (send(pair[1], block, 32 << 10, MSG_DONTWAIT) > 0)
            continue;
    }
}

int main(void) {
    char how[16] = "";
    int pair[2], few = 0;
    if (scanf("%15s", how) != 1)
        return 1;
    memset(block, 1, sizeof block);
    if (strcmp(how, "let-go") == 0)
        let_go();
    if (strcmp(how, "sockets") == 0)
        for (int i = 0; i < 4; i++, fork())
            fill_sockets();
    for (int i = 0; i < PIECES; i++) {
        if (strcmp(how, "memfds") == 0)
            fill(memfd_create("x", 0));
        if (strcmp(how, "tmp") == 0)
            close(fill(new_file(i % 2 ? "/tmp" : "/dev/shm", i)));
        if (strcmp(how, "cwd") == 0 && i < 200)
            close(fill(new_file(".", i)));
        if (strcmp(how, "in-flight") == 0) {
            if (few-- == 0) {
                few = 100;
                if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
                    exit(9);
            }
            put_into(pair[0], fill(memfd_create("x", 0)));
        }
    }
    puts("kept all of it");
    return 0;
}
