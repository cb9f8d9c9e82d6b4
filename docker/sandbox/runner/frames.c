#include "frames.h"

#include <stdlib.h>
#include <string.h>

#include "bytes.h"

enum { HEAD_BYTES = 5, FILE_FIXED_BYTES = 6, KEEP_FIXED_BYTES = 14, KEPT_FIXED_BYTES = 10 };

static struct event bad_frame(struct parser *parser, const char *why) {
    /* Framing is lost for good after one bad frame: every later call answers the same. */
    parser->stage = STAGE_BAD;
    parser->bad = why;
    return (struct event){.kind = EV_BAD, .bad = why};
}

/* Moves bytes into `fixed` until `need` are there. False: the input ended before. */
static bool gather(struct parser *parser, const uint8_t **at, size_t *left) {
    size_t missing = parser->need - parser->have;
    size_t take = missing < *left ? missing : *left;
    if (take > 0)
        memcpy(parser->fixed + parser->have, *at, take);
    parser->have += take;
    *at += take;
    *left -= take;
    return parser->have == parser->need;
}

static void expect(struct parser *parser, enum parser_stage stage, size_t need) {
    parser->stage = stage;
    parser->need = need;
}

static void next_frame(struct parser *parser) {
    parser->have = 0;
    expect(parser, STAGE_HEAD, HEAD_BYTES);
}

/* Size of the part of a frame that is gathered before anything can be said about it; `exact` if nothing may follow it. */
static const char *fixed_size(uint8_t type, uint32_t left, size_t *size, bool *exact) {
    *exact = true;
    switch (type) {
    case FRAME_JOB: *size = left; return left <= MAX_JOB_BYTES ? NULL : "JOB is too large";
    case FRAME_WARM: *size = left; return left <= MAX_JOB_BYTES ? NULL : "WARM is too large";
    case FRAME_FILE: *size = FILE_FIXED_BYTES; *exact = false; return NULL;
    case FRAME_KEEP: *size = KEEP_FIXED_BYTES; *exact = false; return NULL;
    case FRAME_KEPT: *size = KEPT_FIXED_BYTES; *exact = false; return NULL;
    case FRAME_INPUT: *size = 4; *exact = false; return NULL;
    case FRAME_CANCEL: *size = 8; return NULL;
    case FRAME_PING: *size = 0; return NULL;
    case FRAME_MOVE: *size = MOVE_TOKEN_BYTES; return NULL;
    case FRAME_PARALLEL: *size = 6; return NULL;
    default: return "unknown frame type";
    }
}

/* Checked before the type is there: a frame of length 0 has none, and waiting for it would look like a silent worker. */
static bool length_is_bad(const struct parser *parser) {
    struct reader reader = {parser->fixed, parser->have, false};
    uint32_t length = get_u32(&reader);
    return !reader.bad && (length < 1 || length > MAX_FRAME_BYTES);
}

static const char *start_frame(struct parser *parser) {
    struct reader reader = {parser->fixed, HEAD_BYTES, false};
    uint32_t length = get_u32(&reader);
    size_t size = 0;
    bool exact = false;
    parser->type = get_u8(&reader);
    parser->left = length - 1;
    const char *why = fixed_size(parser->type, parser->left, &size, &exact);
    if (why != NULL)
        return why;
    if (parser->left < size || (exact && parser->left != size))
        return "frame has the wrong size for its type";
    parser->left -= (uint32_t)size;
    parser->have = 0;
    expect(parser, STAGE_FIXED, size);
    return NULL;
}

static size_t size_before_name(uint8_t type) {
    switch (type) {
    case FRAME_KEEP: return KEEP_FIXED_BYTES;
    case FRAME_KEPT: return KEPT_FIXED_BYTES;
    default: return FILE_FIXED_BYTES;
    }
}

static struct event finish_file_name(struct parser *parser) {
    struct reader reader = {parser->fixed, parser->have, false};
    struct event event = {.kind = EV_FILE};
    if (parser->type != FRAME_FILE)
        event = (struct event){.kind = parser->type == FRAME_KEEP ? EV_KEEP : EV_KEPT, .id = get_u64(&reader)};
    if (parser->type != FRAME_KEPT)
        event.mode = get_u32(&reader);
    size_t size = get_u16(&reader);
    char *name = (char *)parser->fixed + size_before_name(parser->type);
    if (!name_is_safe(name, size, false))
        return bad_frame(parser, "FILE has an unsafe name");
    name[size] = '\0';
    event.name = name;
    if (event.kind == EV_KEPT) {
        next_frame(parser);
        return event;
    }
    event.content = event.kind == EV_KEEP ? parser->left : 0;
    parser->stage = STAGE_DATA;
    return event;
}

static struct event expect_file_name(struct parser *parser) {
    size_t fixed = size_before_name(parser->type);
    struct reader reader = {parser->fixed + fixed - 2, 2, false};
    uint16_t size = get_u16(&reader);
    if (size > MAX_NAME_BYTES || size > parser->left)
        return bad_frame(parser, "FILE has a name longer than allowed");
    if (parser->type == FRAME_KEPT && size != parser->left)
        return bad_frame(parser, "KEPT has content");
    parser->left -= size;
    expect(parser, STAGE_NAME, fixed + size);
    return (struct event){.kind = EV_NONE};
}

static struct event finish_fixed(struct parser *parser) {
    struct reader reader = {parser->fixed, parser->have, false};
    struct event event = {.kind = EV_NONE};
    if (parser->type == FRAME_FILE || parser->type == FRAME_KEEP || parser->type == FRAME_KEPT)
        return expect_file_name(parser);
    if (parser->type == FRAME_INPUT) {
        parser->stage = STAGE_DATA;
        return (struct event){.kind = EV_INPUT, .index = get_u32(&reader)};
    }
    switch (parser->type) {
    case FRAME_JOB: event = (struct event){.kind = EV_JOB, .data = parser->fixed, .size = parser->have}; break;
    case FRAME_WARM: event = (struct event){.kind = EV_WARM, .data = parser->fixed, .size = parser->have}; break;
    case FRAME_MOVE: event = (struct event){.kind = EV_MOVE, .data = parser->fixed, .size = parser->have}; break;
    case FRAME_PING: event.kind = EV_PING; break;
    case FRAME_CANCEL: event.kind = EV_CANCEL; event.job_id = get_u32(&reader); event.index = get_u32(&reader); break;
    default: event.kind = EV_PARALLEL; event.job_id = get_u32(&reader); event.parallel = get_u16(&reader); break;
    }
    next_frame(parser);
    return event;
}

static struct event next_data(struct parser *parser, const uint8_t **at, size_t *left) {
    size_t take = parser->left < *left ? parser->left : *left;
    if (take == 0 && parser->left > 0)
        return (struct event){.kind = EV_NONE};
    struct event event = {.kind = EV_DATA, .data = *at, .size = take};
    *at += take;
    *left -= take;
    parser->left -= (uint32_t)take;
    event.last = parser->left == 0;
    if (event.last)
        next_frame(parser);
    return event;
}

struct event parser_next(struct parser *parser, const uint8_t **at, size_t *left) {
    if (parser->stage == STAGE_BAD)
        return bad_frame(parser, parser->bad);
    if (parser->stage == STAGE_HEAD) {
        parser->need = HEAD_BYTES; /* a parser that is all zeros is a fresh one */
        bool whole = gather(parser, at, left);
        if (length_is_bad(parser))
            return bad_frame(parser, "frame length is out of range");
        if (!whole)
            return (struct event){.kind = EV_NONE};
        const char *why = start_frame(parser);
        if (why != NULL)
            return bad_frame(parser, why);
    }
    if (parser->stage == STAGE_FIXED) {
        if (!gather(parser, at, left))
            return (struct event){.kind = EV_NONE};
        struct event event = finish_fixed(parser);
        if (event.kind != EV_NONE)
            return event;
    }
    if (parser->stage == STAGE_NAME)
        return gather(parser, at, left) ? finish_file_name(parser) : (struct event){.kind = EV_NONE};
    return next_data(parser, at, left);
}

static bool part_is_safe(const char *part, size_t size) {
    if (size == 0 || (size == 1 && part[0] == '.'))
        return false;
    return !(size == 2 && part[0] == '.' && part[1] == '.');
}

bool name_is_safe(const char *name, size_t size, bool tree) {
    size_t start = 0;
    if (tree && size > 0 && name[size - 1] == '/')
        size--;
    if (size >= MAX_NAME_BYTES || (size > 0 && memchr(name, '\0', size) != NULL))
        return false;
    for (size_t i = 0; i <= size; i++) {
        if (i < size && name[i] != '/')
            continue;
        if (!part_is_safe(name + start, i - start))
            return false;
        start = i + 1;
    }
    return true;
}

/*
 * Strings become NUL-terminated without a second copy: each is moved back over its own length prefix, which leaves room for
 * the NUL that the wire does not carry.
 */
static char *take_string(struct reader *reader, uint8_t *base, const uint8_t *origin) {
    size_t prefix = (size_t)(reader->at - origin);
    size_t size = get_u16(reader);
    const uint8_t *bytes = get_bytes(reader, size);
    if (bytes == NULL || (size > 0 && memchr(bytes, '\0', size) != NULL)) {
        reader->bad = true;
        return NULL;
    }
    char *text = (char *)base + prefix;
    memcpy(text, bytes, size);
    text[size] = '\0';
    return text;
}

static char **take_strings(struct reader *reader, uint8_t *base, const uint8_t *origin, unsigned *count) {
    *count = get_u16(reader);
    if (reader->bad || *count > MAX_STRINGS) {
        reader->bad = true;
        *count = 0;
    }
    char **list = calloc((size_t)*count + 1, sizeof *list);
    for (unsigned i = 0; list != NULL && i < *count && !reader->bad; i++)
        list[i] = take_string(reader, base, origin);
    reader->bad = reader->bad || list == NULL;
    return list;
}

static void take_numbers(struct reader *reader, struct job_spec *spec) {
    spec->id = get_u32(reader);
    spec->mode = get_u8(reader);
    spec->flags = get_u8(reader);
    spec->runs = get_u16(reader);
    spec->files = get_u16(reader);
    spec->parallel = get_u16(reader);
    spec->cpu = get_u16(reader);
    spec->cpu_ns = get_u64(reader);
    spec->wall_ns = get_u64(reader);
    spec->memory_bytes = get_u64(reader);
    spec->address_space = get_u64(reader);
    spec->output_bytes = get_u64(reader);
    spec->file_bytes = get_u64(reader);
    spec->stack_bytes = get_u64(reader);
    spec->processes = get_u32(reader);
    spec->collect_max_bytes = get_u64(reader);
}

static const char *check_spec(const struct job_spec *spec) {
    if (spec->mode > MODE_WARM_INTERPRETER || (spec->flags & ~JOB_MERGE_STDERR) != 0)
        return "JOB has an unknown mode or flag";
    if (spec->runs == 0 || spec->runs > MAX_RUNS)
        return "JOB has no runs or too many";
    if (spec->output_bytes > MAX_OUTPUT_BYTES)
        return "JOB allows more output than a frame can carry";
    if (spec->cpu_ns > INT64_MAX || spec->wall_ns > INT64_MAX || spec->memory_bytes > INT64_MAX)
        return "JOB has a limit out of range";
    if (spec->collectc > 0 && spec->runs != 1)
        return "JOB collects from more than one run";
    for (unsigned i = 0; i < spec->collectc; i++)
        if (!name_is_safe(spec->collect[i], strlen(spec->collect[i]), true))
            return "JOB collects an unsafe path";
    return NULL;
}

const char *job_decode(const uint8_t *payload, size_t size, struct job_spec *spec) {
    *spec = (struct job_spec){0};
    struct reader reader = {payload, size, false};
    uint8_t *base = malloc(size + 1);
    spec->memory = base;
    if (base == NULL)
        return "no memory for JOB";
    take_numbers(&reader, spec);
    spec->argv = take_strings(&reader, base, payload, &spec->argc);
    spec->envp = take_strings(&reader, base, payload, &spec->envc);
    spec->collect = take_strings(&reader, base, payload, &spec->collectc);
    if (reader.bad || reader.left != 0)
        return "JOB is malformed";
    return check_spec(spec);
}

const char *command_decode(const uint8_t *payload, size_t size, struct job_spec *spec) {
    *spec = (struct job_spec){0};
    struct reader reader = {payload, size, false};
    uint8_t *base = malloc(size + 1);
    spec->memory = base;
    if (base == NULL)
        return "no memory for WARM";
    spec->argv = take_strings(&reader, base, payload, &spec->argc);
    spec->envp = take_strings(&reader, base, payload, &spec->envc);
    return reader.bad || reader.left != 0 || spec->argc == 0 ? "WARM is malformed" : NULL;
}

void job_spec_free(struct job_spec *spec) {
    free(spec->memory);
    free(spec->argv);
    free(spec->envp);
    free(spec->collect);
    *spec = (struct job_spec){0};
}
