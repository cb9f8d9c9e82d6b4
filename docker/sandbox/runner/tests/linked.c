/*
 * A program that has the fork server linked in, or only says so (-DFORGED). Its words: what ran before the fork (priority 100 and
 * lower, as a language's library), what ran after it, the number of CPUs it may use and its environment.
 */
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#ifdef FORGED
#include "../forkserver.h"
__attribute__((section(".note.evalx"), aligned(4), used)) static const struct {
    uint32_t name_size, value_size, type;
    char name[8];
    uint32_t version;
} note = {sizeof FORKSERVER_NOTE_NAME, sizeof(uint32_t), FORKSERVER_NOTE_TYPE, FORKSERVER_NOTE_NAME, FORKSERVER_VERSION};
#endif

extern char **environ;
static pid_t library, program;

#pragma GCC diagnostic ignored "-Wprio-ctor-dtor"
__attribute__((constructor(90))) static void start_library(void) { library = getpid(); }
__attribute__((constructor(101))) static void start_program(void) { program = getpid(); }

int main(void) {
    cpu_set_t cpus;
    char text[64];
    ssize_t n = read(0, text, sizeof text);
    sched_getaffinity(0, sizeof cpus, &cpus);
    printf("library %s program %s cpus %d\n", library == getpid() ? "here" : "before", program == getpid() ? "here" : "before",
           CPU_COUNT(&cpus));
    for (char **e = environ; *e != NULL; e++)
        printf("%s\n", *e);
    printf("%.*s", (int)(n > 0 ? n : 0), text);
    return 0;
}
