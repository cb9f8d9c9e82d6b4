/*
 * A program that has the fork server linked in, or only says so (-DFORGED). Its words: what ran before the fork (priority 100 and
 * lower, as a language's library), what ran after it, the number of CPUs it may use, its environment, and what its directory is
 * like. By its input it changes the directory afterwards: 'm' makes something there, 'c' changes its mode.
 */
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
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

static void show_directory(void) {
    struct stat st;
    int entries = -2; /* "." and ".." */
    DIR *directory = opendir(".");
    while (directory != NULL && readdir(directory) != NULL)
        entries++;
    if (directory != NULL)
        closedir(directory);
    printf("entries %d mode %o\n", entries, stat(".", &st) == 0 ? st.st_mode & 07777 : 0);
}

int main(void) {
    cpu_set_t cpus;
    char text[64];
    ssize_t n = read(0, text, sizeof text);
    sched_getaffinity(0, sizeof cpus, &cpus);
    printf("library %s program %s cpus %d\n", library == getpid() ? "here" : "before", program == getpid() ? "here" : "before",
           CPU_COUNT(&cpus));
    for (char **e = environ; *e != NULL; e++)
        printf("%s\n", *e);
    show_directory();
    printf("%.*s", (int)(n > 0 ? n : 0), text);
    if (n > 0 && text[0] == 'm')
        return mkdir("made", 0700);
    if (n > 0 && text[0] == 'c')
        return chmod(".", 0755);
    return 0;
}
