/* One program for all tests of the runner: the first argument says what to do, the rest how. Hostile on purpose. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void burn(double seconds) {
    for (double end = cpu_seconds() + seconds; cpu_seconds() < end;)
        continue;
}

static void pause_ms(long ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL); }

static int do_exit(char **a) { return atoi(a[0]); }
static int do_signal(char **a) { raise(atoi(a[0])); return 0; }
static int do_burn(char **a) { burn(atof(a[0])); return 0; }
static int do_sleep(char **a) { pause_ms(atol(a[0])); return 0; }
static int do_stop(char **a) { (void)a; kill(getpid(), SIGSTOP); return 0; }

static int do_touch(char **a) {
    size_t size = (size_t)atol(a[0]) << 20;
    char *memory = malloc(size);
    if (memory == NULL)
        return 9;
    memset(memory, 1, size);
    return memory[size - 1] == 1 ? 0 : 1;
}

/* N children, each with its own memory, all alive at once. */
static int do_touch_tree(char **a) {
    for (int i = atoi(a[0]); i > 0; i--)
        if (fork() == 0) {
            do_touch(a + 1);
            char *memory = mmap(NULL, (size_t)atol(a[1]) << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memset(memory, 1, (size_t)atol(a[1]) << 20);
            pause_ms(atol(a[2]));
            _exit(0);
        }
    while (wait(NULL) > 0)
        continue;
    return 0;
}

static int write_many(int fd, long size) {
    char block[4096];
    memset(block, 'x', sizeof block);
    while (size > 0) {
        ssize_t n = write(fd, block, size < (long)sizeof block ? (size_t)size : sizeof block);
        if (n <= 0)
            return 1;
        size -= n;
    }
    return 0;
}

static int do_output(char **a) { return write_many(atoi(a[0]), atol(a[1])); }
static int do_sparse(char **a) { lseek(1, atol(a[0]), SEEK_SET); return write(1, "x", 1) == 1 ? 0 : 1; }

static int do_patient_flood(char **a) {
    signal(SIGXFSZ, SIG_IGN);
    write_many(atoi(a[0]), 1 << 30);
    pause_ms(60000);
    return 0;
}

static int do_cat(char **a) {
    char block[65536];
    (void)a;
    for (ssize_t n; (n = read(0, block, sizeof block)) > 0;)
        if (write(1, block, (size_t)n) != n)
            return 1;
    return 0;
}

static int do_both(char **a) {
    (void)a;
    for (int i = 0; i < 3; i++) {
        dprintf(1, "out%d\n", i);
        dprintf(2, "err%d\n", i);
    }
    return 0;
}

/* The child goes on after the parent has ended; both burn. */
static int do_orphan(char **a) {
    if (fork() == 0) {
        burn(atof(a[0]));
        _exit(0);
    }
    if (atoi(a[1]) > 0)
        pause_ms(atol(a[1]));
    return 0;
}

/* A middle process ends at once, so that the worker is PID 1's child while the main process still runs. */
static int do_reparent(char **a) {
    if (fork() == 0) {
        if (fork() == 0) {
            burn(atof(a[0]));
            _exit(0);
        }
        _exit(0);
    }
    wait(NULL);
    pause_ms(atol(a[1]));
    return 0;
}

static int do_ignored_children(char **a) {
    signal(SIGCHLD, SIG_IGN);
    for (int i = atoi(a[0]); i > 0; i--) {
        if (fork() == 0) {
            burn(atof(a[1]));
            _exit(0);
        }
        while (wait(NULL) > 0)
            continue;
    }
    return 0;
}

static int do_waited_children(char **a) {
    for (int i = atoi(a[0]); i > 0; i--) {
        if (fork() == 0) {
            burn(atof(a[1]));
            _exit(0);
        }
        wait(NULL);
    }
    return 0;
}

/* Leaves the session, survives its parent, and says so in a shared place as long as it lives. */
static int do_daemon(char **a) {
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            for (int i = 0; i < 3000; i++) {
                int fd = open(a[0], O_CREAT | O_WRONLY | O_APPEND, 0666);
                if (fd >= 0)
                    close(fd);
                pause_ms(10);
            }
        }
        _exit(0);
    }
    wait(NULL);
    pause_ms(50);
    return 0;
}

static int do_fork_bomb(char **a) {
    int made = 0;
    (void)a;
    for (;;) {
        pid_t pid = fork();
        if (pid < 0)
            break;
        if (pid == 0) {
            for (;;)
                fork();
        }
        made++;
    }
    printf("%d\n", made);
    return 0;
}

static void *sleeper(void *argument) { pause_ms(20000); return argument; }

static int do_threads(char **a) {
    int made = 0;
    pthread_t thread;
    while (made < atoi(a[0]) && pthread_create(&thread, NULL, sleeper, NULL) == 0)
        made++;
    printf("%d\n", made);
    fflush(stdout);
    _exit(0);
}

/* A tracer of the same uid keeps the end of the main process from its real parent. */
static int do_traced(char **a) {
    pid_t target = getpid();
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    if (fork() == 0) {
        if (ptrace(PTRACE_SEIZE, target, NULL, NULL) < 0)
            dprintf(1, "ptrace: %d\n", errno);
        pause_ms(atol(a[0]));
        _exit(0);
    }
    pause_ms(100);
    return 0;
}

static int do_undumpable_child(char **a) {
    if (fork() == 0) {
        prctl(PR_SET_DUMPABLE, 0);
        setsid();
        pause_ms(atol(a[0]));
        _exit(0);
    }
    pause_ms(50);
    return 0;
}

static int do_vfork_loop(char **a) {
    size_t size = (size_t)atol(a[0]) << 20;
    char *memory = malloc(size);
    memset(memory, 1, size);
    for (volatile int i = atoi(a[1]); i > 0; i--) {
        if (vfork() == 0) {
            usleep(3000);
            _exit(0);
        }
        wait(NULL);
    }
    return memory[size / 2] == 1 ? 0 : 1;
}

static int do_state(char **a) {
    char text[4096], cwd[256];
    struct stat st;
    (void)a;
    printf("uid %d %d gid %d %d groups %d sid %d\n", (int)getuid(), (int)geteuid(), (int)getgid(), (int)getegid(),
           getgroups(0, NULL), getsid(0) == getpid());
    stat(".", &st);
    printf("cwd %s mode %o owner %d\n", getcwd(cwd, sizeof cwd), st.st_mode & 07777, (int)st.st_uid);
    mode_t mask = umask(0);
    printf("umask %03o nnp %d\n", mask, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    sigset_t set;
    sigprocmask(SIG_BLOCK, NULL, &set);
    int blocked = 0, changed = 0;
    for (int s = 1; s < 65; s++) {
        struct sigaction action = {0};
        blocked += sigismember(&set, s) == 1;
        changed += sigaction(s, NULL, &action) == 0 && action.sa_handler != SIG_DFL;
    }
    printf("signals blocked %d changed %d\n", blocked, changed);
    int fds = 0;
    for (int fd = 0; fd < 4096; fd++)
        fds += fcntl(fd, F_GETFD) >= 0;
    printf("fds %d\n", fds);
    int fd = open("/proc/self/oom_score_adj", O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    printf("oom %s", text);
    static const int limits[] = {RLIMIT_CPU, RLIMIT_AS, RLIMIT_FSIZE, RLIMIT_STACK, RLIMIT_NPROC, RLIMIT_CORE,
                                 RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit l;
        getrlimit((__rlimit_resource_t)limits[i], &l);
        printf("limit%d %lld %lld\n", limits[i], (long long)l.rlim_cur, (long long)l.rlim_max);
    }
    for (char **e = environ; *e != NULL; e++)
        printf("env %s\n", *e);
    fd = open("/proc/self/status", O_RDONLY);
    n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
        if (strncmp(line, "CapEff", 6) == 0 || strncmp(line, "CapPrm", 6) == 0)
            printf("%s\n", line);
    return 0;
}

static int do_args(char **a) {
    for (; *a != NULL; a++)
        printf("[%s]", *a);
    return 0;
}

/* Things to copy out. */
static int do_artifacts(char **a) {
    (void)a;
    mkdir("tree", 0755);
    mkdir("tree/deep", 0700);
    mkdir("many", 0755);
    int fd = open("plain", O_CREAT | O_WRONLY, 0755);
    (void)!write(fd, "plain content", 13);
    fd = open("tree/one.class", O_CREAT | O_WRONLY, 0);
    (void)!write(fd, "one", 3);
    fd = open("tree/deep/two.class", O_CREAT | O_WRONLY, 0644);
    close(open("tree/deep/empty", O_CREAT | O_WRONLY, 0644));
    (void)!symlink("/etc/passwd", "link");
    (void)!symlink("tree", "treelink");
    mkfifo("fifo", 0666);
    (void)!link("plain", "hard1");
    close(open("hard0", O_CREAT | O_WRONLY, 0644));
    (void)!link("hard0", "hard");
    unlink("hard1");
    fd = open("huge", O_CREAT | O_WRONLY, 0644);
    (void)!ftruncate(fd, 1 << 20);
    mkdir("linked", 0755);
    (void)!symlink("/etc", "linked/etc");
    char name[64];
    for (int i = 0; i < 4200; i++) {
        snprintf(name, sizeof name, "many/%d", i);
        close(open(name, O_CREAT | O_WRONLY, 0644));
    }
    mkdir("down", 0755);
    (void)!chdir("down");
    for (int i = 0; i < 20; i++) {
        mkdir("d", 0755);
        (void)!chdir("d");
    }
    close(open("bottom", O_CREAT | O_WRONLY, 0644));
    return 0;
}

static void nest(const char *place, int depth) {
    if (chdir(place) < 0)
        exit(3);
    for (int i = 0; i < depth; i++)
        if (mkdir("a-rather-long-name-for-a-directory-so-that-paths-overflow", 0700) < 0 ||
            chdir("a-rather-long-name-for-a-directory-so-that-paths-overflow") < 0)
            exit(4);
}

static int do_litter(char **a) {
    const char *place = a[0];
    if (chdir(place) < 0)
        return 2;
    mkdir("locked", 0700);
    mkdir("locked/in", 0700);
    close(open("locked/in/file", O_CREAT | O_WRONLY, 0));
    chmod("locked/in", 0);
    chmod("locked", 0);
    mkdir("sticky", 01777);
    chmod("sticky", 01777);
    close(open("sticky/file", O_CREAT | O_WRONLY, 0600));
    close(open("new\nline\x01\xff\xfe", O_CREAT | O_WRONLY, 0600));
    close(open(".up0", O_CREAT | O_WRONLY, 0600));
    mkdir(".up1", 0700);
    mkdir(".up1/x", 0700);
    mkdir(".up1/x/y", 0700);
    (void)!symlink("/", "root");
    (void)!symlink(".", "self");
    mkfifo("fifo", 0);
    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    close(open(name, O_CREAT | O_WRONLY, 0600));
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "f%d", i);
        close(open(name, O_CREAT | O_WRONLY, 0600));
    }
    nest(place, atoi(a[1]));
    return 0;
}

static int do_ipc(char **a) {
    (void)a;
    for (int i = 0; i < 200; i++) {
        if (shmget(IPC_PRIVATE, 4096, 0600) < 0 || semget(IPC_PRIVATE, 1, 0600) < 0 || msgget(IPC_PRIVATE, 0600) < 0)
            return 1;
    }
    int id = shmget(IPC_PRIVATE, 4096, 0);
    struct shmid_ds ds;
    ds.shm_perm.uid = 0;
    ds.shm_perm.gid = 0;
    ds.shm_perm.mode = 0;
    return shmctl(id, IPC_SET, &ds) == 0 ? 0 : 2;
}

static int do_mqueue(char **a) {
    (void)a;
    mqd_t q = mq_open("/left", O_CREAT | O_RDWR, 0600, NULL);
    printf("%d\n", q == (mqd_t)-1 ? errno : 0);
    return 0;
}

static int do_reopen(char **a) {
    (void)a;
    (void)!write(1, "first\n", 6);
    int fd = open("/dev/stdout", O_WRONLY);
    if (fd < 0)
        fd = open("/proc/self/fd/1", O_WRONLY | O_APPEND);
    lseek(fd, 0, SEEK_END);
    (void)!write(fd, "second\n", 7);
    (void)!write(1, "third\n", 6);
    return open("/proc/self/fd/0", O_RDONLY) < 0;
}

static int do_attack(char **a) {
    (void)a;
    printf("kill1 %d\n", kill(1, SIGKILL));
    printf("killall %d\n", kill(-1, SIGKILL));
    printf("trace %ld\n", ptrace(PTRACE_SEIZE, 1, NULL, NULL));
    printf("fd %d\n", open("/proc/1/fd/1", O_WRONLY));
    printf("mem %d\n", open("/proc/1/mem", O_RDWR));
    printf("nice %d\n", setpriority(PRIO_PROCESS, 1, 19));
    printf("box %d\n", open("/box/new", O_CREAT | O_WRONLY, 0600));
    printf("prlimit %d\n", prlimit(1, RLIMIT_NOFILE, &(struct rlimit){1, 1}, NULL));
    DIR *work = opendir("/scratch");
    printf("work %d\n", work == NULL ? -1 : 0);
    return 0;
}

static int do_shm_file(char **a) {
    int fd = open(a[0], O_CREAT | O_RDWR, 0666);
    return fd < 0 ? 1 : write_many(fd, atol(a[1]) << 20);
}

/* Memory that nobody has mapped: files, or a shared mapping whose pages are let go of. */
static int do_hold(char **a) {
    for (int i = atoi(a[1]); i > 0; i--) {
        char path[64];
        snprintf(path, sizeof path, "%s/held%d", a[0], i);
        int fd = strcmp(a[0], "memfd") == 0 ? memfd_create("held", 0) : open(path, O_CREAT | O_RDWR, 0600);
        if (fd < 0 || write_many(fd, 1 << 20) != 0)
            return 1;
    }
    return 0;
}

static int do_let_go(char **a) {
    size_t size = (size_t)atol(a[0]) << 20, piece = 1 << 20;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (size_t at = 0; at < size; at += piece) {
        memset(memory + at, 1, piece);
        madvise(memory + at, piece, MADV_DONTNEED);
    }
    return 0;
}

/* Each child is too short for a look, and goes to nobody's account. */
static int do_short_children(char **a) {
    signal(SIGCHLD, SIG_IGN);
    for (int i = atoi(a[0]); i > 0; i--) {
        if (fork() == 0) {
            burn(0.004);
            _exit(0);
        }
        while (wait(NULL) > 0)
            continue;
    }
    return 0;
}

static const struct {
    const char *name;
    int (*function)(char **arguments);
} commands[] = {
    {"exit", do_exit}, {"signal", do_signal}, {"burn", do_burn}, {"sleep", do_sleep}, {"stop", do_stop}, {"touch", do_touch},
    {"touch-tree", do_touch_tree}, {"output", do_output}, {"sparse", do_sparse}, {"patient-flood", do_patient_flood},
    {"cat", do_cat}, {"both", do_both}, {"orphan", do_orphan}, {"reparent", do_reparent},
    {"ignored-children", do_ignored_children}, {"waited-children", do_waited_children}, {"daemon", do_daemon},
    {"fork-bomb", do_fork_bomb}, {"threads", do_threads}, {"traced", do_traced}, {"undumpable-child", do_undumpable_child},
    {"vfork-loop", do_vfork_loop}, {"state", do_state}, {"args", do_args}, {"artifacts", do_artifacts}, {"litter", do_litter},
    {"ipc", do_ipc}, {"mqueue", do_mqueue}, {"reopen", do_reopen}, {"attack", do_attack}, {"shm-file", do_shm_file},
    {"hold", do_hold}, {"let-go", do_let_go}, {"short-children", do_short_children},
};

int main(int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].function(argv + 2);
    return 99;
}
