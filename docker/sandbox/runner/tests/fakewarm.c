/*
 * Stands in for the warm interpreter. As root it serves requests well, or as its first argument says; under another uid it is a run
 * by exec. A run says how it came about, and then what its stdin says.
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../warmserver.h"

enum { FDS = 4, COMPILE_MS = 30 };

static const char *how;

static bool is(const char *name) { return strcmp(how, name) == 0; }

static int be_run(const char *way) {
    char input[4096], cwd[64];
    ssize_t size = read(0, input, sizeof input);
    bool sound = getenv("LD_PRELOAD") == NULL && fcntl(WARM_FD, F_GETFD) < 0 && getcwd(cwd, sizeof cwd) != NULL &&
                 strncmp(cwd, "/scratch/", 9) == 0 && access("mine", F_OK) < 0 && close(open("mine", O_CREAT, 0600)) == 0;
    printf("%s %s %u %.*s\n", way, sound ? "sound" : "unsound", (unsigned)getuid(), (int)size, input);
    fflush(stdout);
    fputs("error", stderr);
    return 3;
}

static void spend(long ms) {
    struct timespec now;
    do
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    while (now.tv_sec * 1000 + now.tv_nsec / 1000000 < ms);
}

static void become(const struct warm_request *request) {
    const struct rlimit files = {request->file_bytes, request->file_bytes}, cpu = {request->cpu_seconds, request->cpu_seconds};
    setrlimit(RLIMIT_FSIZE, &files);
    setrlimit(RLIMIT_CPU, &cpu);
    setsid();
    if (setresgid(request->uid, request->uid, request->uid) < 0 || setresuid(request->uid, request->uid, request->uid) < 0)
        _exit(99);
}

static int be_compiler(const struct warm_request *request, int code) {
    struct warm_code head = {.state = is("not_a_source") ? WARM_NOT_A_SOURCE : WARM_COMPILED};
    become(request);
    spend(COMPILE_MS);
    if (is("no_code"))
        raise(SIGKILL);
    return write(code, &head, sizeof head) == sizeof head ? 0 : 1;
}

static int be_test(const struct warm_request *request, const int *fds, int count) {
    struct warm_code head = {0};
    if (is("stays_root"))
        return 0;
    bool compiled = count == FDS && pread(fds[3], &head, sizeof head, 0) == sizeof head && head.state == WARM_COMPILED;
    if (chdir(request->cwd) < 0)
        return 99;
    for (int i = 0; i < 3; i++)
        dup2(fds[i], i);
    close_range(3, ~0u, 0);
    become(request);
    return be_run(compiled ? "code" : "warm");
}

static int receive(struct warm_request *request, int *fds) {
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(FDS * sizeof(int))];
    } control;
    struct iovec part = {request, sizeof *request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (recvmsg(WARM_FD, &message, 0) != sizeof *request)
        return 0;
    int count = (int)((control.head.cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(fds, CMSG_DATA(&control.head), (size_t)count * sizeof(int));
    return count;
}

static void answer(uint32_t sequence, pid_t pid) {
    struct warm_answer text = {sequence, pid, is("has_imported") ? 1u << 30 : 0};
    if (is("miscounts"))
        text.sequence += sequence > 1;
    if (is("names_the_runner") && sequence > 1)
        text.pid = 1;
    send(WARM_FD, &text, sizeof text, MSG_NOSIGNAL);
}

static pid_t copy(void) { return (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0); }

static int serve(void) {
    struct warm_request request;
    int fds[FDS], count;
    if (is("fails"))
        return 1;
    unsetenv("LD_PRELOAD");
    if (is("leaves_a_child") && copy() == 0)
        for (;;)
            pause();
    answer(0, 0);
    while ((count = receive(&request, fds)) > 0) {
        if (is("dies") && request.sequence > 1)
            return 1;
        pid_t pid = copy();
        if (pid == 0)
            _exit(request.kind == WARM_COMPILE ? be_compiler(&request, fds[0]) : be_test(&request, fds, count));
        for (int i = 0; i < count; i++)
            close(fds[i]);
        answer(request.sequence, pid);
        if (is("stops") && request.sequence > 2)
            raise(SIGSTOP);
    }
    return 0;
}

int main(int argc, char **argv) {
    how = argc > 1 ? argv[1] : "";
    return getuid() == 0 ? serve() : be_run("exec");
}
