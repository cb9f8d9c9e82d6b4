/*
 * The fork server's side of the control socket: what is no request of the runner is refused, whatever came instead. The
 * messages go through a real socket, because half of the parsing is that of the kernel's control data.
 */
#include <unistd.h>

#include "../forkserver.c"

#include "../bytes.h"
#include "fuzz.h"

enum { MOST_DESCRIPTORS = 7, LONGEST_MESSAGE = 64, STRINGS = 8 };

static int runner_end = -1, null_fd = -1;

/* The fork server uses a fixed number, which is given to the socket before anything else may take it. */
__attribute__((constructor)) static void open_socket(void) {
    int pair[2];
    ALWAYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    if (pair[0] == FORKSERVER_FD)
        ALWAYS((pair[0] = dup(pair[0])) > 0);
    ALWAYS(pair[1] == FORKSERVER_FD || dup2(pair[1], FORKSERVER_FD) == FORKSERVER_FD);
    runner_end = pair[0];
    null_fd = open("/dev/null", O_RDONLY);
}

static void send_message(const uint8_t *bytes, size_t size, unsigned descriptors) {
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(MOST_DESCRIPTORS * sizeof(int))];
    } control = {.head = {.cmsg_len = CMSG_LEN(descriptors * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec part = {(void *)(uintptr_t)bytes, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    for (unsigned i = 0; i < descriptors; i++)
        memcpy(CMSG_DATA(&control.head) + i * sizeof(int), &null_fd, sizeof null_fd);
    if (descriptors > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(descriptors * sizeof(int));
    }
    ALWAYS(sendmsg(runner_end, &message, 0) == (ssize_t)size);
}

static bool is_request(const uint8_t *bytes, size_t size, unsigned descriptors) {
    return size == sizeof(struct fork_request) && descriptors == FDS && bytes[size - 1] == '\0';
}

static int lowest_free(void) {
    int fd = dup(null_fd);
    close(fd);
    return fd;
}

static void check_receive(const uint8_t *bytes, size_t size, unsigned descriptors) {
    struct fork_request request;
    int fds[FDS] = {-1, -1, -1}, lowest = lowest_free();
    send_message(bytes, size, descriptors);
    bool accepted = receive(&request, fds);
    ALWAYS(accepted == is_request(bytes, size, descriptors));
    if (accepted) {
        ALWAYS(memcmp(&request, bytes, size) == 0);
        ALWAYS(fds[0] == lowest && fds[1] > fds[0] && fds[2] > fds[1]);
        close_all(fds);
        ALWAYS(lowest_free() == lowest);
    }
    /* A refusal ends the fork server, and its descriptors with it. */
    for (int i = 0; i < MOST_DESCRIPTORS; i++)
        close(lowest + i);
}

/* Strings of the input that end in NUL; then, if wanted, the two of the runner. */
static size_t build_environment(char *text, size_t size, bool marked, char **env) {
    static char preload[] = FORKSERVER_PRELOAD, mark[] = FORKSERVER_MARK;
    size_t count = 0;
    for (char *end; count < STRINGS && (end = memchr(text, '\0', size)) != NULL; text = end + 1) {
        env[count++] = text;
        size -= (size_t)(end + 1 - text);
    }
    if (marked) {
        env[count++] = preload;
        env[count++] = mark;
    }
    env[count] = NULL;
    return count;
}

static void check_mark(const uint8_t *bytes, size_t size, bool marked) {
    char *env[STRINGS + 3], *before[STRINGS + 3], *text = (char *)exact_copy(bytes, size);
    size_t count = build_environment(text, size, marked, env);
    memcpy(before, env, sizeof env);
    bool expected = count >= 2 && strcmp(env[count - 2], FORKSERVER_PRELOAD) == 0 && strcmp(env[count - 1], FORKSERVER_MARK) == 0;
    ALWAYS(take_mark(env) == expected);
    if (expected)
        before[count - 2] = NULL;
    ALWAYS(memcmp(before, env, (count + 1) * sizeof *env) == 0);
    free(text);
}

/* Input: what is tried (bit 7: an environment, bit 0: with the runner's mark; else the number of descriptors), rest = bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    uint8_t kind = data[0];
    data++;
    size--;
    if (kind & 0x80)
        check_mark(data, size, kind & 1);
    else
        check_receive(data, size < LONGEST_MESSAGE ? size : LONGEST_MESSAGE, kind % (MOST_DESCRIPTORS + 1));
    return 0;
}
