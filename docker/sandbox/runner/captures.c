/*
 * What runs write to stdout and stderr: files in memory. Nothing is copied while the program runs, RLIMIT_FSIZE bounds them, and a
 * full one never blocks. O_APPEND makes them behave like a pipe where a seek or a reopened /dev/stdout would otherwise overwrite
 * earlier output.
 *
 * The captures of a forked run may also be held by the fork server and by other tests of its submission, so what it has written
 * must not change any more when it has ended: a short stdout is copied at once, anything longer is sealed before a byte of it is
 * read. To make, seal and remove a file costs as much as a twentieth of a short test. So a stdout that was copied and is emptied,
 * and a stderr that nothing was written to, are kept for a later run of the same fork server if they are as they were made. Whoever
 * still holds such a file can write to it while the later run is under way, as he can write to that run's own captures anyway: the
 * server is given them, and tests of one uid can open each other's. Runs by exec, which are apart from each other, always get new
 * ones.
 */
#include "captures.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int capture_open(const char *name, int *fd) {
    *fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0 || fcntl(*fd, F_SETFL, O_APPEND) < 0)
        return errno;
    return 0;
}

static int take_spare(struct spare_captures *spares, const char *name, int *fd) {
    if (spares->count == 0)
        return capture_open(name, fd);
    *fd = spares->fds[--spares->count];
    return 0;
}

int captures_open(struct job *job, struct run *run) {
    struct spare_captures none = {0};
    int error = take_spare(run->served ? &job->server.spare_stdout : &none, "stdout", &run->out_fd);
    if (error != 0 || (job->spec.flags & JOB_MERGE_STDERR) != 0)
        return error;
    return take_spare(run->served ? &job->server.spare_stderr : &none, "stderr", &run->err_fd);
}

/* What a program can change about a file and its one open description, and the next one could see. */
static bool is_as_made(int fd) {
    const int changeable = O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK;
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_size == 0 && st.st_blocks == 0 && lseek(fd, 0, SEEK_CUR) == 0 &&
           (fcntl(fd, F_GETFL) & changeable) == O_APPEND && fcntl(fd, F_GET_SEALS) == 0;
}

static bool keep(const struct server *server, struct spare_captures *spares, int *fd) {
    if (*fd < 0 || server->state != SERVER_UP || spares->count == SPARE_CAPTURES || !is_as_made(*fd))
        return false;
    spares->fds[spares->count++] = *fd;
    *fd = -1;
    return true;
}

/* Fails if the program has sealed it, or if somebody holds a mapping through which it could still be changed. */
static bool seal(int fd) {
    return fd < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0;
}

/* What is written now, if that is little: it becomes the run's, and the file is empty. */
static bool copy_stdout(struct run *run) {
    struct stat st;
    if (run->out_fd < 0 || fstat(run->out_fd, &st) < 0 || st.st_size > MAX_COPY_BYTES)
        return false;
    size_t size = (size_t)st.st_size;
    run->out_copy = malloc(size + 1);
    if (run->out_copy == NULL || pread(run->out_fd, run->out_copy, size, 0) != (ssize_t)size || ftruncate(run->out_fd, 0) < 0 ||
        lseek(run->out_fd, 0, SEEK_SET) < 0) {
        free(run->out_copy);
        run->out_copy = NULL;
        return false;
    }
    run->out_copied = size;
    return true;
}

static bool settle_stdout(struct server *server, struct run *run) {
    if (!copy_stdout(run))
        return seal(run->out_fd);
    if (!keep(server, &server->spare_stdout, &run->out_fd))
        close(run->out_fd);
    run->out_fd = -1;
    return true;
}

bool captures_settle(struct server *server, struct run *run) {
    return settle_stdout(server, run) && (keep(server, &server->spare_stderr, &run->err_fd) || seal(run->err_fd));
}

static uint64_t size_of(int fd) {
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

bool captures_exceed(const struct run *run, uint64_t bytes) {
    return run->out_copied > bytes || size_of(run->out_fd) > bytes || size_of(run->err_fd) > bytes;
}

void captures_close(struct run *run) {
    if (run->out_fd >= 0)
        close(run->out_fd);
    if (run->err_fd >= 0)
        close(run->err_fd);
    free(run->out_copy);
    run->out_copy = NULL;
    run->out_copied = 0;
    run->out_fd = run->err_fd = -1;
}

static void forget(struct spare_captures *spares) {
    while (spares->count > 0)
        close(spares->fds[--spares->count]);
}

void captures_forget(struct server *server) {
    forget(&server->spare_stdout);
    forget(&server->spare_stderr);
}
