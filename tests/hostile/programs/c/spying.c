/* Looks into, writes to and traces every process that is not its own, and takes their descriptors. Prints what worked. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void worked(int pid, const char *what) { printf("worked: %d %s\n", pid, what); }

static int is_ours(int pid) {
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d", pid);
    return stat(path, &st) == 0 && st.st_uid == getuid();
}

static void try_files(int pid) {
    static const char *const names[] = {"mem", "environ", "maps", "auxv", "syscall", "stack", "pagemap", "io", "root/etc/passwd",
                                        "cwd/x", "fd/0", "fd/1", "fd/2", "fd/3", "map_files", "clear_refs"};
    char path[64];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (int mode = O_RDONLY; mode <= O_RDWR; mode++) {
            snprintf(path, sizeof path, "/proc/%d/%s", pid, names[i]);
            int fd = open(path, mode | O_CLOEXEC);
            char byte;
            if (fd >= 0 && (mode != O_RDONLY || read(fd, &byte, 1) > 0))
                worked(pid, names[i]);
            if (fd >= 0)
                close(fd);
        }
    }
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    char target[256];
    if (readlink(path, target, sizeof target) > 0)
        worked(pid, "exe");
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *directory = opendir(path);
    if (directory != NULL)
        worked(pid, "fd");
}

static void try_calls(int pid) {
    char byte = 0;
    struct iovec mine = {&byte, 1}, theirs = {(void *)0x400000, 1};
    if (process_vm_readv(pid, &mine, 1, &theirs, 1, 0) > 0)
        worked(pid, "process_vm_readv");
    if (process_vm_writev(pid, &mine, 1, &theirs, 1, 0) > 0)
        worked(pid, "process_vm_writev");
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0)
        worked(pid, "PTRACE_SEIZE");
    if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) == 0)
        worked(pid, "PTRACE_ATTACH");
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    for (int number = 0; fd >= 0 && number < 64; number++)
        if (syscall(SYS_pidfd_getfd, fd, number, 0) >= 0)
            worked(pid, "pidfd_getfd");
    if (syscall(SYS_kcmp, pid, getpid(), 0, 0, 0) >= 0)
        worked(pid, "kcmp");
}

int main(void) {
    for (int pid = 1; pid < 400; pid++) {
        if (pid == getpid() || is_ours(pid))
            continue;
        try_files(pid);
        try_calls(pid);
    }
    puts("end");
    return 0;
}
