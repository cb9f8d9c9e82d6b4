/* What the runner (warm.c) and the warm interpreter that it starts (docker/sandbox/python/warm/) say to each other. */
#ifndef WARMSERVER_H
#define WARMSERVER_H

#include <stdint.h>

#define WARM_LIBRARY "/opt/evalx/warm.so"
/* The last string of the environment; the interpreter takes it out before it reads its environment. */
#define WARM_PRELOAD "LD_PRELOAD=" WARM_LIBRARY
/* The number of the control socket (SOCK_SEQPACKET) in the interpreter. Tests do not get it. */
enum { WARM_FD = 3 };

enum warm_kind { WARM_TEST = 0, WARM_COMPILE = 1 };

/*
 * Runner -> interpreter, with descriptors (SCM_RIGHTS): stdin, stdout and stderr of a test and, if it has been compiled, its code; the
 * code alone to compile. Limits as of a JOB, made ready for setrlimit.
 */
struct warm_request {
    uint32_t sequence; /* 1, 2, 3, ... */
    uint32_t kind;
    uint32_t uid;
    uint32_t processes;
    uint64_t cpu_seconds, file_bytes, stack_bytes, address_space; /* all ones = none */
    char cwd[32];
};

/* Interpreter -> runner: sequence 0 once it is ready, then the sequence of each request when the fork is done. */
struct warm_answer {
    uint32_t sequence;
    int32_t pid;
    uint64_t extra_bytes; /* sequence 0: resident memory that a fresh interpreter would not have */
};

enum warm_code_state {
    WARM_NOT_COMPILED = 0, /* also what an interrupted compilation leaves: each test compiles by itself */
    WARM_COMPILED = 1,
    WARM_NOT_A_SOURCE = 2, /* only the interpreter itself knows what to do with it */
};

enum warm_code_flag { WARM_WHOLE_END = 1 /* the program may look at how the interpreter ends */ };

/* Begin of the file that a compilation fills; the marshalled code object follows. */
struct warm_code {
    uint32_t state, flags;
    uint64_t size;
};

#endif
