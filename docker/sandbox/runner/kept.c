/*
 * Files that stay in the container between jobs, so that a program that runs again need not be sent again.
 *
 * Theory of operation. A KEEP puts its content into a directory of /box that only root can look into, under the id that the worker
 * has chosen, and links it to its name in /box. The reset removes that link as it removes all else. A KEPT of a later job links the
 * same file again: nothing is copied, and the pages of the program stay what they were. When there is no room the file that was used
 * longest ago goes. The worker keeps count by the same rule, but what it believes does not matter: a KEPT for what is not there is
 * answered with NEEDED, and the job waits for a KEEP.
 *
 * Trust. A program can read and execute the kept files that its own job has named, as any file in /box, and none of the others: all
 * that it can learn is how many there are and when the last one came (size and time of their directory). It can write to none, as they are root's; it can give none another name, as places where it
 * may write are other file systems; and what it changes in its memory of them is its own copy. All the same the reset verifies that
 * each is the very file that was written, never written to since, with one link.
 */
#include "kept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tree.h"

enum { NAME_ROOM = 24 };

static void name_of(char *name, uint64_t id) { snprintf(name, NAME_ROOM, "%016llx", (unsigned long long)id); }

bool kept_is_reserved(const char *name) {
    size_t size = strcspn(name, "/");
    return size == strlen(KEPT_DIRECTORY) && strncmp(name, KEPT_DIRECTORY, size) == 0;
}

static struct kept *find(struct kept_files *kept, uint64_t id) {
    for (unsigned i = 0; i < kept->count; i++)
        if (kept->files[i].id == id)
            return &kept->files[i];
    return NULL;
}

/* Takes it out of the order of use: oldest first. */
static void take_out(struct kept_files *kept, const struct kept *file) {
    size_t index = (size_t)(file - kept->files);
    kept->bytes -= file->size;
    kept->count--;
    memmove(&kept->files[index], &kept->files[index + 1], (kept->count - index) * sizeof *file);
}

static void put_last(struct kept_files *kept, struct kept file) {
    kept->bytes += file.size;
    kept->files[kept->count++] = file;
}

/* A link in /box stays until the reset. What cannot be removed is found there. */
static void forget(struct kept_files *kept, const struct kept *file) {
    char name[NAME_ROOM];
    name_of(name, file->id);
    unlinkat(kept->fd, name, 0);
    take_out(kept, file);
}

static void make_room(struct kept_files *kept, uint64_t size) {
    while (kept->count > 0 && (kept->count >= KEPT_FILES || kept->bytes + size > KEPT_BYTES))
        forget(kept, &kept->files[0]);
}

static bool open_directory(struct runner *r) {
    if (r->kept.fd < 0 && mkdirat(r->box_fd, KEPT_DIRECTORY, 0700) == 0)
        r->kept.fd = openat(r->box_fd, KEPT_DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return r->kept.fd >= 0;
}

static int link_into_box(struct runner *r, uint64_t id, const char *name) {
    char kept[NAME_ROOM];
    name_of(kept, id);
    return place_link(r, r->kept.fd, kept, name);
}

int kept_create(struct runner *r, const struct event *event) {
    struct kept_files *kept = &r->kept;
    char name[NAME_ROOM];
    if (!open_directory(r))
        return -1;
    const struct kept *old = find(kept, event->id);
    if (old != NULL)
        forget(kept, old);
    make_room(kept, event->content);
    name_of(name, event->id);
    mode_t mode = (mode_t)(event->mode & 0777);
    int fd = openat(kept->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return -1;
    put_last(kept, (struct kept){.id = event->id, .size = event->content});
    int error = fchmod(fd, mode) < 0 ? errno : link_into_box(r, event->id, event->name);
    if (error == 0)
        return fd;
    kept_settle(r, fd, error);
    errno = error;
    return -1;
}

void kept_settle(struct runner *r, int fd, int error) {
    struct kept *last = &r->kept.files[r->kept.count - 1];
    struct stat st;
    if (error != 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_size != last->size)
        forget(&r->kept, last);
    else
        last->placed = st;
    close(fd);
}

bool kept_place(struct runner *r, const struct event *event, int *error) {
    const struct kept *found = find(&r->kept, event->id);
    if (found == NULL)
        return false;
    struct kept file = *found;
    take_out(&r->kept, found);
    put_last(&r->kept, file);
    *error = link_into_box(r, file.id, event->name);
    return true;
}

static bool same_time(struct timespec a, struct timespec b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

static bool is_as_placed(const struct kept_files *kept, const struct kept *file) {
    const struct stat *placed = &file->placed;
    struct stat st;
    char name[NAME_ROOM];
    name_of(name, file->id);
    return fstatat(kept->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == placed->st_ino && st.st_size == placed->st_size &&
           st.st_mode == placed->st_mode && st.st_uid == 0 && st.st_gid == 0 && st.st_nlink == 1 &&
           same_time(st.st_mtim, placed->st_mtim);
}

static int count_entry(int fd, const char *name, void *argument) {
    (void)fd, (void)name;
    ++*(unsigned *)argument;
    return 0;
}

bool kept_verify(const struct runner *r) {
    const struct kept_files *kept = &r->kept;
    unsigned entries = 0;
    struct stat st;
    if (kept->fd < 0)
        return true;
    if (fstat(kept->fd, &st) < 0 || st.st_mode != (S_IFDIR | 0700) || st.st_uid != 0 || st.st_nlink != 2 ||
        tree_each(kept->fd, count_entry, &entries) != 0 || entries != kept->count)
        return false;
    for (unsigned i = 0; i < kept->count; i++)
        if (!is_as_placed(kept, &kept->files[i]))
            return false;
    return true;
}
