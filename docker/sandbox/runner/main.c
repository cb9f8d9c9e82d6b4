/*
 * The runner: PID 1 of every sandbox container.
 *
 * Theory of operation. A container lives long and judges many jobs, one after the other. A job is one program and its tests:
 * the worker sends a JOB, the FILEs of the program and one INPUT per test over the runner's stdin, and gets a RESULT per test
 * the moment it ends, and a DONE when the container has been brought back to its first state, over stdout (protocol.h).
 *
 *   frames.c   bytes -> events, pure           job.c      the life of a job
 *   place.c    FILE and INPUT content -> files spawn.c    starting a run
 *   kept.c     files that stay between jobs
 *   watch.c    limits while runs run           reap.c     zombies -> results
 *   procs.c    other people's processes        tree.c     hostile directories
 *   served.c   runs by a fork server           forkserver.c  the fork server, in the program's process
 *   warm.c     runs by a warm interpreter      unseen.c   what processes do not show
 *   collect.c  copy-out of artifacts           reset.c    clean and verify
 *   captures.c what runs write                 outq.c     frames on their way out
 *   move.c     from stdin and stdout to a socket
 *
 * Trust. The worker is trusted but may be broken: its frames are checked, and nonsense ends the runner. Programs are hostile.
 * They run under a uid of their own that is never used again, so nothing that survives a run owns anything of a later one.
 *
 * One thread, one loop, nothing in it blocks: a slow reader of stdout or a large INPUT never delays a look at the limits. The
 * two exceptions are bounded by the kernel's own work, starting a child and removing directories of ended runs. A
 * fork server is waited for as well, once at most in vain, and only its own job waits with it.
 *
 * Small on purpose. A child's ru_maxrss starts from the resident size of the process that forked it, so all content stays in
 * files (memfd) and no buffer grows with it.
 *
 * If the worker goes away (stdin or the socket ends) or is silent for too long (dead-man timer), the runner ends, and with PID 1 the
 * kernel ends everything else in the container.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "procs.h"
#include "served.h"
#include "spawn.h"
#include "unseen.h"
#include "warm.h"

/* One pipe buffer. Larger reads would not bring more, and would only grow the runner. */
#define READ_BYTES (64u << 10)
/* Epoll waits at most this long: the clock of the dead-man timer. */
#define IDLE_NS (10 * SECOND)

/*
 * Results of tests that end close together leave in one write: each write wakes the worker, and over Docker's stream four processes
 * on its way there, which together use as much CPU as a quarter of a short test. So long may a result wait while other tests of its job still run (and to
 * the next millisecond of epoll: 6 ms at most; the last one of a job never waits), and so much may gather.
 */
#define GATHER_NS (5 * MS)
#define GATHER_BYTES (32u << 10)

static struct runner runner;

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

_Noreturn static void leave(enum exit_code code) {
    kill(-1, SIGKILL);
    exit(code);
}

void fatal(struct runner *r, const char *format, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    /* Before the report: a reader that does not read must not keep hostile processes alive. */
    kill(-1, SIGKILL);
    outq_push_text(&r->out, FRAME_FATAL, text);
    outq_flush(&r->out);
    leave(EXIT_FATAL);
}

void mark_dirty(struct runner *r, const char *format, ...) {
    if (r->dirty[0] != '\0')
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->dirty, sizeof r->dirty, format, arguments);
    va_end(arguments);
}

_Noreturn static void usage(const char *why) {
    fprintf(stderr, "runner: %s\nusage: runner --uid-base N --uid-count N --dead-man SECONDS   (as PID 1 of a container)\n", why);
    exit(EXIT_USAGE);
}

static uint64_t take_number(const char *text, uint64_t max) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || *text < '0' || *text > '9' || value == 0 || value > max)
        usage("numbers are positive and in range");
    return value;
}

static void take_options(struct runner *r, int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--uid-base") == 0)
            r->uid_base = (uid_t)take_number(argv[i + 1], INT32_MAX);
        else if (strcmp(argv[i], "--uid-count") == 0)
            r->uid_count = (uid_t)take_number(argv[i + 1], INT32_MAX);
        else if (strcmp(argv[i], "--dead-man") == 0)
            r->dead_man_ns = take_number(argv[i + 1], 86400) * SECOND;
        else
            usage("unknown option");
    }
    if (argc % 2 == 0 || r->uid_base == 0 || r->uid_count == 0 || r->dead_man_ns == 0)
        usage("all three options are needed");
    /* kill(-1) must never meet a whole machine, and only PID 1 inherits orphans. */
    if (getpid() != 1)
        usage("not PID 1");
}

static int open_directory(struct runner *r, const char *path, bool needed) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && needed)
        fatal(r, "%s: %s", path, strerror(errno));
    return fd;
}

/* A container runtime may give a tmpfs the mode of the image's directory below it, whatever mode was asked for. */
static int open_place(struct runner *r, const char *path, mode_t mode) {
    int fd = open_directory(r, path, true);
    if (fchmod(fd, mode) < 0)
        fatal(r, "%s: %s", path, strerror(errno));
    return fd;
}

/*
 * Whoever reads a terminal that nobody types on waits and uses no CPU time: #include "/dev/ptmx" held a place for compiling up to
 * the wall limit. Nobody may make one. What is not there need not be closed, and a link leads to one of the two.
 */
static void close_terminals(struct runner *r) {
    static const char *const makers[] = {"/dev/ptmx", "/dev/pts/ptmx"};
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
        if (chmod(makers[i], 0) < 0 && errno != ENOENT)
            fatal(r, "%s: %s", makers[i], strerror(errno));
}

static void open_places(struct runner *r) {
    r->proc_fd = open_directory(r, "/proc", true);
    r->box_fd = open_place(r, "/box", 0755);
    r->work_fd = open_place(r, "/scratch", 0711);
    r->tmp_fd = open_place(r, "/tmp", 01777);
    r->shm_fd = open_place(r, "/dev/shm", 01777);
    r->mqueue_fd = open_directory(r, "/dev/mqueue", false);
    r->empty_size = -1;
    measure_cwd(r);
    r->loadavg_fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    unseen_open(&r->cgroup);
    r->oom_fd = open("/sys/fs/cgroup/memory/memory.oom_control", O_RDONLY | O_CLOEXEC);
    if (r->oom_fd < 0)
        r->oom_fd = open("/sys/fs/cgroup/memory.events", O_RDONLY | O_CLOEXEC);
}

static void lower_limit(int what, rlim_t value) { setrlimit(what, &(struct rlimit){value, value}); }

/* What all runs inherit from the runner, set once (see spawn.c); failures that matter are fatal. */
static void set_inherited(struct runner *r) {
    struct rlimit files;
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    umask(022);
    personality(PER_LINUX);
    lower_limit(RLIMIT_CORE, 0);
    lower_limit(RLIMIT_MEMLOCK, 0);
    lower_limit(RLIMIT_MSGQUEUE, 0);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0)
        fatal(r, "cannot give up privileges: %s", strerror(errno));
    /* The runner itself holds one descriptor per waiting INPUT and per collected file. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static int open_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    /* Blocked, not ignored: an ignored signal would be inherited through execve. */
    sigaddset(&set, SIGPIPE);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sigdelset(&set, SIGPIPE);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void never_block(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

static void prepare(struct runner *r) {
    outq_init(&r->out);
    r->sink.fd = -1;
    r->warm.control = r->kept.fd = -1;
    set_inherited(r);
    never_block(STDIN_FILENO);
    never_block(STDOUT_FILENO);
    open_places(r);
    close_terminals(r);
    r->cpus = sched_getaffinity(0, sizeof r->allowed, &r->allowed) == 0 ? (unsigned)CPU_COUNT(&r->allowed) : 0;
    if (r->cpus == 0)
        r->cpus = 1; /* more CPUs than the set can tell: no choosing among them */
    r->can_serve = served_available();
    r->last_heard_ns = now_ns();
    procs_resync(r);
    uint8_t hello[8], *at = put_u32(hello, PROTOCOL_VERSION);
    put_u32(at, (r->can_serve ? FEATURE_FORK_SERVER : 0) | (warm_available() ? FEATURE_WARM_INTERPRETER : 0) | FEATURE_KEPT_FILES |
                    FEATURE_ANSWERS_PARALLEL | FEATURE_MOVE);
    outq_push(&r->out, FRAME_HELLO, hello, sizeof hello, (struct out_part){-1, 0}, (struct out_part){-1, 0});
}

static void hear(struct runner *r) {
    static uint8_t buffer[READ_BYTES];
    ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        leave(EXIT_OK);
    r->last_heard_ns = now_ns();
    const uint8_t *at = buffer;
    size_t left = (size_t)n;
    struct event event;
    do {
        event = parser_next(&r->parser, &at, &left);
        job_handle(r, &event);
    } while (event.kind != EV_NONE);
}

static void take_signals(struct runner *r, int fd) {
    struct signalfd_siginfo info[4]; /* three kinds, each is there once at most: one read takes all */
    ssize_t n = read(fd, info, sizeof info);
    for (ssize_t i = 0; i < n / (ssize_t)sizeof *info; i++)
        if (info[i].ssi_signo != SIGCHLD)
            leave(EXIT_OK);
    reap(r);
}

static void add(struct runner *r, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        fatal(r, "epoll: %s", strerror(errno));
}

/*
 * The timeout of epoll_wait does what a timerfd would, without a system call to set it. Milliseconds, rounded up: waking up
 * before a deadline would only mean to wait again.
 */
static int timeout_ms(const struct runner *r) {
    uint64_t now = now_ns(), deadline = watch_deadline(r), idle = now + IDLE_NS, silence = r->last_heard_ns + r->dead_man_ns;
    if (r->gathering_ns != 0 && r->gathering_ns + GATHER_NS < deadline)
        deadline = r->gathering_ns + GATHER_NS;
    if (silence < deadline)
        deadline = silence;
    if (idle < deadline)
        deadline = idle;
    return deadline <= now ? 0 : (int)((deadline - now + MS - 1) / MS);
}

/* Stdout is watched only while something waits for it: it is writable nearly always. */
static void want_stdout(const struct runner *r, bool want) {
    static bool wanted;
    if (want == wanted)
        return;
    wanted = want;
    struct epoll_event event = {.events = want ? EPOLLOUT : 0, .data.fd = STDOUT_FILENO};
    epoll_ctl(r->epoll, EPOLL_CTL_MOD, STDOUT_FILENO, &event);
}

static bool gather(struct runner *r) {
    if (r->job == NULL || r->job->active_count == 0 || r->out.queued == 0 || r->out.queued > GATHER_BYTES)
        return false;
    uint64_t now = now_ns();
    if (r->gathering_ns == 0)
        r->gathering_ns = now;
    return now < r->gathering_ns + GATHER_NS;
}

static void send_queued(struct runner *r) {
    if (gather(r)) {
        want_stdout(r, false);
        return;
    }
    r->gathering_ns = 0;
    if (!outq_pump(&r->out))
        leave(EXIT_STDOUT_CLOSED);
    want_stdout(r, !outq_is_empty(&r->out));
}

static void turn(struct runner *r, int signals) {
    struct epoll_event events[3];
    int n = epoll_wait(r->epoll, events, 3, timeout_ms(r));
    served_hear(r);
    for (int i = 0; i < n; i++) {
        if (events[i].data.fd == signals)
            take_signals(r, signals);
        else if (events[i].data.fd == STDIN_FILENO)
            hear(r);
        else if (events[i].events & (EPOLLERR | EPOLLHUP))
            leave(EXIT_STDOUT_CLOSED); /* comes even unasked; ignoring it would spin */
    }
    uint64_t now = now_ns();
    watch_tick(r, now);
    if (now - r->last_heard_ns > r->dead_man_ns && now > r->last_heard_ns)
        leave(EXIT_DEAD_MAN);
    job_advance(r);
    send_queued(r);
}

int main(int argc, char **argv) {
    take_options(&runner, argc, argv);
    prepare(&runner);
    int signals = open_signals();
    runner.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (signals < 0 || runner.epoll < 0)
        fatal(&runner, "no descriptors: %s", strerror(errno));
    add(&runner, signals, EPOLLIN);
    add(&runner, STDIN_FILENO, EPOLLIN);
    add(&runner, STDOUT_FILENO, 0);
    send_queued(&runner); /* HELLO */
    for (;;)
        turn(&runner, signals);
}
