/*
 * The bare loop: how fast a program can be started again and again with nothing around it. One posix_spawn per test, stdin from
 * a file, stdout into a memfd that is read back and compared, usage from wait4.
 *
 * floor DIRECTORY TESTS PROGRAM ARGUMENT...
 *
 * DIRECTORY holds 0.in, 0.ans, 1.in ... For each line "RUNS PARALLEL" on stdin, one line on stdout:
 * "SECONDS WRONG CPU_SECONDS", where CPU_SECONDS is that of the programs and of the loop.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_TESTS 1000
#define MOST_PARALLEL 64
#define OUTPUT_BYTES 65536

struct test {
    char input[4096];
    char answer[OUTPUT_BYTES];
    size_t answer_length;
};

struct run {
    pid_t pid;
    int output;
    const struct test *test;
};

extern char **environ;

static struct test tests[MOST_TESTS];
static struct run running[MOST_PARALLEL];
static size_t wrong;

static void load(const char *directory, size_t index)
{
    char path[4096];
    struct test *test = &tests[index];
    snprintf(test->input, sizeof test->input, "%s/%zu.in", directory, index);
    snprintf(path, sizeof path, "%s/%zu.ans", directory, index);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        err(1, "%s", path);
    test->answer_length = fread(test->answer, 1, sizeof test->answer, file);
    fclose(file);
}

static void start(struct run *run, const struct test *test, char **argv)
{
    posix_spawn_file_actions_t actions;
    run->test = test;
    run->output = memfd_create("stdout", MFD_CLOEXEC);
    if (run->output < 0)
        err(1, "memfd_create");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, test->input, O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, run->output, 1);
    if (posix_spawnp(&run->pid, argv[0], &actions, NULL, argv, environ) != 0)
        errx(1, "cannot start %s", argv[0]);
    posix_spawn_file_actions_destroy(&actions);
}

static void finish(struct run *run, int status)
{
    static char output[OUTPUT_BYTES];
    const struct test *test = run->test;
    ssize_t length = pread(run->output, output, sizeof output, 0);
    close(run->output);
    run->pid = 0;
    if (status != 0 || length != (ssize_t)test->answer_length || memcmp(output, test->answer, test->answer_length) != 0)
        wrong++;
}

static struct run *reap(size_t parallel)
{
    int status;
    struct rusage usage;
    pid_t pid = wait4(-1, &status, 0, &usage);
    for (size_t i = 0; i < parallel; i++) {
        if (running[i].pid == pid) {
            finish(&running[i], status);
            return &running[i];
        }
    }
    errx(1, "a child that nobody started");
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double children_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void run_all(size_t runs, size_t count, size_t parallel, char **argv)
{
    size_t started = 0, ended = 0;
    for (; started < runs && started < parallel; started++)
        start(&running[started], &tests[started % count], argv);
    while (ended < runs) {
        struct run *free_place = reap(parallel);
        ended++;
        if (started < runs)
            start(free_place, &tests[started++ % count], argv);
    }
}

int main(int argc, char **argv)
{
    size_t count = argc < 4 ? 0 : strtoul(argv[2], NULL, 10), runs, parallel;
    if (count == 0 || count > MOST_TESTS)
        errx(2, "usage: floor DIRECTORY TESTS PROGRAM ARGUMENT...");
    for (size_t i = 0; i < count; i++)
        load(argv[1], i);
    while (scanf("%zu %zu", &runs, &parallel) == 2) {
        if (parallel == 0 || parallel > MOST_PARALLEL)
            errx(2, "1 to %d programs at a time", MOST_PARALLEL);
        double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) + children_seconds();
        wrong = 0;
        run_all(runs, count, parallel, argv + 3);
        wall = seconds(CLOCK_MONOTONIC) - wall;
        printf("%.6f %zu %.6f\n", wall, wrong, seconds(CLOCK_PROCESS_CPUTIME_ID) + children_seconds() - cpu);
        fflush(stdout);
    }
    return 0;
}
