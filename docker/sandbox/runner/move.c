/*
 * From Docker's streams to a socket of the worker's.
 *
 * Theory of operation. What goes over stdin and stdout passes the daemon and its shim, each way: two processes that wake up and
 * copy. Where the worker can be reached directly, it mounts a folder with a listening socket and says MOVE. The runner connects,
 * names the token that it was told, and is handed one end of a pair of sockets. That takes the place of descriptors 0 and 1, so
 * that nothing else here knows of it, and it is the container's lease from then on: its end is that of the worker. Where it cannot
 * be had (another user namespace, a security module, a kernel of its own) the streams stay what they are.
 *
 * Programs cannot follow. The folder is its owner's alone, and the runner goes through it by a capability that they do not have;
 * path, listener and connection are gone before the first program starts. Why a pair, when there is a connection: each socket that
 * was accepted bears the path of its listener, for all to see in the container's /proc/net/unix. A pair has no name.
 */
#include "move.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* How long the worker may take to hand over its socket: it may have hundreds of results to look at first. */
#define HANDOVER_MS 5000
/* Frames of a usual batch in one piece, so that they wake the other end once. The kernel gives as much of it as it may. */
#define SOCKET_BYTES (1 << 20)

/* The one descriptor that comes with the first byte; -1 and errno. */
static int receive(int connection) {
    char byte;
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec data = {&byte, 1};
    /* CMSG_LEN, without the padding of CMSG_SPACE, in which a second descriptor would have room. */
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_LEN(sizeof(int))};
    if (poll(&(struct pollfd){connection, POLLIN, 0}, 1, HANDOVER_MS) != 1) {
        errno = ETIMEDOUT;
        return -1;
    }
    if (recvmsg(connection, &message, MSG_CMSG_CLOEXEC) < 0)
        return -1;
    const struct cmsghdr *got = CMSG_FIRSTHDR(&message);
    if (got == NULL || got->cmsg_level != SOL_SOCKET || got->cmsg_type != SCM_RIGHTS || got->cmsg_len != CMSG_LEN(sizeof(int))) {
        errno = ECONNREFUSED;
        return -1;
    }
    int fd;
    memcpy(&fd, CMSG_DATA(got), sizeof fd);
    return fd;
}

/* Connecting is done at once or not at all: a local socket does not wait for accept(). */
static int introduce(int connection, const struct event *event) {
    static const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = MOVE_PATH};
    if (connect(connection, (const struct sockaddr *)&address, sizeof address) < 0)
        return -1;
    if (write(connection, event->data, event->size) != (ssize_t)event->size)
        return -1;
    return receive(connection);
}

static int fetch_socket(const struct event *event) {
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), size = SOCKET_BYTES;
    if (connection < 0)
        return -1;
    int fd = introduce(connection, event), error = errno;
    close(connection);
    errno = error;
    if (fd >= 0) {
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
    return fd;
}

/* The place of a standard descriptor; what it was is closed. */
static void take_place(struct runner *r, int fd, int place, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = place};
    epoll_ctl(r->epoll, EPOLL_CTL_DEL, place, NULL);
    if (dup3(fd, place, O_CLOEXEC) < 0 || epoll_ctl(r->epoll, EPOLL_CTL_ADD, place, &event) < 0)
        fatal(r, "cannot take the place of descriptor %d: %s", place, strerror(errno));
}

void move(struct runner *r, const struct event *event) {
    if (r->job != NULL || r->moved || !outq_is_empty(&r->out))
        fatal(r, "MOVE while something is being done, or twice");
    int fd = fetch_socket(event);
    outq_push_text(&r->out, FRAME_MOVED, fd < 0 ? strerror(errno) : "");
    if (fd < 0)
        return;
    if (!outq_flush(&r->out))
        fatal(r, "the answer to MOVE cannot be sent");
    r->moved = true;
    take_place(r, fd, STDIN_FILENO, EPOLLIN);
    take_place(r, fd, STDOUT_FILENO, 0);
    close(fd);
}
