/*
 * Runs next in a container where an attack was judged. First line: its user id. Then a line for each thing that is not as in a
 * fresh container; nobody may have left anything.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static void each(const char *directory, int (*is_fine)(const char *), const char *what) {
    DIR *d = opendir(directory);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && !is_fine(e->d_name))
            printf("%s in %s: %s\n", what, directory, e->d_name);
    if (d != NULL)
        closedir(d);
}

static int nothing(const char *name) { return *name == '\0'; }
static int the_spy(const char *name) { return strcmp(name, "spy") == 0; }
static int my_directory(const char *name) { return strtol(name, NULL, 10) == (long)getuid(); }

/* The runner, the spy, and an interpreter that waits for its work: root's, and with no files but its own. */
static int known_process(const char *name) {
    char path[64];
    struct stat st;
    if (!isdigit((unsigned char)*name) || atoi(name) == 1 || atoi(name) == getpid())
        return 1;
    snprintf(path, sizeof path, "/proc/%s", name);
    return stat(path, &st) == 0 && st.st_uid == 0;
}

static void show_lines(const char *path, int (*is_fine)(int, const char *)) {
    char line[4096];
    FILE *file = fopen(path, "r");
    for (int number = 0; file != NULL && fgets(line, sizeof line, file) != NULL; number++)
        if (!is_fine(number, line))
            printf("%s: %s", path, line);
    if (file != NULL)
        fclose(file);
}

static int a_heading(int number, const char *line) { return number == 0 && *line != '\0'; }
/* Pairs of sockets that the runner has made have no name. */
static int no_address(int number, const char *line) { return number == 0 || strpbrk(line, "@/") == NULL; }
/* The host's, on devices: they are of nobody here, and shown in every container. */
static int of_the_host(int number, const char *line) { return number >= 0 && strstr(line, "OFDLCK") != NULL; }

int main(void) {
    char cwd[256];
    printf("uid %u\n", (unsigned)getuid());
    each("/box", the_spy, "file");
    each("/scratch", my_directory, "file");
    each("/tmp", nothing, "file");
    each("/dev/shm", nothing, "file");
    each("/dev/mqueue", nothing, "queue");
    each(getcwd(cwd, sizeof cwd) != NULL ? cwd : "/none", nothing, "file");
    each("/proc", known_process, "process");
    show_lines("/proc/sysvipc/shm", a_heading);
    show_lines("/proc/sysvipc/sem", a_heading);
    show_lines("/proc/sysvipc/msg", a_heading);
    show_lines("/proc/net/unix", no_address);
    show_lines("/proc/locks", of_the_host);
    for (int fd = 0; fd < 4096; fd++)
        if (fd > 2 && fcntl(fd, F_GETFD) >= 0)
            printf("descriptor %d\n", fd);
    for (char **e = environ; *e != NULL; e++)
        if (strcmp(*e, "A=b") != 0)
            printf("environment %s\n", *e);
    return 0;
}
