/*
 * Removal without recursion: a subdirectory that is not empty has its own subdirectories moved up next to it before it is
 * removed. Each directory moves at most once, so a chain of 100,000 nested directories costs the same stack, descriptors and
 * time per directory as a flat list; paths that are longer than PATH_MAX do not matter, as none is ever built.
 */
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_dot(const char *name) {
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

int tree_each(int fd, int (*visit)(int fd, const char *name, void *argument), void *argument) {
    /* The raw call: readdir() would allocate for each directory and needs a descriptor of its own. */
    _Alignas(struct dirent64) char buffer[8 << 10];
    if (lseek(fd, 0, SEEK_SET) < 0)
        return -1;
    for (;;) {
        long size = syscall(SYS_getdents64, fd, buffer, sizeof buffer);
        if (size <= 0)
            return (int)size;
        for (long at = 0; at < size;) {
            const struct dirent64 *entry = (const struct dirent64 *)(const void *)(buffer + at);
            int result = is_dot(entry->d_name) ? 0 : visit(fd, entry->d_name, argument);
            if (result != 0)
                return result;
            at += entry->d_reclen;
        }
    }
}

struct removal {
    int top;
    const char *but; /* spared in top */
    uint64_t removed, moved; /* by the current pass */
    uint64_t next_name;
};

static bool unlink_any(struct removal *removal, int fd, const char *name) {
    bool gone = unlinkat(fd, name, 0) == 0 || unlinkat(fd, name, AT_REMOVEDIR) == 0;
    removal->removed += gone;
    return gone;
}

/* RENAME_NOREPLACE: the adversary may have taken the names that are tried. */
static int move_up(int fd, const char *name, void *argument) {
    struct removal *removal = argument;
    char fresh[32];
    if (unlink_any(removal, fd, name))
        return 0;
    int result;
    do {
        snprintf(fresh, sizeof fresh, ".up%llu", (unsigned long long)removal->next_name++);
        result = renameat2(fd, name, removal->top, fresh, RENAME_NOREPLACE);
    } while (result < 0 && errno == EEXIST);
    removal->moved += result == 0;
    return 0;
}

/* A directory read while it shrinks may skip entries: passes go on until one finds nothing to do. */
static void hollow(struct removal *removal, int fd) {
    uint64_t before;
    do {
        before = removal->removed + removal->moved;
        tree_each(fd, move_up, removal);
    } while (removal->removed + removal->moved != before && !tree_is_empty(fd, NULL));
}

static bool is_spared(const char *name, const char *but) { return but != NULL && strcmp(name, but) == 0; }

static int remove_entry(int top, const char *name, void *argument) {
    struct removal *removal = argument;
    if (is_spared(name, removal->but) || unlink_any(removal, top, name))
        return 0;
    int fd = openat(top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return 0;
    hollow(removal, fd);
    close(fd);
    unlink_any(removal, top, name);
    return 0;
}

bool tree_empty(int fd, const char *but) {
    struct removal removal = {.top = fd, .but = but};
    while (!tree_is_empty(fd, but)) {
        uint64_t before = removal.removed;
        tree_each(fd, remove_entry, &removal);
        if (removal.removed == before)
            return false;
    }
    return true;
}

static int stop(int fd, const char *name, void *argument) {
    const char *const *but = argument;
    (void)fd;
    return !is_spared(name, *but);
}

bool tree_is_empty(int fd, const char *but) { return tree_each(fd, stop, &but) == 0; }
