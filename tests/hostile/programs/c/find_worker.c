/* Looks for the way to the worker: the folder where the runner's socket was, the token that it named, its connection. Prints what
 * it could do. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define FOLDER "/run/evalx"
#define PLACE FOLDER "/worker"

static void worked(const char *what) { printf("worked: %s\n", what); }

static void try_folder(void) {
    struct stat st;
    if (stat(FOLDER, &st) < 0)
        return;
    if ((st.st_mode & 077) != 0 || st.st_uid == getuid())
        worked("permissions");
    if (opendir(FOLDER) != NULL || open(FOLDER, O_RDONLY) >= 0 || chdir(FOLDER) == 0)
        worked("open the folder");
    if (stat(PLACE, &st) == 0 || errno != EACCES)
        worked("look into the folder");
    if (open(FOLDER "/x", O_CREAT | O_WRONLY, 0777) >= 0 || mkdir(FOLDER "/d", 0777) == 0 || symlink("/", FOLDER "/l") == 0)
        worked("write to the folder");
    if (chmod(FOLDER, 0777) == 0 || rename(FOLDER, "/tmp/x") == 0 || rmdir(FOLDER) == 0 || umount2(FOLDER, MNT_DETACH) == 0)
        worked("change the folder");
    if (link(PLACE, "/tmp/worker") == 0 || (symlink(PLACE, "/tmp/way") < 0 && errno != EEXIST) || open("/tmp/way", O_PATH) >= 0)
        worked("link");
}

static void try_socket(const char *path, int type, int bind_it) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, type, 0);
    if (fd >= 0 && (bind_it ? bind : connect)(fd, (struct sockaddr *)&address, sizeof address) == 0)
        worked(bind_it ? "bind" : "connect");
    close(fd);
}

static void try_file(const char *path) {
    char byte;
    int fd = open(path, O_RDONLY);
    if (fd >= 0 && read(fd, &byte, 1) > 0)
        worked(path);
    close(fd);
}

/* Sockets of this network namespace that have a name: the runner's has none here, its peer's is in another. */
static void try_names(void) {
    char line[512];
    FILE *file = fopen("/proc/net/unix", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strstr(line, "evalx") != NULL || strstr(line, "worker") != NULL)
            worked("its name");
    if (file != NULL)
        fclose(file);
}

int main(void) {
    static const char *const files[] = {"/proc/1/environ", "/proc/1/fdinfo/0", "/proc/1/fdinfo/1", "/proc/1/fd/0", "/proc/1/fd/1",
                                        "/proc/1/root/run/evalx/worker", "/proc/1/mem", "/proc/1/task/1/environ"};
    for (int fd = 3; fd < 70000; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            worked("inherited");
    try_folder();
    for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type++) {
        try_socket(PLACE, type, 0);
        try_socket(PLACE, type, 1);
        try_socket("/tmp/way", type, 0);
        try_socket("/proc/1/root/run/evalx/worker", type, 0);
        try_socket("/proc/1/fd/0", type, 0);
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        try_file(files[i]);
    try_names();
    puts("end");
    return 0;
}
