/* What the runner (served.c) and the fork server in the program's process (forkserver.c) say to each other. */
#ifndef FORKSERVER_H
#define FORKSERVER_H

#include <stdint.h>

#define FORKSERVER_PATH "/opt/evalx/forkserver.so"
/* The last strings of the environment (the first one only when preloaded): taken out before the program sees them. */
#define FORKSERVER_PRELOAD "LD_PRELOAD=" FORKSERVER_PATH
#define FORKSERVER_MARK "EVALX_FORK_SERVER=1"
/* An ELF note by which the runner knows a program that has the fork server linked in. */
#define FORKSERVER_NOTE_NAME "evalx"
enum { FORKSERVER_NOTE_TYPE = 1, FORKSERVER_VERSION = 1 };
/* The number of the control socket (SOCK_SEQPACKET) in the fork server. Tests do not get it. */
enum { FORKSERVER_FD = 3 };

/* Runner -> fork server, with three descriptors (SCM_RIGHTS): stdin, stdout and stderr of the test. */
struct fork_request {
    uint32_t sequence; /* 1, 2, 3, ... */
    char cwd[28];
};

/* Fork server -> runner: sequence 0 once it is ready, then the sequence of each request when the fork is done. */
struct fork_answer {
    uint32_t sequence;
};

#endif
