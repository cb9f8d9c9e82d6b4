/*
 * Runs that are forked by a warm interpreter.
 *
 * Theory of operation. A WARM frame starts the interpreter of the container once, with an argv and an environment, and it stays over
 * all jobs: it has imported what programs use, but never sees one. A job of mode 2 with the very same argv and environment is forked
 * from it, a run at a time: the copy is the runner's own child (CLONE_PARENT), takes on a uid of its own, the limits and captures, and
 * only then looks at the program (docker/sandbox/python/warm/). For everything that happens to a run afterwards it is a run like one
 * by exec.
 *
 * A program with several tests is compiled once, in a copy with a uid of its own. No run starts meanwhile; its CPU time and memory
 * are on the bill of every test. If that fails in any way each test compiles by itself, with the interpreter's own messages.
 *
 * Trust. The interpreter is root's and runs no code of a submission, so it is believed what pid a fork has. Programs cannot reach it:
 * they have other uids, and no descriptor of it. If it dies, stops or is silent all the same, the container is given up after the job,
 * and the runs go by exec. A copy that ends while its uid is still 0 never became a test: it goes by exec too.
 *
 * Memory. What the interpreter has imported in advance is no memory of the program: it is taken off again (run.credit_bytes).
 */
#include "warm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "captures.h"
#include "procs.h"
#include "served.h"
#include "spawn.h"
#include "unseen.h"
#include "warmserver.h"

/* Seconds for the start of the interpreter, usually 0.2, and for a fork, usually 0.3 ms; with a busy machine much more. */
enum { START_SECONDS = 10, FORK_SECONDS = 2 };

bool warm_available(void) { return access(WARM_LIBRARY, R_OK) == 0; }

bool warm_is_server(const struct runner *r, pid_t pid) { return r->warm.pid != 0 && r->warm.pid == pid; }

static void set_patience(int control, int seconds) {
    setsockopt(control, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){seconds, 0}, sizeof(struct timeval));
}

static bool hear_answer(const struct warm *warm, struct warm_answer *answer) {
    return recv(warm->control, answer, sizeof *answer, 0) == sizeof *answer && answer->sequence == warm->requests;
}

/* Like the input and the captures of a test, so that sys.stdin, stdout and stderr come out the same. */
static bool open_standard(int fds[3]) {
    bool good = true;
    for (int i = 0; i < 3; i++)
        good = capture_open("warm", &fds[i]) == 0 && good;
    return good && fcntl(fds[0], F_SETFL, 0) == 0;
}

static pid_t spawn_interpreter(struct runner *r, struct job *job, int theirs) {
    char *envp[job->spec.envc + 2];
    struct child child = {.job = job, .envp = envp, .fds = {-1, -1, -1, theirs}, .fd_count = 4};
    memcpy(envp, job->spec.envp, job->spec.envc * sizeof *envp);
    envp[job->spec.envc] = (char *)(uintptr_t)WARM_PRELOAD;
    envp[job->spec.envc + 1] = NULL;
    pid_t pid = open_standard(child.fds) ? spawn_trusted(r, &child) : -1;
    for (int i = 0; i < 3; i++)
        if (child.fds[i] >= 0)
            close(child.fds[i]);
    return pid;
}

static void launch(struct runner *r, struct job *job) {
    struct warm *warm = &r->warm;
    struct warm_answer answer;
    int pair[2];
    if (spawn_find(job) != 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return;
    warm->control = pair[0];
    set_patience(pair[0], START_SECONDS);
    pid_t pid = spawn_interpreter(r, job, pair[1]);
    close(pair[1]);
    warm->pid = pid > 0 ? pid : 0;
    if (pid > 0 && hear_answer(warm, &answer)) {
        warm->extra_bytes = answer.extra_bytes;
        set_patience(pair[0], FORK_SECONDS);
        return;
    }
    close(pair[0]);
    warm->control = -1;
    if (pid > 0 && kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid)
        warm->pid = 0;
}

void warm_start(struct runner *r, const struct event *event) {
    struct job job = {0};
    if (r->job != NULL || r->warm.spec.memory != NULL)
        fatal(r, "WARM while a job is being done, or twice");
    const char *why = command_decode(event->data, event->size, &r->warm.spec);
    if (why != NULL)
        fatal(r, "%s", why);
    job.spec = r->warm.spec;
    if (warm_available())
        launch(r, &job);
    spawn_forget(&job);
    procs_resync(r);
}

static bool same(char **a, char **b) {
    while (*a != NULL && *b != NULL && strcmp(*a, *b) == 0) {
        a++;
        b++;
    }
    return *a == *b;
}

static bool is_up(const struct runner *r) { return r->warm.pid != 0 && r->warm.control >= 0; }

static bool fits(const struct runner *r, const struct job *job) {
    return job->spec.mode == MODE_WARM_INTERPRETER && is_up(r) && same(job->spec.argv, r->warm.spec.argv) &&
           same(job->spec.envp, r->warm.spec.envp);
}

/* Not believed any more: the runs that are left go by exec, and so will all of the next container. */
static void distrust(struct runner *r, const char *why) {
    mark_dirty(r, "the warm interpreter %s", why);
    if (r->warm.control >= 0)
        close(r->warm.control);
    r->warm.control = -1;
}

static bool send_request(const struct warm *warm, const struct warm_request *request, const int *fds, size_t count) {
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(4 * sizeof(int))];
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)request, sizeof *request};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(count * sizeof *fds),
    };
    control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof *fds), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.head), fds, count * sizeof *fds);
    return sendmsg(warm->control, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof *request;
}

/* The pid of the fork, or -1, and then the interpreter is not asked again. */
static pid_t ask(struct runner *r, const struct job *job, struct warm_request *request, const int *fds, size_t count) {
    const struct job_spec *spec = &job->spec;
    struct warm_answer answer;
    request->sequence = ++r->warm.requests;
    request->processes = spec->processes == 0 ? 1 : spec->processes;
    request->cpu_seconds = cpu_backstop_seconds(spec);
    request->file_bytes = spec->file_bytes;
    request->stack_bytes = spec->stack_bytes == 0 ? RLIM_INFINITY : spec->stack_bytes;
    request->address_space = spec->address_space == 0 ? RLIM_INFINITY : spec->address_space;
    if (!send_request(&r->warm, request, fds, count) || !hear_answer(&r->warm, &answer) || answer.pid <= 1) {
        distrust(r, "does not answer");
        return -1;
    }
    procs_note_child(r, answer.pid);
    return answer.pid;
}

/* The interpreter works on the runner's CPU; tests leave it. */
static void follow(const struct runner *r) {
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0)
        sched_setaffinity(r->warm.pid, sizeof cpus, &cpus);
}

static void compile(struct runner *r, struct job *job) {
    struct warm_request request = {.kind = WARM_COMPILE};
    job->code.state = CODE_SETTLED;
    job->code.fd = -1;
    follow(r);
    /* With one test there is nothing to share. */
    if (job->spec.runs == 1 || r->uids_used >= r->uid_count)
        return;
    request.uid = r->uid_base + r->uids_used++;
    job->code.fd = memfd_create("code", MFD_CLOEXEC);
    pid_t pid = job->code.fd < 0 ? -1 : ask(r, job, &request, &job->code.fd, 1);
    if (pid < 0)
        return;
    job->code.compiler = pid;
    job->code.state = CODE_COMPILING;
}

bool warm_wanted(struct runner *r, struct job *job, const struct run *run) {
    if (run->exec_only || !fits(r, job))
        return false;
    if (job->code.state == CODE_UNTRIED)
        compile(r, job);
    return job->code.state != CODE_UNUSABLE && is_up(r);
}

bool warm_settled(const struct job *job) { return job->code.state != CODE_COMPILING; }

static void drop_code(struct job *job) {
    if (job->code.fd >= 0)
        close(job->code.fd);
    job->code.fd = -1;
}

static void take_code(struct job *job, uint64_t cpu_ns, uint64_t peak_bytes) {
    struct warm_code head = {0};
    job->code.compiler = 0;
    job->code.state = CODE_SETTLED;
    if (pread(job->code.fd, &head, sizeof head, 0) == sizeof head && head.state == WARM_COMPILED) {
        job->code.cpu_ns = cpu_ns;
        job->code.peak_bytes = peak_bytes;
    } else {
        drop_code(job);
    }
    if (head.state == WARM_NOT_A_SOURCE)
        job->code.state = CODE_UNUSABLE;
}

void warm_reaped(struct runner *r, pid_t pid, uint64_t cpu_ns, uint64_t peak_bytes) {
    if (pid == r->warm.pid) {
        r->warm.pid = 0;
        distrust(r, "has died");
        if (r->job != NULL)
            unseen_restart(r->job);
    } else if (r->job != NULL && pid == r->job->code.compiler) {
        take_code(r->job, cpu_ns, peak_bytes);
    }
}

/* The fork that was not announced may be there all the same, and read: the run by exec gets an offset of its own. */
static void renew_input(const struct runner *r, struct run *run) {
    char path[32];
    snprintf(path, sizeof path, "self/fd/%d", run->in_fd);
    int fd = openat(r->proc_fd, path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    close(run->in_fd);
    run->in_fd = fd;
}

int warm_fork(struct runner *r, struct job *job, struct run *run) {
    struct warm_request request = {.kind = WARM_TEST, .uid = run->uid};
    const int fds[4] = {run->in_fd, run->out_fd, run->err_fd < 0 ? run->out_fd : run->err_fd, job->code.fd};
    name_cwd(request.cwd, sizeof request.cwd, run->uid);
    run->pid = ask(r, job, &request, fds, job->code.fd < 0 ? 3 : 4);
    if (run->pid < 0) {
        renew_input(r, run);
        return ECHILD;
    }
    run->user_ns = run->upfront_ns = job->code.cpu_ns;
    run->credit_bytes = r->warm.extra_bytes;
    if (job->code.peak_bytes > run->credit_bytes)
        run->peak = job->code.peak_bytes - run->credit_bytes;
    return 0;
}

bool warm_retry(struct runner *r, struct run *run, uid_t uid) {
    if (!run->warm || uid != 0 || run->killed_ns != 0)
        return false;
    remove_cwd(r, run);
    served_requeue(r->job, run);
    return true;
}

void warm_end(struct job *job) {
    if (job->code.state != CODE_UNTRIED)
        drop_code(job);
}

void warm_verify(struct runner *r) {
    if (r->warm.pid == 0)
        return;
    if (!is_up(r) || !procs_is_waiting(r, r->warm.pid))
        mark_dirty(r, "the warm interpreter has stopped");
}
