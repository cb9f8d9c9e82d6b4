/* System calls that lead out of a container, into the kernel, or outlive a program; by all ways in which a number can be made. */
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif

static char page[65536] __attribute__((aligned(4096)));
static long ioctl_of(int fd, unsigned long request) { return syscall(SYS_ioctl, fd, request, page); }
static int here(void) { return open("/tmp/here", O_CREAT | O_RDWR, 0600); }

static void namespaces(void) {
    static const struct { const char *name; unsigned long flag; } kinds[] = {
        {"mnt", CLONE_NEWNS}, {"cgroup", CLONE_NEWCGROUP}, {"uts", CLONE_NEWUTS}, {"ipc", CLONE_NEWIPC},
        {"user", CLONE_NEWUSER}, {"pid", CLONE_NEWPID}, {"net", CLONE_NEWNET},
    };
    char name[64];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint64_t clone3[11] = {kinds[i].flag, [4] = SIGCHLD};
        snprintf(name, sizeof name, "unshare-%s", kinds[i].name);
        TRY(name, unshare((int)kinds[i].flag));
        snprintf(name, sizeof name, "clone-%s", kinds[i].name);
        TRY(name, syscall(SYS_clone, kinds[i].flag | SIGCHLD, 0, 0, 0, 0));
        /* The kernel takes only the lower half of the flags; a check of all 64 bits would be fooled. */
        snprintf(name, sizeof name, "clone-high-%s", kinds[i].name);
        TRY(name, syscall(SYS_clone, kinds[i].flag | SIGCHLD | 1ul << 40, 0, 0, 0, 0));
        snprintf(name, sizeof name, "clone3-%s", kinds[i].name);
        TRY(name, syscall(SYS_clone3, clone3, 88));
        snprintf(name, sizeof name, "/proc/1/ns/%s", kinds[i].name);
        TRY(name, setns(open(name, O_RDONLY), 0));
    }
    TRY("unshare-time", unshare(0x80));
    TRY("clone3-plain", syscall(SYS_clone3, &(uint64_t[11]){[4] = SIGCHLD}, 88));
    TRY_CALL(mount, "none", "/tmp", "tmpfs", 0, 0);
    TRY("remount-box", syscall(SYS_mount, "none", "/box", 0, 32 /* MS_REMOUNT */, "size=1g"));
    TRY("remount-root", syscall(SYS_mount, "none", "/", 0, 32 | 4096 /* MS_BIND */, 0));
    TRY_CALL(umount2, "/box", 2);
    TRY_CALL(pivot_root, "/tmp", "/tmp");
    TRY_CALL(chroot, "/tmp");
    TRY_CALL(fsopen, "tmpfs", 0);
    TRY_CALL(open_tree, AT_FDCWD, "/", 1);
    TRY_CALL(move_mount, 0, "", AT_FDCWD, "/tmp", 4);
    TRY_CALL(mount_setattr, AT_FDCWD, "/", 0, page, 32);
}

static void interfaces(void) {
    TRY_CALL(io_uring_setup, 8, page);
    TRY_CALL(io_uring_enter, 0, 1, 0, 0, 0, 0);
    TRY_CALL(io_uring_register, 0, 0, 0, 0);
    TRY_CALL(io_setup, 8, page);
    TRY_CALL(bpf, 0, page, 64);
    TRY_CALL(userfaultfd, 1);
    TRY_CALL(perf_event_open, page, 0, -1, -1, 0);
    TRY_CALL(fanotify_init, 0, 0);
    TRY_CALL(inotify_init1, 0);
    TRY_CALL(seccomp, 2, 0, 0);
    TRY("prctl-seccomp", prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    TRY("prctl-core-scheduling", prctl(62 /* PR_SCHED_CORE */, 1, 0, 0, 0));
    TRY("prctl-user-dispatch", prctl(59 /* PR_SET_SYSCALL_USER_DISPATCH */, 1, 0, 1, page));
    TRY_CALL(memfd_secret, 0);
    TRY_CALL(vmsplice, 1, &(struct iovec){page, 1}, 1, 0);
    TRY_CALL(splice, 0, 0, 1, 0, 1, 0);
    TRY_CALL(tee, 0, 1, 1, 0);
    TRY_CALL(mlock, page, 4096);
    TRY_CALL(mlockall, 1);
    TRY_CALL(mbind, page, 4096, 0, 0, 0, 0);
    TRY_CALL(move_pages, 0, 0, 0, 0, 0, 0);
    TRY_CALL(personality, 0x0040000);
    TRY_CALL(sync, 0);
    TRY_CALL(syncfs, here());
    TRY("/dev/ptmx", open("/dev/ptmx", O_RDONLY | O_NOCTTY));
    TRY("/dev/pts/ptmx", open("/dev/pts/ptmx", O_RDWR | O_NOCTTY));
    TRY("pty", ioctl_of(open("/dev/ptmx", O_RDWR | O_NOCTTY), 0x80045430 /* TIOCGPTN */));
    TRY("pty-line-discipline", ioctl_of(open("/dev/ptmx", O_RDWR | O_NOCTTY), 0x5423 /* TIOCSETD */));
    TRY("ioctl-flags", ioctl_of(here(), 0x80086601 /* FS_IOC_GETFLAGS */));
}

static void leftovers(void) {
    TRY_CALL(add_key, "user", "evalx", "x", 1, -5 /* the user's session keyring */);
    TRY_CALL(request_key, "user", "evalx", 0, -5);
    TRY_CALL(keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, "evalx");
    TRY_CALL(shmget, 1, 4096, 01666);
    TRY_CALL(semget, 1, 1, 01666);
    TRY_CALL(msgget, 1, 01666);
    TRY_CALL(mq_open, "evalx", O_CREAT | O_RDWR, 0666, 0);
    TRY("user-attribute", syscall(SYS_fsetxattr, here(), "user.x", "x", 1, 0));
}

static void others(void) {
    TRY_CALL(ptrace, 0 /* PTRACE_TRACEME */, 0, 0, 0);
    TRY("ptrace-parent", syscall(SYS_ptrace, 16 /* PTRACE_ATTACH */, getppid(), 0, 0));
    TRY("ptrace-runner", syscall(SYS_ptrace, 0x4206 /* PTRACE_SEIZE */, 1, 0, 0));
    TRY_CALL(process_vm_readv, getppid(), &(struct iovec){page, 8}, 1, &(struct iovec){page, 8}, 1, 0);
    TRY_CALL(process_vm_writev, getppid(), &(struct iovec){page, 8}, 1, &(struct iovec){page, 8}, 1, 0);
    TRY_CALL(pidfd_getfd, syscall(SYS_pidfd_open, getppid(), 0), 1, 0);
    TRY_CALL(kcmp, getpid(), getppid(), 0, 0, 0);
    TRY_CALL(name_to_handle_at, AT_FDCWD, "/", page, page + 4096, 0);
    TRY_CALL(open_by_handle_at, AT_FDCWD, page, O_RDONLY);
}

static void machine(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    TRY_CALL(clock_settime, CLOCK_REALTIME, &now);
    TRY_CALL(settimeofday, &(struct timeval){now.tv_sec, 0}, 0);
    TRY_CALL(adjtimex, page);
    TRY_CALL(clock_adjtime, CLOCK_REALTIME, page);
    TRY_CALL(swapon, "/tmp/here", 0);
    TRY_CALL(swapoff, "/tmp/here");
    TRY_CALL(reboot, 0xfee1dead, 672274793, 0 /* CAD_OFF */, 0);
    TRY_CALL(acct, "/tmp/here");
    TRY_CALL(syslog, 3, page, 100);
    TRY_CALL(quotactl, 0x80000100, 0, 0, page);
    TRY_CALL(quotactl_fd, here(), 0x80000100, 0, page);
    TRY_CALL(kexec_load, 0, 0, 0, 0);
    TRY_CALL(kexec_file_load, 0, 0, 0, "", 0);
    TRY_CALL(init_module, page, 64, "");
    TRY_CALL(finit_module, here(), "", 0);
    TRY_CALL(delete_module, "loop", 0);
    TRY_CALL(sethostname, "evil", 4);
    TRY_CALL(setdomainname, "evil", 4);
    TRY_CALL(vhangup, 0);
    TRY("device-memory", mknod("/tmp/mem", S_IFCHR | 0666, 1 << 8 | 1));
    TRY("device-disk", syscall(SYS_mknodat, AT_FDCWD, "/tmp/disk", S_IFBLK | 0666, 254 << 8));
    TRY("setuid", setuid(0));
    TRY("setgroups", syscall(SYS_setgroups, 1, &(gid_t){0}));
    TRY_CALL(capset, page, page);
    TRY("raise-files", setrlimit(RLIMIT_NOFILE, &(struct rlimit){1 << 20, 1 << 20}));
    TRY("raise-core", setrlimit(RLIMIT_CORE, &(struct rlimit){1 << 20, 1 << 20}));
    TRY("nice", setpriority(PRIO_PROCESS, 0, -5));
    TRY("realtime", sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){1}));
    TRY_CALL(sched_setattr, 0, page, 0);
    TRY_CALL(ioprio_set, 1, 0, 1 << 13);
    TRY("a-call-of-the-future", syscall(1000, 0, 0, 0));
}

#ifdef __x86_64__
static long by_i386(long number, long first, long second, long third) {
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(first), "c"(second), "d"(third)
                     : "memory", "r8", "r9", "r10", "r11");
    errno = result < 0 ? (int)-result : 0;
    return result < 0 ? -1 : result;
}

static void other_numbers(void) {
    enum { X32 = 0x40000000 };
    TRY("i386-getpid", by_i386(20, 0, 0, 0));
    TRY("i386-socket", by_i386(359, 2, 1, 0));
    TRY("i386-unshare", by_i386(310, CLONE_NEWUSER, 0, 0));
    TRY("i386-ptrace", by_i386(26, 0, 0, 0));
    TRY("i386-io_uring", by_i386(425, 1, 0, 0));
    TRY("i386-keyctl", by_i386(288, 1, 0, 0));
    TRY("x32-getpid", syscall(X32 | SYS_getpid));
    TRY("x32-socket", syscall(X32 | SYS_socket, 2, 1, 0));
    TRY("x32-unshare", syscall(X32 | SYS_unshare, CLONE_NEWUSER));
    TRY("x32-ptrace", syscall(X32 | 521, 0, 0, 0));
    TRY("x32-io_uring", syscall(X32 | SYS_io_uring_setup, 1, page));
    TRY_CALL(modify_ldt, 1, page, 16);
    TRY_CALL(iopl, 3);
    TRY_CALL(ioperm, 0x70, 1, 1);
}
#else
static void other_numbers(void) {}
#endif

int main(void) {
    namespaces();
    interfaces();
    leftovers();
    others();
    machine();
    other_numbers();
    puts("end");
}
