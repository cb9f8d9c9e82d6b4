/* State that the parts of the runner share. main.c holds the theory of operation. */
#ifndef RUNNER_H
#define RUNNER_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "frames.h"
#include "outq.h"

#define MS 1000000ull
#define SECOND 1000000000ull

/* Bits of run.over: what a run went beyond, seen by the watch or after the fact. */
enum over { OVER_OUTPUT = 1, OVER_MEMORY = 2, OVER_CPU = 4, OVER_WALL = 8 };

enum run_state {
    RUN_WAITING,  /* its INPUT is not complete */
    RUN_READY,
    RUN_RUNNING,
    RUN_DRAINING, /* the main process is reaped, others of its uid may be alive */
    RUN_ANSWERED,
};

struct run {
    enum run_state state;
    uint32_t index;
    bool has_input, cancelled;
    int in_fd, out_fd, err_fd; /* -1 when not open */
    uint8_t *out_copy;         /* captures.c: what stdout had, once its file is not the run's any more; else NULL */
    size_t out_copied;
    int error;                 /* errno of a failed set-up, 0 */
    pid_t pid;
    uid_t uid;
    int status; /* of the main process, as wait4 gives it */
    unsigned over;
    uint64_t killed_ns; /* first kill by the runner, 0 = none */
    uint64_t started_ns, ended_ns, check_ns;
    uint64_t user_ns, sys_ns;      /* of reaped processes */
    /* watch.c: CPU time of the living, the total at the last sample, and what was seen but never reaped by anybody. */
    uint64_t upfront_ns; /* part of user_ns that was used before, for several runs */
    uint64_t live_ns, seen_ns, lost_ns;
    unsigned live_processes, seen_processes;
    uint64_t resident, file_part;  /* of the sample that is being taken */
    uint64_t peak;
    uint64_t oom_before;
    bool oom_killed;
    /* warm.c: forked by the warm interpreter, whose own memory is not the program's. */
    bool warm;
    uint64_t credit_bytes;
    /* served.c: `uid` is then only the name of its cwd, and the process has the fork server's uid. */
    bool served, exec_only;
    struct run *next; /* in job.active */
};

enum server_state {
    SERVER_UNTRIED,
    SERVER_UP,
    SERVER_RETIRED, /* every run is started, those running go on */
    SERVER_ENDING,  /* not trusted any more: killed with all of its uid, nothing starts until all are gone */
    SERVER_GONE,    /* runs start by exec */
};

/* As many tests as usually end before the next one starts. */
enum { SPARE_CWDS = 8, SPARE_CAPTURES = 8 };

struct spare_captures {
    int fds[SPARE_CAPTURES];
    unsigned count;
};

/* The fork server of a job, see served.c. */
struct server {
    enum server_state state;
    pid_t pid; /* 0 = none, or reaped */
    uid_t uid;
    int control; /* -1 when not open */
    uint32_t forks;
    struct run *asked; /* the run whose fork is not confirmed yet, NULL = none */
    uid_t spare_cwds[SPARE_CWDS]; /* spawn.c: names of untouched directories */
    unsigned spares;
    struct spare_captures spare_stdout, spare_stderr; /* captures.c: as they were made */
    uint64_t start_ns;    /* CPU time until it was ready: on the bill of each test */
    uint64_t start_peak;  /* bytes, likewise */
    uint64_t ending_ns, check_ns;
};

/* The program of a job of mode 2, see warm.c. */
struct code {
    enum { CODE_UNTRIED, CODE_COMPILING, CODE_SETTLED, CODE_UNUSABLE /* runs start by exec */ } state;
    pid_t compiler; /* 0 = none, or reaped */
    int fd;         /* -1: each run compiles it */
    uint64_t cpu_ns, peak_bytes; /* of the compilation: on the bill of each run */
};

/* The warm interpreter of the container. */
struct warm {
    struct job_spec spec; /* argv and environment */
    pid_t pid;            /* 0 = none, or reaped */
    int control;          /* -1 when not open */
    uint32_t requests;
    uint64_t extra_bytes; /* resident, which an interpreter started for one run would not have */
};

struct job {
    struct job_spec spec;
    struct server server;
    struct code code;
    struct run *runs;
    struct run *active; /* running and draining ones */
    unsigned active_count, files_left, inputs_left, unanswered;
    uint32_t first_unstarted;
    uint16_t parallel;
    bool owes_running; /* PARALLEL is to be answered */
    /* unseen.c: memory of the container when the job began; CPU time of ended runs; the container's and the runs' when the count
     * began; what was missing at the last look. */
    uint64_t held_bytes, ended_ns, container_ns, billed_ns, missing_ns;
    int error;      /* errno of a FILE that could not be placed: no run can start */
    char **paths;   /* spawn.c: candidates for execve */
};

/* unseen.c: figures of the container's cgroup, -1 without one. */
struct cgroup {
    int usage_fd, stat_fd, cpu_fd;
};

/* kept.c: in the order of use, oldest first. */
struct kept {
    uint64_t id, size;
    struct stat placed; /* when its content was complete */
};

struct kept_files {
    int fd; /* of their directory, -1 before the first */
    unsigned count;
    uint64_t bytes;
    struct kept files[KEPT_FILES];
};

/* Where the content of the current FILE, KEEP or INPUT goes. */
struct sink {
    int fd;     /* -1: content is dropped */
    bool keep;  /* of a KEEP */
    int *error; /* gets the errno of a failed write */
    struct run *run; /* of an INPUT, else NULL */
};

struct runner {
    uid_t uid_base, uid_count, uids_used;
    uint64_t dead_man_ns, last_heard_ns;
    uint64_t gathering_ns; /* main.c: since when results wait for company, 0 = none do */
    unsigned cpus;    /* that the container may use */
    cpu_set_t allowed;
    bool can_serve; /* a fork server is installed */
    int proc_fd, loadavg_fd, oom_fd;
    off_t empty_size; /* spawn.c: of a directory without entries, -1 where size does not tell */
    uint64_t oom_kills; /* of the container, when last looked at */
    struct cgroup cgroup;
    int box_fd, work_fd, tmp_fd, shm_fd, mqueue_fd; /* mqueue_fd may be -1 */
    struct warm warm;
    pid_t last_pid;     /* procs.c: last pid of this namespace that the runner knows of */
    bool strangers;     /* procs.c: somebody else has created processes */
    struct kept_files kept;
    char dirty[160];    /* why this container must not be used again, "" */
    struct parser parser;
    struct outq out;
    int epoll;
    bool moved; /* move.c: descriptors 0 and 1 are a socket of the worker's */
    struct sink sink;
    struct job *job; /* NULL between jobs */
};

uint64_t now_ns(void);

/* Reports, kills everything and exits. */
_Noreturn void fatal(struct runner *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The first reason wins: it is the cause of later ones. */
void mark_dirty(struct runner *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* job.c: what frames and time do to the job. */
void job_handle(struct runner *r, const struct event *event);
void job_advance(struct runner *r);
void job_answer(struct runner *r, struct run *run, enum outcome outcome);
void job_activate(struct job *job, struct run *run);
void job_deactivate(struct job *job, struct run *run);

/* place.c: content of FILE, KEEP and INPUT frames goes straight to files, never through the runner's memory. */
void place_file(struct runner *r, const struct event *event); /* FILE, KEEP */
void place_kept(struct runner *r, const struct event *event);
/* A link in /box to an open directory's file: 0 or errno. */
int place_link(struct runner *r, int directory, const char *file, const char *name);
void place_input(struct runner *r, struct run *run);
void place_data(struct runner *r, const struct event *event);

/* spawn.c: the interface behind which ways of starting a run live, chosen by the job's mode. */
struct spawner {
    int (*begin)(struct runner *r, struct job *job); /* 0 or errno; once per job */
    int (*start)(struct runner *r, struct job *job, struct run *run); /* fills run->pid; 0 or errno */
    void (*end)(struct runner *r, struct job *job);
};
const struct spawner *spawner_of(const struct job *job);
void spawn_start(struct runner *r, struct run *run); /* cwd, uid, captures, process */
/* A child on shared memory: the caller sleeps until it has called execve or _exit. Returns the pid or -1. */
pid_t spawn_child(struct runner *r, int (*function)(void *), void *argument);

/* watch.c: limits of the process trees. */
void watch_begin(struct runner *r, struct run *run);
void watch_tick(struct runner *r, uint64_t now);
void watch_kill(struct runner *r, struct run *run, unsigned over);
void watch_settle(struct run *run); /* last correction of the CPU time, all processes being reaped */
uint64_t watch_deadline(const struct runner *r); /* UINT64_MAX = none */
uint64_t watch_oom_kills(const struct runner *r);

/* reap.c: from zombies to results. */
void reap(struct runner *r);
void reap_drain(struct runner *r, uint64_t now);

/* collect.c */
void collect(struct runner *r, const struct job *job, const struct run *run);

/* reset.c */
void reset(struct runner *r);
void remove_cwd(struct runner *r, const struct run *run);

#endif
