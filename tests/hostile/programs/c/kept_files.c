/*
 * Tries to change the program that it was started from, which the container keeps, and to reach those of others. Prints what worked,
 * and at last the text that a changed program would print otherwise.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

static const volatile char text[] = "unchanged";

static void said(int worked, const char *what, const char *path) {
    if (worked)
        printf("worked: %s %s\n", what, path);
}

static void change(const char *path) {
    static const int ways[] = {O_WRONLY, O_RDWR, O_WRONLY | O_TRUNC, O_WRONLY | O_APPEND, O_RDWR | O_CREAT};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        said(open(path, ways[i], 0755) >= 0, "open to write", path);
    said(truncate(path, 0) == 0, "truncate", path);
    said(chmod(path, 0777) == 0, "chmod", path);
    said(chown(path, getuid(), getgid()) == 0, "chown", path);
    said(utimensat(AT_FDCWD, path, NULL, 0) == 0, "utimensat", path);
    said(setxattr(path, "user.x", "x", 1, 0) == 0, "setxattr", path);
    said(unlink(path) == 0, "unlink", path);
    said(rename(path, "/tmp/x") == 0 || rename(path, "/box/x") == 0, "rename away", path);
    said(rename("/tmp/mine", path) == 0, "rename over", path);
    said(link(path, "/tmp/x") == 0 || link(path, "/dev/shm/x") == 0 || link(path, "x") == 0, "link", path);
}

/* Through what is open or mapped already. */
static void change_by_hand(const char *path) {
    char hands[64];
    int fd = open(path, O_RDONLY);
    said(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED, "map shared", path);
    void *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    said(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0, "mprotect", path);
    said(ftruncate(fd, 0) == 0 || fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0, "shorten", path);
    said(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0, "seal", path);
    snprintf(hands, sizeof hands, "/proc/self/fd/%d", fd);
    change(hands);
    change("/proc/self/exe");
    flock(fd, LOCK_EX);
    close(fd);
}

/* A copy of the page in its memory, which must stay its own. */
static void change_memory(void) {
    int fd = open("/proc/self/mem", O_RDWR);
    if (fd < 0 || pwrite(fd, "CHANGED", 7, (off_t)(uintptr_t)text) != 7)
        return;
    void *page = (void *)((uintptr_t)text & ~(uintptr_t)4095);
    msync(page, 4096, MS_SYNC | MS_INVALIDATE);
    syscall(SYS_madvise, page, 4096, MADV_DONTNEED);
    if (text[0] != 'u')
        printf("worked: change of the page behind the memory\n");
}

static void reach_others(void) {
    char path[64];
    said(access("/box/.kept", F_OK) != 0, "nothing, as nothing is kept in", "/box/.kept");
    said(opendir("/box/.kept") != NULL, "opendir", "/box/.kept");
    said(open("/box/.kept", O_RDONLY) >= 0, "open", "/box/.kept");
    said(open("/box/.kept", O_TMPFILE | O_RDWR, 0600) >= 0 || open("/box", O_TMPFILE | O_RDWR, 0600) >= 0, "O_TMPFILE", "/box");
    said(chdir("/box/.kept") == 0, "chdir", "/box/.kept");
    said(open(".", O_RDONLY) < 0, "no working directory after", "/box/.kept");
    for (unsigned id = 0; id < 100; id++) {
        struct stat st;
        snprintf(path, sizeof path, "/box/.kept/%016x", id);
        said(stat(path, &st) == 0, "stat", path);
        said(open(path, O_RDONLY) >= 0 || open(path, O_PATH) >= 0, "open", path);
        change(path);
    }
}

int main(void) {
    close(open("/tmp/mine", O_RDWR | O_CREAT, 0755));
    change("/box/main");
    change("/box/.kept");
    change_by_hand("/box/main");
    reach_others();
    change_memory();
    printf("%s\n", (const char *)(uintptr_t)text);
    return 0;
}
