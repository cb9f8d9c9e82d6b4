/*
 * Runs that a fork server makes.
 *
 * Theory of operation. The program is started once, with the fork server linked in or preloaded, and asked for one fork per test.
 * The forks are children of the runner (CLONE_PARENT), so limits, CPU time, memory and exit status come from the kernel as for
 * any other run. The rlimits are inherited from the server, which got them before execve: nothing is set later, by anybody.
 *
 * Trust. The server is the submission's own process and may have been taken over before it was ready (IFUNC resolvers,
 * .preinit_array) or later (a test of the same uid may signal and trace it). So nothing that it says is believed, not even a pid:
 *   - One request is under way at a time. When it is confirmed, exactly one pid more must have been given out in this pid
 *     namespace (procs.h), and it must be the runner's own child, alive or not. Anything else is a breach.
 *   - Its CPU time until it was ready, as the kernel knows it, is added to each test, and its peak memory counts for each. What it
 *     uses afterwards is bounded by an allowance per fork, so it cannot compute for the tests either.
 *   - It must not touch what would be the standard descriptors of a test before it is ready.
 *   - What a test has written is settled when it has ended (captures.c): the server and other tests may have kept descriptors of it.
 *   - It has a time limit for each answer.
 *
 * The answer is not waited for at once: the loop sleeps until something happens, mostly the end of that very test, and hears it
 * before it does anything else (served_hear). So an ordinary test wakes the runner once and not twice. No code but the start of
 * the run meets one that has no pid yet; the first look of the watch comes as soon as for any other run.
 *
 * Served tests share one uid, so they cannot be told apart once one of them creates a process or thread. None may: the first
 * stranger among them (procs.h) is a breach too, although an honest one, and with exec each test has its own uid again.
 * RLIMIT_NPROC therefore is higher here, as an attempt must succeed to be seen.
 *
 * After a breach everything of the uid is killed, and when all is gone (SERVER_ENDING to SERVER_GONE) what it left in shared
 * places is removed, and the tests that have no result yet run by exec. A result that was sent before stands: at the moment it was
 * made there was no stranger. A test that died of a signal which another test may have sent runs again by exec, alone.
 */
#include "served.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "captures.h"
#include "forkserver.h"
#include "procs.h"
#include "program.h"
#include "spawn.h"
#include "tree.h"
#include "unseen.h"

/* Time for the program to load, and for each fork: a hundred times what is usual. The runner waits, so it is short. */
#define ANSWER_MS 300
/* CPU time of the server after its start: a fork of a program with a large image takes milliseconds; and once for warming up. */
#define FORK_ALLOWANCE_NS (4 * MS)
#define SERVER_ALLOWANCE_NS (20 * MS)
/* Killed processes are gone after about one scheduling round. */
#define SETTLE_TICK_NS (2 * MS)
/* With gigabytes mapped a killed process needs a second; one that takes longer hangs in the kernel. */
#define SETTLE_PATIENCE_NS (10 * SECOND)
/* Runs of one server that may be active at once; a fork beyond fails and all goes by exec. */
enum { MAX_SIBLINGS = 64 };

bool served_available(void) { return access(FORKSERVER_PATH, R_OK) == 0; }

static enum way choose_way(struct runner *r, const struct job *job) {
    if (!r->can_serve || r->uids_used >= r->uid_count || procs_strangers(r) || job->paths[0] == NULL)
        return WAY_NONE;
    for (unsigned i = 0; i < job->spec.envc; i++)
        if (strncmp(job->spec.envp[i], "LD_", 3) == 0)
            return WAY_NONE;
    return strchr(job->spec.argv[0], '/') == NULL ? WAY_NONE : way_into(job->paths[0]);
}

static bool hear_answer(const struct server *server, uint32_t sequence) {
    struct fork_answer answer[2]; /* one more than fits: a longer message is not an answer */
    return recv(server->control, answer, sizeof answer, 0) == sizeof answer[0] && answer[0].sequence == sequence;
}

/* What the server has as 0, 1 and 2: one byte and an offset that show whether anybody has used them. */
static int open_untouched(void) {
    int fd = memfd_create("untouched", MFD_CLOEXEC);
    if (fd >= 0 && pwrite(fd, "", 1, 0) != 1) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool is_untouched(int fd) { return lseek(fd, 0, SEEK_CUR) == 0 && lseek(fd, 0, SEEK_END) == 1; }

static int open_control(struct server *server) {
    int pair[2];
    struct timeval patience = {0, ANSWER_MS * 1000};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    server->control = pair[0];
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return pair[1];
}

static pid_t spawn_server(struct runner *r, struct job *job, enum way way, int untouched, int control) {
    const struct job_spec *spec = &job->spec;
    unsigned envc = spec->envc;
    char *envp[envc + 3];
    memcpy(envp, spec->envp, envc * sizeof *envp);
    if (way == WAY_PRELOADED)
        envp[envc++] = (char *)(uintptr_t)FORKSERVER_PRELOAD;
    envp[envc++] = (char *)(uintptr_t)FORKSERVER_MARK;
    envp[envc] = NULL;
    struct child child = {
        .job = job, .envp = envp, .uid = job->server.uid,
        .processes = 1 + spec->processes + (spec->runs < MAX_SIBLINGS ? spec->runs : MAX_SIBLINGS),
        .fds = {untouched, untouched, untouched, control}, .fd_count = 4,
    };
    return make_cwd(r, child.uid, child.uid) == 0 ? spawn_program(r, &child) : -1;
}

static bool greeted(struct runner *r, struct job *job, int untouched) {
    struct server *server = &job->server;
    if (!hear_answer(server, 0) || !is_untouched(untouched) || procs_strangers(r))
        return false;
    server->start_ns = procs_cpu(server->pid);
    server->start_peak = procs_peak(r, server->pid);
    /* A program that is over its limits already gets its verdict from exec. */
    return server->start_ns > 0 && server->start_ns <= job->spec.cpu_ns && server->start_peak <= job->spec.memory_bytes;
}

static void start_server(struct runner *r, struct job *job) {
    struct server *server = &job->server;
    server->state = SERVER_GONE;
    server->control = -1;
    enum way way = choose_way(r, job);
    if (way == WAY_NONE)
        return;
    server->uid = r->uid_base + r->uids_used++;
    int untouched = open_untouched(), theirs = open_control(server);
    pid_t pid = untouched < 0 || theirs < 0 ? -1 : spawn_server(r, job, way, untouched, theirs);
    if (theirs >= 0)
        close(theirs);
    if (pid > 0) {
        server->pid = pid;
        server->state = SERVER_UP;
        if (!greeted(r, job, untouched))
            served_abandon(r);
    }
    if (untouched >= 0)
        close(untouched);
}

bool served_wanted(struct runner *r, struct job *job, const struct run *run) {
    if (job->spec.mode != MODE_FORK_SERVER || run->exec_only)
        return false;
    if (job->server.state == SERVER_UNTRIED)
        start_server(r, job);
    return job->server.state == SERVER_UP;
}

static bool send_request(const struct server *server, const struct run *run) {
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(3 * sizeof(int))];
    } control = {0};
    const int fds[3] = {run->in_fd, run->out_fd, run->err_fd < 0 ? run->out_fd : run->err_fd};
    struct fork_request request = {.sequence = server->forks};
    struct iovec part = {&request, sizeof request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    name_cwd(request.cwd, sizeof request.cwd, run->uid);
    control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fds), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.head), fds, sizeof fds);
    return sendmsg(server->control, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof request;
}

static bool within_allowance(const struct server *server) {
    return procs_cpu(server->pid) <= server->start_ns + SERVER_ALLOWANCE_NS + server->forks * FORK_ALLOWANCE_NS;
}

/* It ends while the last tests run, which saves waiting for it at the end of the job. */
static void retire(struct server *server) {
    captures_forget(server);
    kill(server->pid, SIGKILL);
    server->state = SERVER_RETIRED;
}

void served_hear(struct runner *r) {
    struct server *server = r->job == NULL ? NULL : &r->job->server;
    if (server == NULL || server->asked == NULL)
        return;
    bool last = server->forks == r->job->spec.runs;
    pid_t pid = hear_answer(server, server->forks) ? procs_adopt(r) : -1;
    if (pid < 0 || (last && !within_allowance(server))) {
        served_abandon(r);
        return;
    }
    server->asked->pid = pid;
    server->asked = NULL;
    if (last)
        retire(server);
}

int served_start(struct runner *r, struct job *job, struct run *run) {
    struct server *server = &job->server;
    server->forks++;
    if (!send_request(server, run)) {
        served_abandon(r);
        return 0;
    }
    run->user_ns = run->upfront_ns = server->start_ns;
    run->peak = server->start_peak;
    server->asked = run;
    if (server->forks == job->spec.runs)
        served_hear(r);
    return 0;
}

bool served_settled(const struct job *job) { return job->server.state != SERVER_ENDING; }

void served_requeue(struct job *job, struct run *run) {
    captures_close(run);
    if (lseek(run->in_fd, 0, SEEK_SET) < 0)
        run->error = errno;
    if (run->state == RUN_RUNNING || run->state == RUN_DRAINING)
        job_deactivate(job, run);
    *run = (struct run){
        .state = RUN_READY, .index = run->index, .has_input = true, .cancelled = run->cancelled, .exec_only = true,
        .in_fd = run->in_fd, .out_fd = -1, .err_fd = -1, .error = run->error,
        .next = run->next, /* a caller up the stack may be walking the list of active runs */
    };
    if (run->index < job->first_unstarted)
        job->first_unstarted = run->index;
}

void served_abandon(struct runner *r) {
    struct job *job = r->job;
    struct server *server = &job->server;
    if (server->control >= 0)
        close(server->control);
    server->control = -1;
    server->asked = NULL;
    captures_forget(server);
    server->state = SERVER_ENDING;
    server->ending_ns = server->check_ns = now_ns();
    procs_kill_uid(r, server->uid);
    for (struct run *run = job->active, *next; run != NULL; run = next) {
        next = run->next;
        if (!run->served)
            continue;
        served_requeue(job, run);
        if (run->cancelled)
            job_answer(r, run, OUTCOME_CANCELLED);
    }
}

static bool is_trusted(const struct server *server) { return server->state == SERVER_UP || server->state == SERVER_RETIRED; }

struct run *served_check(struct runner *r, pid_t pid, struct run *run) {
    struct server *server = r->job == NULL ? NULL : &r->job->server;
    if (server == NULL)
        return run;
    bool died = pid == server->pid, served = run != NULL && run->served;
    bool up = server->state == SERVER_UP;
    if (died)
        server->pid = 0;
    bool breach = died && up;
    if (served)
        breach = procs_strangers(r) || (up && !within_allowance(server)) || !captures_settle(server, run);
    if (!breach)
        return run;
    served_abandon(r);
    return served ? NULL : run;
}

/* Signals that the kernel sends for what the program itself does. Anybody may send them, but that hits the server too. */
static bool is_own_doing(int number) {
    static const int own[] = {SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGILL, SIGSYS, SIGTRAP, SIGXFSZ};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i] == number)
            return true;
    return false;
}

bool served_retry(struct job *job, struct run *run) {
    if (!run->served || run->killed_ns != 0 || !WIFSIGNALED(run->status) || is_own_doing(WTERMSIG(run->status)))
        return false;
    served_requeue(job, run);
    return true;
}

void served_watch(struct runner *r) {
    const struct job *job = r->job;
    if (job == NULL || !is_trusted(&job->server) || !procs_strangers(r))
        return;
    for (const struct run *run = job->active; run != NULL; run = run->next)
        if (run->served) {
            served_abandon(r);
            return;
        }
}

struct census {
    uid_t uid;
    unsigned living;
};

static void count(struct runner *r, const struct proc *proc, void *argument) {
    (void)r;
    struct census *census = argument;
    census->living += proc->uid == census->uid;
}

/* The next start of a test must not find what its first one has left. */
static void sweep(struct runner *r) {
    if (r->job->active != NULL)
        return;
    tree_empty(r->tmp_fd, NULL);
    tree_empty(r->shm_fd, NULL);
    procs_resync(r);
}

void served_settle(struct runner *r, uint64_t now) {
    struct server *server = r->job == NULL ? NULL : &r->job->server;
    if (server == NULL || server->state != SERVER_ENDING)
        return;
    struct census census = {server->uid, 0};
    procs_scan(r, count, &census);
    if (census.living == 0) {
        server->state = SERVER_GONE;
        unseen_restart(r->job);
        sweep(r);
        return;
    }
    /* The caller's clock may have been read before the end began. */
    if (now > server->ending_ns + SETTLE_PATIENCE_NS)
        fatal(r, "processes of uid %u survive SIGKILL", (unsigned)server->uid);
    if (server->check_ns <= now) {
        procs_kill_uid(r, server->uid);
        server->check_ns = now + SETTLE_TICK_NS;
    }
}

void served_end(struct runner *r, struct job *job) {
    struct server *server = &job->server;
    captures_forget(server);
    if (server->state != SERVER_UNTRIED && server->control >= 0)
        close(server->control);
    if (server->pid == 0)
        return;
    kill(server->pid, SIGKILL);
    /* With nobody else alive there is no tracer that could hold back its end; else the reset waits for all of them. */
    if (!procs_strangers(r))
        waitpid(server->pid, NULL, 0);
}
