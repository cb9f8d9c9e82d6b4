/*
 * Runs next in a container where an attack was judged. First line: its user id. Then a line for each thing that is not as in a
 * fresh container; nobody may have left anything.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
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

/* Its own program, and where the runner keeps those of others: closed to all but root. */
static int the_spy(const char *name) {
    struct stat st;
    if (strcmp(name, ".kept") == 0)
        return stat("/box/.kept", &st) == 0 && st.st_mode == (S_IFDIR | 0700) && st.st_uid == 0;
    return strcmp(name, "spy") == 0;
}

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

static int as_ever(int number, const char *line) {
    static const char *const wanted[] = {
        "CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1", "Seccomp:\t2", "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "SigQ:\t0/", "TracerPid:\t0",
        "Threads:\t1", "Groups:\t \n",
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        size_t name = strcspn(wanted[i], ":") + 1;
        if (strncmp(line, wanted[i], name) == 0)
            return strncmp(line, wanted[i], strlen(wanted[i])) == 0;
    }
    return number >= 0;
}

static void check(int good, const char *what) {
    if (!good)
        printf("%s is not as it was\n", what);
}

/* What a process inherits, and an attack on the runner would have changed. */
static void check_inherited(void) {
    struct itimerval timer;
    cpu_set_t cpus;
    show_lines("/proc/self/status", as_ever);
    check(umask(022) == 022, "umask");
    check(getpriority(PRIO_PROCESS, 0) == 0 && getpriority(PRIO_PROCESS, 1) == 0, "priority");
    check(sched_getscheduler(0) == SCHED_OTHER && sched_getscheduler(1) == SCHED_OTHER, "scheduler");
    check(getitimer(ITIMER_REAL, &timer) == 0 && timer.it_value.tv_sec == 0 && timer.it_value.tv_usec == 0, "timer");
    check(sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) == get_nprocs_conf(), "set of CPUs");
    check(getsid(0) == getpid() && getppid() == 1, "session");
    show_lines("/proc/keys", a_heading);
}

int main(void) {
    char cwd[256];
    printf("uid %u\n", (unsigned)getuid());
    check_inherited();
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
