/*
 * Copy-out of what a run has made. Copying through links, FIFOs and devices were the escapes of other judges
 * (CVE-2024-28185, -28189, -29021). Here all processes of the run are dead, every step goes through a directory descriptor with
 * O_NOFOLLOW, nothing but a regular file with one link is taken, and what is sent is the very descriptor that was checked.
 * All files are opened and summed up before the first is sent: it is everything or COLLECT_FAILED.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "runner.h"
#include "tree.h"

/* Head of COLLECTED and the largest name, so that a file fits into one frame. */
#define MAX_CONTENT_BYTES (MAX_FRAME_BYTES - MAX_NAME_BYTES - 16)

struct found {
    int fd;
    uint32_t mode;
    uint64_t size;
    char *name;
};

struct collection {
    struct found *files;
    size_t count, room;
    uint64_t left; /* of the bytes that may be sent */
    unsigned depth;
    const char *prefix; /* of the directory that is being read, "" or ending in '/' */
    char why[256];
};

static int failed(struct collection *c, const char *name, const char *why) {
    if (c->why[0] == '\0')
        snprintf(c->why, sizeof c->why, "%s%s: %s", c->prefix, name, why);
    return 1;
}

static int keep(struct collection *c, struct found file) {
    if (c->count == c->room) {
        size_t room = c->room == 0 ? 8 : c->room * 2;
        struct found *files = realloc(c->files, room * sizeof *files);
        if (files == NULL)
            return -1;
        c->files = files;
        c->room = room;
    }
    c->files[c->count++] = file;
    return 0;
}

static int take_file(struct collection *c, int fd, const char *name, const struct stat *st) {
    struct found file = {fd, st->st_mode & 0777, (uint64_t)st->st_size, NULL};
    const char *why = NULL;
    if (!S_ISREG(st->st_mode))
        why = "not a regular file";
    else if (st->st_nlink != 1)
        why = "has more than one link";
    else if (file.size > c->left || file.size > MAX_CONTENT_BYTES)
        why = "too large";
    else if (c->count >= MAX_COLLECT_FILES)
        why = "too many files";
    else if (strlen(c->prefix) + strlen(name) >= MAX_NAME_BYTES)
        why = "name is too long";
    else if (asprintf(&file.name, "%s%s", c->prefix, name) < 0 || keep(c, file) < 0)
        why = "no memory";
    if (why == NULL) {
        c->left -= file.size;
        return 0;
    }
    free(file.name);
    close(fd);
    return failed(c, name, why);
}

static int take_entry(int directory, const char *name, void *argument);

/* Recursion is bounded by MAX_COLLECT_DEPTH. */
static int take_tree(struct collection *c, int fd, const char *name) {
    const char *outer = c->prefix;
    char *prefix;
    if (++c->depth > MAX_COLLECT_DEPTH || asprintf(&prefix, "%s%s/", outer, name) < 0) {
        c->depth--;
        close(fd);
        return failed(c, name, "too deep");
    }
    c->prefix = prefix;
    int result = tree_each(fd, take_entry, c);
    c->prefix = outer;
    c->depth--;
    free(prefix);
    close(fd);
    return result < 0 ? failed(c, name, "cannot be read") : result;
}

static int open_entry(int directory, const char *name, struct stat *st) {
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, st) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static int take_entry(int directory, const char *name, void *argument) {
    struct collection *c = argument;
    struct stat st;
    int fd = open_entry(directory, name, &st);
    if (fd < 0)
        return failed(c, name, errno == ELOOP ? "is a symbolic link" : strerror(errno));
    return S_ISDIR(st.st_mode) ? take_tree(c, fd, name) : take_file(c, fd, name, &st);
}

static int take_last(struct collection *c, int directory, const char *name, bool tree) {
    struct stat st;
    int fd = open_entry(directory, name, &st);
    if (fd < 0)
        return failed(c, name, errno == ELOOP ? "is a symbolic link" : strerror(errno));
    if (!tree)
        return take_file(c, fd, name, &st);
    if (S_ISDIR(st.st_mode))
        return take_tree(c, fd, name);
    close(fd);
    return failed(c, name, "not a directory");
}

/* Walks down to the last part of a checked path ("a/b", "a/b/"), cutting `path` up on the way. */
static int take_path(struct collection *c, int cwd, char *path) {
    char *name = path, *slash;
    size_t size = strlen(path);
    bool tree = path[size - 1] == '/';
    int directory = fcntl(cwd, F_DUPFD_CLOEXEC, 3), result = 1;
    if (tree)
        path[size - 1] = '\0';
    while (directory >= 0 && (slash = strchr(name, '/')) != NULL) {
        *slash = '\0';
        int next = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        close(directory);
        directory = next;
        *slash = '/';
        name = slash + 1;
    }
    char prefix[MAX_NAME_BYTES];
    snprintf(prefix, sizeof prefix, "%.*s", (int)(name - path), path);
    c->prefix = prefix;
    if (directory >= 0)
        result = take_last(c, directory, name, tree);
    else
        failed(c, name, strerror(errno));
    c->prefix = "";
    if (directory >= 0)
        close(directory);
    return result;
}

static int take_all(struct collection *c, const struct runner *r, const struct job *job, const struct run *run) {
    char name[16];
    snprintf(name, sizeof name, "%u", (unsigned)run->uid);
    int cwd = openat(r->work_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (cwd < 0)
        return failed(c, "", strerror(errno));
    int result = 0;
    for (unsigned i = 0; i < job->spec.collectc && result == 0; i++)
        result = take_path(c, cwd, job->spec.collect[i]);
    close(cwd);
    return result;
}

static void send_file(struct runner *r, const struct found *file) {
    uint8_t head[4 + 2 + MAX_NAME_BYTES];
    size_t size = strlen(file->name);
    uint8_t *at = put_u32(head, file->mode);
    at = put_u16(at, (uint16_t)size);
    memcpy(at, file->name, size);
    outq_push(&r->out, FRAME_COLLECTED, head, 6 + size, (struct out_part){file->fd, file->size}, (struct out_part){-1, 0});
}

void collect(struct runner *r, const struct job *job, const struct run *run) {
    struct collection c = {.left = job->spec.collect_max_bytes, .prefix = ""};
    bool complete = take_all(&c, r, job, run) == 0;
    if (!complete)
        outq_push_text(&r->out, FRAME_COLLECT_FAILED, c.why);
    for (size_t i = 0; i < c.count; i++) {
        if (complete)
            send_file(r, &c.files[i]);
        else
            close(c.files[i].fd);
        free(c.files[i].name);
    }
    free(c.files);
}
