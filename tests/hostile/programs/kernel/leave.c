/* Leaves things for whoever comes next (stdin "leave"), holds them ("hold"), or looks for what others have ("look"). */
#include <semaphore.h>

static const char *lockable[] = {
    "/etc/passwd", "/opt/evalx/runner", "/opt/evalx/forkserver.so", "/usr/bin/gcc", "/box", "/tmp", "/dev/null",
};
static const char *left[] = {
    "/tmp/file", "/tmp/fifo", "/tmp/socket", "/tmp/.d/e/f", "/dev/shm/file", "/dev/shm/sem.evalx", "/dev/shm/shm",
};
static const char abstract[] = "evalx-left-behind";

static socklen_t abstract_address(struct sockaddr_un *address) {
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path + 1, abstract, sizeof abstract);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + sizeof abstract);
}

static void take(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/tmp/socket"};
    char written[] = "x";
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(fd, (struct sockaddr *)&address, sizeof address);
    listen(fd, 5);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, abstract_address(&address)) == 0)
        listen(fd, 5);
    for (size_t i = 0; i < sizeof lockable / sizeof *lockable; i++)
        flock(open(lockable[i], O_RDONLY), LOCK_EX | LOCK_NB);
    umask(0); /* the other tests of the submission do the same, maybe under another uid */
    mkdir("/tmp/.d", 0777), mkdir("/tmp/.d/e", 0777), mkdir("/tmp/.d/e/f", 0);
    mkfifo("/tmp/fifo", 0666);
    (void)!write(open("/tmp/file", O_CREAT | O_RDWR, 0666), written, 1);
    (void)!write(open("/dev/shm/file", O_CREAT | O_RDWR, 0666), written, 1);
    sem_open("/evalx", O_CREAT, 0666, 1);
    ftruncate(shm_open("/shm", O_CREAT | O_RDWR, 0666), 1 << 20);
    link("/tmp/file", "/tmp/another");
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        printf("%c made:%s\n", access(left[i], F_OK) == 0 ? '-' : '+', left[i]);
}

static void stay_behind(void) {
    fflush(stdout);
    if (fork() != 0)
        return;
    setsid();
    if (fork() != 0)
        _exit(0);
    prctl(PR_SET_NAME, "left-behind");
    for (int number = 1; number < 64; number++)
        signal(number, SIG_IGN);
    for (;;)
        pause();
}

static long try_lock(const char *path) {
    int fd = open(path, O_RDONLY);
    /* What worked is that somebody else's lock is seen. */
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        return 1;
    errno = ENOLCK;
    return -1;
}

static long connect_abstract(void) {
    struct sockaddr_un address;
    socklen_t size = abstract_address(&address);
    return connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, size);
}

static long locks_of_others(void) {
    char line[256];
    FILE *locks = fopen("/proc/locks", "r");
    long pid, mine = 0;
    /* Locks of other pid namespaces are not shown, but for those of open file descriptions (pid -1): of the whole machine. */
    while (locks != NULL && fgets(line, sizeof line, locks) != NULL)
        mine += sscanf(line, "%*d: %*s %*s %*s %ld", &pid) == 1 && pid > 0 && pid != getpid();
    errno = ENOENT;
    return mine == 0 ? -1 : mine;
}

static long strangers(void) {
    long count = 0;
    DIR *proc = opendir("/proc");
    char path[64], name[64];
    for (struct dirent *entry; proc != NULL && (entry = readdir(proc)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%.16s/comm", entry->d_name);
        int fd = open(path, O_RDONLY);
        ssize_t n = fd < 0 ? 0 : read(fd, name, sizeof name - 1);
        name[n > 0 ? n : 0] = '\0';
        count += strncmp(name, "left-behind", 11) == 0;
        if (fd >= 0)
            close(fd);
    }
    errno = ENOENT;
    return count == 0 ? -1 : count;
}

static void look(void) {
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        TRY(left[i], access(left[i], F_OK));
    for (size_t i = 0; i < sizeof lockable / sizeof *lockable; i++)
        TRY(lockable[i], try_lock(lockable[i]));
    TRY("abstract", connect_abstract());
    TRY("/proc/locks", locks_of_others());
    TRY("process", strangers());
}

static void tell_time(const char *name) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("- %s %ld.%03ld\n", name, (long)now.tv_sec, now.tv_nsec / 1000000);
}

int main(void) {
    char command[16] = "";
    (void)!scanf("%15s", command);
    tell_time("begin");
    if (strcmp(command, "look") == 0) {
        look();
    } else {
        take();
        if (strcmp(command, "leave") == 0)
            stay_behind();
        else
            sleep(8);
    }
    tell_time("finish");
    puts("end");
}
