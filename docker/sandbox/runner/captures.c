/*
 * What runs write to stdout and stderr: files in memory. Nothing is copied while the program runs, RLIMIT_FSIZE bounds them, and a
 * full one never blocks. O_APPEND makes them behave like a pipe where a seek or a reopened /dev/stdout would otherwise overwrite
 * earlier output.
 *
 * The captures of a forked run may also be held by the fork server and by other tests of its submission, so they are sealed when it
 * has ended, before a byte of them is read. To make, seal and remove a file costs as much as a twentieth of a short test, and
 * most tests write nothing to stderr. A file that is found empty and as it was made is therefore not sealed but kept for a later
 * run of the same fork server: the one that has ended is answered with no stderr whatever becomes of the file. Whoever still holds
 * it can write to it while the later run is under way, as he can write to that run's own captures anyway: the server is given
 * them, and tests of one uid can open each other's. Runs by exec, which are apart from each other, always get new ones.
 */
#include "captures.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int capture_open(const char *name, int *fd) {
    *fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0 || fcntl(*fd, F_SETFL, O_APPEND) < 0)
        return errno;
    return 0;
}

static int open_stderr(struct job *job, struct run *run) {
    struct server *server = &job->server;
    if (!run->served || server->captures == 0)
        return capture_open("stderr", &run->err_fd);
    run->err_fd = server->spare_captures[--server->captures];
    return 0;
}

int captures_open(struct job *job, struct run *run) {
    int error = capture_open("stdout", &run->out_fd);
    return error != 0 || (job->spec.flags & JOB_MERGE_STDERR) != 0 ? error : open_stderr(job, run);
}

/* What a program can change about a file and its one open description, and the next one could see. */
static bool is_as_made(int fd) {
    const int changeable = O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK;
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_size == 0 && st.st_blocks == 0 && lseek(fd, 0, SEEK_CUR) == 0 &&
           (fcntl(fd, F_GETFL) & changeable) == O_APPEND && fcntl(fd, F_GET_SEALS) == 0;
}

static bool keep(struct server *server, int *fd) {
    if (*fd < 0 || server->state != SERVER_UP || server->captures == SPARE_CAPTURES || !is_as_made(*fd))
        return false;
    server->spare_captures[server->captures++] = *fd;
    *fd = -1;
    return true;
}

/* Fails if the program has sealed it, or if somebody holds a mapping through which it could still be changed. */
static bool seal(int fd) {
    return fd < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0;
}

bool captures_settle(struct server *server, struct run *run) {
    return seal(run->out_fd) && (keep(server, &run->err_fd) || seal(run->err_fd));
}

void captures_close(struct run *run) {
    if (run->out_fd >= 0)
        close(run->out_fd);
    if (run->err_fd >= 0)
        close(run->err_fd);
    run->out_fd = run->err_fd = -1;
}

void captures_forget(struct server *server) {
    while (server->captures > 0)
        close(server->spare_captures[--server->captures]);
}
