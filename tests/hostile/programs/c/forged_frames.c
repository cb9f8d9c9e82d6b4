/* Frames of the runner's protocol, on every descriptor that is open, on everybody's descriptors in /proc, and as plain output. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uint8_t frames[4096];
static size_t size;

static void add(uint8_t type, const void *payload, uint32_t length) {
    uint32_t whole = length + 1;
    memcpy(frames + size, &whole, 4);
    frames[size + 4] = type;
    memcpy(frames + size + 5, payload, length);
    size += 5 + length;
}

static void make(void) {
    for (uint32_t index = 0; index < 4; index++) {
        uint8_t result[51] = {0}; /* EXITED with 0 */
        memcpy(result, &index, 4);
        add(0x82, result, 47);
    }
    for (uint32_t job = 0; job < 4; job++) {
        uint8_t done[5] = {(uint8_t)job, 0, 0, 0, 1};
        add(0x84, done, sizeof done);
    }
    add(0x85, "", 0);
    add(0x86, "forged", 6);
}

static void write_to_all_of(const char *pid) {
    char path[300];
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *directory = opendir(path);
    for (struct dirent *e; directory != NULL && (e = readdir(directory)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%.20s/fd/%.20s", pid, e->d_name);
        int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && write(fd, frames, size) < 0)
            continue;
    }
    if (directory != NULL)
        closedir(directory);
}

int main(void) {
    make();
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0) {
            if (fd > 2)
                printf("worked: descriptor %d\n", fd);
            if (write(fd, frames, size) < 0 && fd > 2)
                send(fd, frames, size, MSG_NOSIGNAL);
        }
    DIR *processes = opendir("/proc");
    for (struct dirent *e; processes != NULL && (e = readdir(processes)) != NULL;)
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9')
            write_to_all_of(e->d_name);
    return 3;
}
