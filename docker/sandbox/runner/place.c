/*
 * Content of FILE and INPUT frames goes from the pipe straight to its file. A FILE is closed before any run may start, and no
 * child is ever created while one is being written: a descriptor that is open for writing in any process at fork time would
 * make execve of that file fail with ETXTBSY.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner.h"

/* Opens (and makes) the directory of a checked name, one part at a time; *name becomes its last part. */
static int open_parent(int root, char **name) {
    int fd = fcntl(root, F_DUPFD_CLOEXEC, 3);
    for (char *slash; fd >= 0 && (slash = strchr(*name, '/')) != NULL; *name = slash + 1) {
        *slash = '\0';
        if (mkdirat(fd, *name, 0755) < 0 && errno != EEXIST) {
            int error = errno;
            close(fd);
            errno = error;
            return -1;
        }
        int next = openat(fd, *name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int error = errno;
        close(fd);
        errno = error;
        fd = next;
    }
    return fd;
}

static int create(int root, const char *path, mode_t mode) {
    char copy[MAX_NAME_BYTES + 1];
    char *name = copy;
    snprintf(copy, sizeof copy, "%s", path);
    int parent = open_parent(root, &name);
    if (parent < 0)
        return -1;
    int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    int error = errno;
    close(parent);
    /* The mode is meant literally, whatever the umask. */
    if (fd >= 0 && fchmod(fd, mode) < 0)
        error = errno;
    errno = error;
    return fd;
}

void place_file(struct runner *r, const char *name, uint32_t mode) {
    /* A FILE that cannot be placed is not the worker's protocol error: the runs answer INTERNAL with its errno. */
    r->sink = (struct sink){create(r->box_fd, name, (mode_t)(mode & 0777)), &r->job->error, NULL};
    if (r->sink.fd < 0 && r->job->error == 0)
        r->job->error = errno;
}

void place_input(struct runner *r, struct run *run) {
    run->has_input = true;
    r->sink = (struct sink){-1, &run->error, run};
    if (run->state == RUN_ANSWERED)
        return;
    run->in_fd = r->sink.fd = memfd_create("stdin", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (run->in_fd < 0)
        run->error = errno;
}

static void write_all(struct sink *sink, const uint8_t *data, size_t size) {
    while (size > 0 && sink->fd >= 0 && *sink->error == 0) {
        ssize_t n = write(sink->fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            *sink->error = n < 0 ? errno : EIO;
            return;
        }
        data += n;
        size -= (size_t)n;
    }
}

/* A program must not be able to change its own input, which it gets open for writing too, nor to find it read already. */
static void finish_input(struct runner *r, struct run *run) {
    r->job->inputs_left--;
    if (run->in_fd >= 0 && run->error == 0 &&
        (fcntl(run->in_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0 ||
         lseek(run->in_fd, 0, SEEK_SET) < 0))
        run->error = errno;
    if (run->state == RUN_WAITING)
        run->state = RUN_READY;
}

void place_data(struct runner *r, const struct event *event) {
    struct sink *sink = &r->sink;
    write_all(sink, event->data, event->size);
    if (!event->last)
        return;
    if (sink->run != NULL) {
        finish_input(r, sink->run);
    } else {
        if (sink->fd >= 0)
            close(sink->fd);
        r->job->files_left--;
    }
    *sink = (struct sink){-1, NULL, NULL};
}
