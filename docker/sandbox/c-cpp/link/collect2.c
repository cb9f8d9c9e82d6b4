// What gcc calls to link: it links with the slim archives where that gives the very program that the whole libraries would give.
//
// mold reads each member of each archive that is named, and programs need one in six of them. archives.sh has made archives of
// those that programs usually need. They are tried first; whatever the linker has to say about that, an error or a warning, is not
// shown but is the sign to start again, with GCC's own collect2 and all of the libraries, as if this program were not there. So
// each message is from there. That the program is the same is the archives' concern: see archives.sh.
//
// It runs on objects that strangers wrote, so it looks into none of them.
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// The image says where.
static char whole[] = COLLECT2;       // GCC's own
static char linker[] = LINKER;        // mold
static char for_c[] = "-L" SLIM "/c"; // the archives
static char for_cpp[] = "-L" SLIM "/c++";

// The linker's arguments: those of collect2, with the folder of the slim archives before all others. To be freed.
static char **slim_arguments(int argc, char **argv) {
    // Two more: the folder, and the null at the end.
    char **arguments = calloc((size_t)argc + 2, sizeof *arguments);
    if (arguments == NULL) return NULL;
    size_t count = 0;
    arguments[count++] = linker;
    arguments[count++] = for_c;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-lstdc++") == 0) arguments[1] = for_cpp;
        // For collect2 alone: which linker to look for.
        if (strncmp(argv[i], "-fuse-ld=", strlen("-fuse-ld=")) != 0) arguments[count++] = argv[i];
    }
    return arguments;
}

// Reads until all writers have ended. True: they wrote nothing.
static bool silent(int from) {
    bool nothing = true;
    for (;;) {
        char room[4096];
        ssize_t got = read(from, room, sizeof room);
        if (got == 0) return nothing;
        if (got > 0 || errno != EINTR) nothing = false;
        if (got < 0 && errno != EINTR) return false;
    }
}

// Its stdout and stderr are the pipe's end `into`. 0, or an error number.
static int start(pid_t *child, char **arguments, int into) {
    posix_spawn_file_actions_t actions;
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0) return error;
    error = posix_spawn_file_actions_adddup2(&actions, into, STDOUT_FILENO);
    if (error == 0) error = posix_spawn_file_actions_adddup2(&actions, into, STDERR_FILENO);
    if (error == 0) error = posix_spawn(child, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static bool succeeded(pid_t child) {
    int status = 0;
    pid_t waited = 0;
    do waited = waitpid(child, &status, 0);
    while (waited < 0 && errno == EINTR);
    return waited == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// True: linked, and nothing was to be said about it.
static bool linked(char **arguments) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    pid_t child = 0;
    int error = start(&child, arguments, ends[1]);
    close(ends[1]);
    bool nothing = error == 0 && silent(ends[0]);
    close(ends[0]);
    return error == 0 && succeeded(child) && nothing;
}

// mold writes over an output that is there and leaves what it does not write: the second link has to find none.
static void remove_output(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "-o") == 0) unlink(argv[i + 1]);
    }
}

int main(int argc, char **argv) {
    if (argc < 1) return 1;
    char **arguments = slim_arguments(argc, argv);
    bool done = arguments != NULL && linked(arguments);
    free(arguments);
    if (done) return 0;
    remove_output(argc, argv);
    argv[0] = whole;
    execv(whole, argv);
    perror(whole);
    return 1;
}
