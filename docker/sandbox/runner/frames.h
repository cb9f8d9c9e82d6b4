/*
 * Parsing of what the worker sends. Pure: bytes in, events out, no system calls, so that it can be fuzzed by itself.
 *
 * The parser pulls: parser_next() consumes bytes and returns one event, or EV_NONE when it needs more. Contents of FILE and
 * INPUT are not gathered but handed on as they come (EV_DATA), because the runner's own memory must stay small: a child's
 * ru_maxrss starts from that of the process that forked it.
 */
#ifndef FRAMES_H
#define FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

enum event_kind { EV_NONE, EV_JOB, EV_FILE, EV_INPUT, EV_DATA, EV_CANCEL, EV_PING, EV_PARALLEL, EV_WARM, EV_KEEP, EV_KEPT, EV_MOVE, EV_BAD };

struct event {
    enum event_kind kind;
    uint32_t job_id;     /* CANCEL, PARALLEL */
    uint32_t index;      /* INPUT; CANCEL: from_index */
    uint32_t mode;       /* FILE, KEEP */
    uint16_t parallel;   /* PARALLEL */
    uint64_t id;         /* KEEP, KEPT */
    uint64_t content;    /* KEEP: bytes that will follow as DATA */
    const char *name;    /* FILE, KEEP, KEPT: checked, NUL-terminated, valid until the next call */
    const uint8_t *data; /* JOB, WARM: payload for job_decode(), command_decode(); MOVE: the token; DATA: a piece of content */
    size_t size;         /* of `data` */
    bool last;           /* DATA: the content ends here; comes for empty content too */
    const char *bad;     /* BAD: what is wrong */
};

enum parser_stage { STAGE_HEAD, STAGE_FIXED, STAGE_NAME, STAGE_DATA, STAGE_BAD };

struct parser {
    enum parser_stage stage;
    uint8_t type;
    uint32_t left; /* bytes of the frame after those gathered in `fixed` */
    size_t have, need;
    const char *bad;
    uint8_t fixed[MAX_JOB_BYTES + 1];
};

struct event parser_next(struct parser *parser, const uint8_t **at, size_t *left);

struct job_spec {
    uint32_t id;
    uint8_t mode, flags;
    uint16_t runs, files, parallel, cpu;
    uint64_t cpu_ns, wall_ns, memory_bytes, address_space, output_bytes, file_bytes, stack_bytes;
    uint32_t processes;
    uint64_t collect_max_bytes;
    char **argv, **envp, **collect; /* NULL-terminated */
    unsigned argc, envc, collectc;
    void *memory; /* owner of all strings */
};

/* Returns NULL, or what is wrong with the payload; `spec` is to be released with job_spec_free() in both cases. */
const char *job_decode(const uint8_t *payload, size_t size, struct job_spec *spec);
/* Likewise for a WARM: argv and environment only. */
const char *command_decode(const uint8_t *payload, size_t size, struct job_spec *spec);
void job_spec_free(struct job_spec *spec);

/* Relative, no empty, "." or ".." parts. `tree` allows one '/' at the end. */
bool name_is_safe(const char *name, size_t size, bool tree);

#endif
