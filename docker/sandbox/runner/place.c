/*
 * Content of FILE, KEEP and INPUT frames goes from the pipe straight to its file. A FILE is closed before any run may start, and no
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

#include "bytes.h"
#include "kept.h"

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

/* The directory of a name in /box, made if need be, or -1; `copy` has room for MAX_NAME_BYTES + 1, *last becomes the last part. */
static int open_place_of(const struct runner *r, const char *name, char *copy, char **last) {
    if (kept_is_reserved(name)) {
        errno = EEXIST;
        return -1;
    }
    snprintf(copy, MAX_NAME_BYTES + 1, "%s", name);
    *last = copy;
    return open_parent(r->box_fd, last);
}

static int create(const struct runner *r, const struct event *event) {
    char copy[MAX_NAME_BYTES + 1], *name;
    mode_t mode = (mode_t)(event->mode & 0777);
    int parent = open_place_of(r, event->name, copy, &name);
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

int place_link(struct runner *r, int directory, const char *file, const char *name) {
    char copy[MAX_NAME_BYTES + 1], *last;
    int parent = open_place_of(r, name, copy, &last);
    if (parent < 0)
        return errno;
    int error = linkat(directory, file, parent, last, 0) < 0 ? errno : 0;
    close(parent);
    return error;
}

static void note_error(struct job *job, int error) {
    if (job->error == 0)
        job->error = error;
}

void place_file(struct runner *r, const struct event *event) {
    bool keep = event->kind == EV_KEEP && event->content <= KEPT_BYTES;
    /* A FILE that cannot be placed is not the worker's protocol error: the runs answer INTERNAL with its errno. */
    int fd = keep ? kept_create(r, event) : create(r, event);
    r->sink = (struct sink){.fd = fd, .keep = keep, .error = &r->job->error};
    if (fd < 0)
        note_error(r->job, errno);
}

void place_kept(struct runner *r, const struct event *event) {
    uint8_t id[8];
    int error = 0;
    if (kept_place(r, event, &error)) {
        r->job->files_left--;
        note_error(r->job, error);
        return;
    }
    put_u64(id, event->id);
    outq_push(&r->out, FRAME_NEEDED, id, sizeof id, (struct out_part){-1, 0}, (struct out_part){-1, 0});
}

void place_input(struct runner *r, struct run *run) {
    run->has_input = true;
    r->sink = (struct sink){.fd = -1, .error = &run->error, .run = run};
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

/*
 * A program must not be able to change its own input, which it gets open for writing too. Nobody has mapped it yet, so a ban of
 * future writes is a ban of all; F_SEAL_WRITE besides looks for pages in use, first on every list where they wait. It is for
 * kernels that know no other.
 */
static bool seal_input(int fd) {
    const int others = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    return fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | others) == 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | others) == 0;
}

/* Nor may it find its input read already. */
static void finish_input(struct runner *r, struct run *run) {
    r->job->inputs_left--;
    if (run->in_fd >= 0 && run->error == 0 &&
        (!seal_input(run->in_fd) || lseek(run->in_fd, 0, SEEK_SET) < 0))
        run->error = errno;
    if (run->state == RUN_WAITING)
        run->state = RUN_READY;
}

static void finish_file(struct runner *r, const struct sink *sink) {
    if (sink->fd >= 0 && sink->keep)
        kept_settle(r, sink->fd, *sink->error);
    else if (sink->fd >= 0)
        close(sink->fd);
    r->job->files_left--;
}

void place_data(struct runner *r, const struct event *event) {
    struct sink *sink = &r->sink;
    write_all(sink, event->data, event->size);
    if (!event->last)
        return;
    if (sink->run != NULL)
        finish_input(r, sink->run);
    else
        finish_file(r, sink);
    *sink = (struct sink){.fd = -1};
}
