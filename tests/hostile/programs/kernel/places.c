/* Files of the kernel and of the image: what may be written, read, run with more rights than one has, or dumped. */
static const char *kernel_files[] = {
    "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches",
    "/proc/sys/kernel/modprobe", "/proc/sys/fs/mqueue/msg_max", "/proc/sys/kernel/shmmax", "/proc/sys/net/ipv4/ip_forward",
    "/proc/irq/default_smp_affinity", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/timens_offsets",
    "/proc/1/oom_score_adj", "/proc/1/mem", "/proc/1/environ", "/proc/1/clear_refs", "/proc/1/comm", "/sys/kernel/uevent_helper",
    "/sys/kernel/profiling", "/sys/power/state", "/sys/module/kernel/parameters/panic",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/cpu/tasks", "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/devices/devices.allow", "/dev/mem", "/dev/kmem",
    "/dev/port", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/console", "/dev/shm",
    "/box", "/box/main", "/etc/passwd", "/etc/ld.so.preload", "/etc/ld.so.cache", "/opt/evalx/runner", "/opt/evalx/forkserver.so",
    "/scratch/x", "/x", "/usr/bin/x", "/var/tmp/x", "/run/x", "/dev/x", "/dev/mqueue/x", "/sys/fs/cgroup/x",
};
static const char *secrets[] = {
    "/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/proc/1/environ", "/proc/1/maps", "/proc/1/mem", "/proc/1/stack", "/proc/1/io",
    "/proc/1/fd/0", "/proc/1/cwd/box", "/proc/1/root/etc/passwd", "/proc/sched_debug", "/proc/timer_list", "/proc/keys/x",
    "/etc/shadow", "/etc/gshadow", "/root/x", "/sys/kernel/debug/x", "/sys/kernel/tracing/trace", "/sys/firmware/efi",
    "/sys/kernel/security/lockdown", "/var/run/docker.sock", "/run/secrets", "/proc/slabinfo", "/proc/kallsyms-addresses",
};

static long write_to(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 ? -1 : write(fd, "1", 1);
}

static long read_from(const char *path) {
    static char text[256];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    long n = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (n == 0)
        errno = ENODATA;
    return n == 0 ? -1 : n;
}

static long getxattr_of(const char *path) { return syscall(SYS_lgetxattr, path, "security.capability", 0, 0); }

static long write_score(const char *score) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -1 : write(fd, score, strlen(score));
}

static void search(const char *directory, int depth, dev_t device) {
    DIR *stream = opendir(directory);
    for (struct dirent *entry; stream != NULL && (entry = readdir(stream)) != NULL;) {
        char path[PATH_MAX];
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", directory[1] == '\0' ? "" : directory, entry->d_name);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (lstat(path, &status) < 0 || status.st_dev != device)
            continue;
        if (S_ISREG(status.st_mode) && (status.st_mode & 06000))
            printf("+ setuid-file %s\n", path);
        if (S_ISREG(status.st_mode) && getxattr_of(path) >= 0)
            printf("+ capability-file %s\n", path);
        if (!S_ISLNK(status.st_mode) && (status.st_mode & 2) && !(S_ISDIR(status.st_mode) && (status.st_mode & 01000)))
            printf("+ world-writable %s\n", path);
        if (S_ISDIR(status.st_mode) && depth < 20)
            search(path, depth + 1, device);
    }
    if (stream != NULL)
        closedir(stream);
}

static void devices(void) {
    static const char known[] = " core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero . .. ";
    char name[300];
    DIR *stream = opendir("/dev");
    for (struct dirent *entry; stream != NULL && (entry = readdir(stream)) != NULL;) {
        snprintf(name, sizeof name, " %s ", entry->d_name);
        if (strstr(known, name) == NULL)
            printf("+ device /dev/%s\n", entry->d_name);
    }
}

static void rights(void) {
    char line[512];
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        unsigned long long bits;
        if (sscanf(line, "CapEff: %llx", &bits) == 1 || sscanf(line, "CapPrm: %llx", &bits) == 1 ||
            sscanf(line, "CapInh: %llx", &bits) == 1 || sscanf(line, "CapAmb: %llx", &bits) == 1)
            printf("%c %.6s\n", bits == 0 ? '-' : '+', line);
        if (sscanf(line, "NoNewPrivs: %llu", &bits) == 1)
            printf("%c no-new-privileges\n", bits == 1 ? '-' : '+');
        if (sscanf(line, "Seccomp: %llu", &bits) == 1)
            printf("%c seccomp\n", bits == 2 ? '-' : '+');
        if (strncmp(line, "Groups:", 7) == 0)
            printf("%c groups\n", strspn(line + 7, " \t\n") == strlen(line + 7) ? '-' : '+');
    }
}

static long crash(void) {
    pid_t child = fork();
    int status;
    if (child == 0)
        abort();
    waitpid(child, &status, 0);
    errno = ENOENT;
    return WCOREDUMP(status) || access("core", F_OK) == 0 || access("/tmp/core", F_OK) == 0 ? 1 : -1;
}

int main(void) {
    char name[300];
    struct stat root;
    for (size_t i = 0; i < sizeof kernel_files / sizeof *kernel_files; i++) {
        snprintf(name, sizeof name, "write:%s", kernel_files[i]);
        TRY(name, write_to(kernel_files[i]));
    }
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
        snprintf(name, sizeof name, "read:%s", secrets[i]);
        TRY(name, read_from(secrets[i]));
    }
    TRY("core-dump", crash());
    TRY("less-likely-for-oom-than-the-runner", write_score("-1"));
    devices();
    rights();
    stat("/", &root);
    search("/", 0, root.st_dev);
    puts("end");
}
