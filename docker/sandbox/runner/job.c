/* The life of a job: JOB, FILEs and INPUTs come in, runs start as they may, results go out, the container is reset, DONE. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bytes.h"
#include "captures.h"
#include "move.h"
#include "procs.h"
#include "served.h"
#include "unseen.h"
#include "warm.h"

/* A reader that is this far behind gets no new results: captures of ended runs stay in memory until they are sent. */
#define QUEUE_FULL_BYTES (4u << 20)

enum { RESULT_HEAD_BYTES = 4 + 1 + 4 + 1 + 4 * 8 + 1 + 4 };

void job_activate(struct job *job, struct run *run) {
    run->next = job->active;
    job->active = run;
    job->active_count++;
}

void job_deactivate(struct job *job, struct run *run) {
    struct run **at = &job->active;
    while (*at != run)
        at = &(*at)->next;
    *at = run->next;
    unseen_ended(job, run);
    job->active_count--;
}

/* The capture up to the limit, as a part of the RESULT; the queue owns the descriptor from here on. */
static struct out_part take_capture(const struct job *job, int *fd, bool drop, bool *cut) {
    struct stat st;
    struct out_part part = {*fd, 0};
    *fd = -1;
    *cut = false;
    if (part.fd < 0 || drop || fstat(part.fd, &st) < 0)
        return part;
    *cut = (uint64_t)st.st_size > job->spec.output_bytes;
    part.size = *cut ? job->spec.output_bytes : (uint64_t)st.st_size;
    return part;
}

/* The copy up to the limit, where captures_settle has made one instead of a part. */
static size_t take_copy(const struct job *job, const struct run *run, bool drop, bool *cut) {
    size_t most = drop ? 0 : (size_t)job->spec.output_bytes;
    if (run->out_copied <= most)
        return run->out_copied;
    *cut = !drop;
    return most;
}

static uint32_t raw_code(const struct run *run, enum outcome outcome) {
    if (outcome == OUTCOME_INTERNAL)
        return (uint32_t)run->error;
    return (uint32_t)(WIFSIGNALED(run->status) ? WTERMSIG(run->status) : WEXITSTATUS(run->status));
}

static void send_result(struct runner *r, struct run *run, enum outcome outcome) {
    uint8_t head[RESULT_HEAD_BYTES + MAX_COPY_BYTES], *at = head;
    bool out_cut, err_cut, drop = outcome == OUTCOME_CANCELLED || outcome == OUTCOME_INTERNAL;
    struct out_part out = take_capture(r->job, &run->out_fd, drop, &out_cut);
    struct out_part err = take_capture(r->job, &run->err_fd, drop, &err_cut);
    size_t copied = take_copy(r->job, run, drop, &out_cut);
    at = put_u32(at, run->index);
    at = put_u8(at, (uint8_t)outcome);
    at = put_u32(at, raw_code(run, outcome));
    at = put_u8(at, WIFSIGNALED(run->status) && outcome != OUTCOME_INTERNAL);
    at = put_u64(at, run->user_ns);
    at = put_u64(at, run->sys_ns);
    at = put_u64(at, run->ended_ns - run->started_ns);
    at = put_u64(at, run->peak);
    at = put_u8(at, (uint8_t)((out_cut ? RESULT_STDOUT_CUT : 0) | (err_cut ? RESULT_STDERR_CUT : 0) |
                              (run->oom_killed ? RESULT_OOM_KILL : 0) | (run->served ? RESULT_SERVED : 0) | (run->warm ? RESULT_WARM : 0)));
    at = put_u32(at, (uint32_t)(out.size + copied));
    if (copied > 0)
        memcpy(at, run->out_copy, copied);
    at += copied;
    outq_push(&r->out, FRAME_RESULT, head, (size_t)(at - head), out, err);
}

void job_answer(struct runner *r, struct run *run, enum outcome outcome) {
    if (run->ended_ns == 0)
        run->started_ns = 0; /* it never ran: no wall time */
    send_result(r, run, outcome);
    captures_close(run);
    if (run->in_fd >= 0)
        close(run->in_fd);
    run->in_fd = -1;
    run->state = RUN_ANSWERED;
    r->job->unanswered--;
}

static struct run *new_runs(unsigned count) {
    struct run *runs = calloc(count, sizeof *runs);
    for (unsigned i = 0; runs != NULL && i < count; i++)
        runs[i] = (struct run){.index = i, .in_fd = -1, .out_fd = -1, .err_fd = -1};
    return runs;
}

/*
 * The runner, a fork server and new tests take turns. On one CPU they share its cache, and none needs to wake another CPU, which
 * in a virtual machine costs as much as the work that it is woken for. Best effort: elsewhere it is only slower.
 */
static void work_on(const struct runner *r, uint16_t number) {
    cpu_set_t chosen = r->allowed;
    unsigned left = number == 0 ? 0 : (number - 1u) % r->cpus + 1;
    for (size_t cpu = 0; cpu < CPU_SETSIZE && left > 0; cpu++)
        if (CPU_ISSET(cpu, &r->allowed) && --left == 0) {
            CPU_ZERO(&chosen);
            CPU_SET(cpu, &chosen);
        }
    sched_setaffinity(0, sizeof chosen, &chosen);
}

static void begin(struct runner *r, const struct event *event) {
    struct job *job = calloc(1, sizeof *job);
    if (r->job != NULL)
        fatal(r, "JOB while a job is being done");
    if (job == NULL)
        fatal(r, "no memory for JOB");
    r->job = job;
    const char *why = job_decode(event->data, event->size, &job->spec);
    if (why != NULL)
        fatal(r, "%s", why);
    job->runs = new_runs(job->spec.runs);
    if (job->runs == NULL)
        fatal(r, "no memory for JOB");
    job->files_left = job->spec.files;
    job->inputs_left = job->unanswered = job->spec.runs;
    job->parallel = job->spec.parallel;
    work_on(r, job->spec.cpu);
    r->oom_kills = watch_oom_kills(r);
    unseen_begin(r, job);
    job->error = spawner_of(job)->begin(r, job);
    /* The last reset has verified that the runner is alone. */
    procs_resync(r);
}

static void begin_file(struct runner *r, const struct event *event) {
    if (r->job == NULL || r->job->files_left == 0)
        fatal(r, "FILE that no job has announced");
    if (event->kind == EV_KEPT)
        place_kept(r, event);
    else
        place_file(r, event);
}

static void begin_input(struct runner *r, const struct event *event) {
    if (r->job == NULL || event->index >= r->job->spec.runs)
        fatal(r, "INPUT %u that no job has announced", (unsigned)event->index);
    struct run *run = &r->job->runs[event->index];
    if (run->has_input)
        fatal(r, "INPUT %u came twice", (unsigned)event->index);
    place_input(r, run);
}

static void cancel_run(struct runner *r, struct run *run) {
    if (run->state == RUN_ANSWERED || run->cancelled)
        return;
    run->cancelled = true;
    if (run->state == RUN_WAITING || run->state == RUN_READY)
        job_answer(r, run, OUTCOME_CANCELLED);
    else if (run->state == RUN_RUNNING)
        watch_kill(r, run, 0);
}

static void cancel(struct runner *r, uint32_t from) {
    for (uint32_t i = from; i < r->job->spec.runs; i++)
        cancel_run(r, &r->job->runs[i]);
}

void job_handle(struct runner *r, const struct event *event) {
    bool current = r->job != NULL && r->job->spec.id == event->job_id;
    switch (event->kind) {
    case EV_JOB: begin(r, event); break;
    case EV_FILE:
    case EV_KEEP:
    case EV_KEPT: begin_file(r, event); break;
    case EV_INPUT: begin_input(r, event); break;
    case EV_DATA: place_data(r, event); break;
    case EV_PING: outq_push_text(&r->out, FRAME_PONG, ""); break;
    /* CANCEL and PARALLEL for a job that is done have crossed its DONE on the way. */
    case EV_CANCEL:
        if (current)
            cancel(r, event->index);
        break;
    case EV_PARALLEL:
        if (current) {
            r->job->parallel = event->parallel;
            r->job->owes_running = true;
        }
        break;
    case EV_WARM: warm_start(r, event); break;
    case EV_MOVE: move(r, event); break;
    case EV_BAD: fatal(r, "%s", event->bad);
    case EV_NONE: break;
    }
}

static struct run *next_ready(struct job *job) {
    /* Runs mostly become ready and start in order, so the hint makes this one step. */
    while (job->first_unstarted < job->spec.runs && job->runs[job->first_unstarted].state > RUN_READY)
        job->first_unstarted++;
    for (uint32_t i = job->first_unstarted; i < job->spec.runs; i++)
        if (job->runs[i].state == RUN_READY)
            return &job->runs[i];
    return NULL;
}

static void start_runs(struct runner *r) {
    struct job *job = r->job;
    while (served_settled(job) && warm_settled(job) && job->files_left == 0 && job->active_count < job->parallel && r->out.queued <= QUEUE_FULL_BYTES) {
        struct run *run = next_ready(job);
        if (run == NULL)
            return;
        spawn_start(r, run);
    }
}

static void answer_parallel(struct runner *r) {
    struct job *job = r->job;
    if (!job->owes_running || job->active_count > job->parallel)
        return;
    job->owes_running = false;
    uint8_t head[4 + 2], *at = head;
    at = put_u32(at, job->spec.id);
    put_u16(at, (uint16_t)job->active_count);
    const struct out_part none = {-1, 0};
    outq_push(&r->out, FRAME_RUNNING, head, sizeof head, none, none);
}

static void send_done(struct runner *r) {
    uint8_t head[4 + 1 + sizeof r->dirty], *at = head;
    size_t size = strlen(r->dirty);
    at = put_u32(at, r->job->spec.id);
    at = put_u8(at, size == 0);
    memcpy(at, r->dirty, size);
    const struct out_part none = {-1, 0};
    outq_push(&r->out, FRAME_DONE, head, (size_t)(at - head) + size, none, none);
}

static void end(struct runner *r) {
    struct job *job = r->job;
    spawner_of(job)->end(r, job);
    reset(r);
    send_done(r);
    job_spec_free(&job->spec);
    free(job->runs);
    free(job);
    r->job = NULL;
}

void job_advance(struct runner *r) {
    if (r->job == NULL)
        return;
    start_runs(r);
    answer_parallel(r);
    if (r->job->unanswered == 0 && r->job->inputs_left == 0 && r->job->files_left == 0)
        end(r);
}
