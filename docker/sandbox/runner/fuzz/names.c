/*
 * What the runner reads in /proc about hostile processes: whatever name a process gives itself, it cannot pass for one of another
 * uid, of another parent or with another use of memory or CPU time. The kernel writes the text, the input is the name.
 */
#include "../procs.c"

#include <sys/prctl.h>

#include "fuzz.h"
#include "stubs.h"

enum { NAME_BYTES = 16 };

static struct runner r;
static uint64_t used_by_child;

/* A child that has used CPU time gives one more figure to be read wrongly. */
__attribute__((constructor)) static void prepare(void) {
    pid_t pid = fork();
    while (pid == 0)
        if (clock() > CLOCKS_PER_SEC / 20)
            _exit(0);
    ALWAYS(waitpid(pid, NULL, 0) == pid);
    r.proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    used_by_child = children_cpu(&r, getpid());
    ALWAYS(used_by_child > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char name[NAME_BYTES] = "";
    if (size > 0)
        memcpy(name, data, size < sizeof name ? size : sizeof name - 1);
    struct proc proc = {.pid = getpid(), .uid = 1, .parent = -1};
    ALWAYS(prctl(PR_SET_NAME, name) == 0);
    ALWAYS(read_status(&r, &proc));
    ALWAYS(proc.uid == getuid() && proc.parent == getppid() && !proc.blocked);
    ALWAYS(proc.anon > 0 && proc.file > 0 && proc.anon < UINT64_C(1) << 40 && proc.file < UINT64_C(1) << 40);
    ALWAYS(children_cpu(&r, proc.pid) == used_by_child);
    ALWAYS(procs_resident(&r, proc.pid) > 0 && procs_peak(&r, proc.pid) >= proc.anon);
    return 0;
}
