/*
 * parser_next(): any bytes, cut into any pieces, give the same events, and the events say what the bytes were.
 *
 * The events are encoded again, and the result must be the beginning of what went in. One run gets the bytes in one piece,
 * another in pieces whose sizes the input decides, each in memory of its own, so that a byte read outside of it is seen.
 */
#include <stddef.h>

#include "../bytes.h"
#include "../frames.h"
#include "fuzz.h"

enum { FRAME_HEAD_BYTES = 5, FILLER_BYTES = (256 << 10) + FRAME_HEAD_BYTES };

/* The stream as the events tell it. A frame whose content is still coming has the length 0. */
struct account {
    uint8_t *bytes;
    size_t size, room, whole; /* whole: the part that consists of complete frames */
    size_t announced; /* of a KEEP: the size when its content will be there */
    bool counted;
    const char *bad;
};

static void append(struct account *account, const void *bytes, size_t size) {
    ALWAYS(size <= account->room - account->size); /* events never tell more than was sent */
    if (size > 0)
        memcpy(account->bytes + account->size, bytes, size);
    account->size += size;
}

static void close_frame(struct account *account) {
    put_u32(account->bytes + account->whole, (uint32_t)(account->size - account->whole - 4));
    account->whole = account->size;
}

static void open_frame(struct account *account, uint8_t type, const uint8_t *fixed, size_t size) {
    const uint8_t head[FRAME_HEAD_BYTES] = {0, 0, 0, 0, type};
    ALWAYS(account->whole == account->size);
    append(account, head, sizeof head);
    append(account, fixed, size);
}

static void put_whole(struct account *account, uint8_t type, const uint8_t *fixed, size_t size) {
    open_frame(account, type, fixed, size);
    close_frame(account);
}

static void put_file(struct account *account, const struct event *event) {
    static const uint8_t types[] = {[EV_FILE] = FRAME_FILE, [EV_KEEP] = FRAME_KEEP, [EV_KEPT] = FRAME_KEPT};
    uint8_t fixed[14], *at = fixed;
    size_t size = strlen(event->name);
    ALWAYS(is_plain_path(event->name, size));
    if (event->kind != EV_FILE)
        at = put_u64(at, event->id);
    if (event->kind != EV_KEPT)
        at = put_u32(at, event->mode);
    at = put_u16(at, (uint16_t)size);
    open_frame(account, types[event->kind], fixed, (size_t)(at - fixed));
    append(account, event->name, size);
    if (event->kind == EV_KEPT)
        close_frame(account);
    account->announced = account->size + event->content;
    account->counted = event->kind == EV_KEEP;
}

static void put_data(struct account *account, const struct event *event) {
    ALWAYS(account->whole < account->size);
    append(account, event->data, event->size);
    if (!event->last)
        return;
    ALWAYS(!account->counted || account->size == account->announced);
    account->counted = false;
    close_frame(account);
}

static void decode(const struct event *event) {
    struct job_spec spec;
    if (event->kind == EV_JOB)
        job_decode(event->data, event->size, &spec);
    else
        command_decode(event->data, event->size, &spec);
    job_spec_free(&spec);
}

static void put_small(struct account *account, const struct event *event) {
    uint8_t fixed[8];
    switch (event->kind) {
    case EV_CANCEL: put_u32(put_u32(fixed, event->job_id), event->index); put_whole(account, FRAME_CANCEL, fixed, 8); break;
    case EV_PING: put_whole(account, FRAME_PING, fixed, 0); break;
    case EV_MOVE: put_whole(account, FRAME_MOVE, event->data, event->size); break;
    case EV_PARALLEL:
        put_u16(put_u32(fixed, event->job_id), event->parallel);
        put_whole(account, FRAME_PARALLEL, fixed, 6);
        break;
    default: put_u32(fixed, event->index); open_frame(account, FRAME_INPUT, fixed, 4); break;
    }
}

static void put_event(struct account *account, const struct event *event) {
    switch (event->kind) {
    case EV_JOB: put_whole(account, FRAME_JOB, event->data, event->size); decode(event); break;
    case EV_WARM: put_whole(account, FRAME_WARM, event->data, event->size); decode(event); break;
    case EV_FILE:
    case EV_KEEP:
    case EV_KEPT: put_file(account, event); break;
    case EV_DATA: put_data(account, event); break;
    case EV_BAD: ALWAYS(event->bad != NULL); account->bad = event->bad; break;
    case EV_NONE: break;
    default: put_small(account, event); break;
    }
}

/* What was left of the piece when the frame turned bad counts as not seen. */
static void feed(struct parser *parser, struct account *account, const uint8_t *piece, size_t size) {
    uint8_t *copy = exact_copy(piece, size);
    const uint8_t *at = copy;
    size_t left = size;
    struct event event;
    do {
        event = parser_next(parser, &at, &left);
        ALWAYS(left <= size && at == copy + (size - left));
        put_event(account, &event);
    } while (event.kind != EV_NONE && event.kind != EV_BAD);
    ALWAYS(event.kind == EV_BAD || left == 0);
    ALWAYS(event.kind != EV_BAD || parser_next(parser, &at, &left).bad == event.bad);
    free(copy);
}

/* `cut` 0: one piece. `fill` is what lies in memory that the parser has not written yet. */
static struct account parse(const uint8_t *stream, size_t size, uint32_t cut, int fill) {
    static struct parser parser;
    struct account account = {.bytes = malloc(size + 1), .room = size};
    memset(&parser, 0, offsetof(struct parser, fixed));
    memset(parser.fixed, fill, sizeof parser.fixed);
    for (size_t done = 0; done < size && account.bad == NULL;) {
        size_t piece = cut == 0 ? size : 1 + next_random(&cut) % (1 + cut % 61);
        if (piece > size - done)
            piece = size - done;
        feed(&parser, &account, stream + done, piece);
        done += piece;
    }
    return account;
}

static void check(const uint8_t *stream, size_t size, uint32_t cut) {
    struct account one = parse(stream, size, 0, 0), many = parse(stream, size, cut, 0xa5);
    ALWAYS(one.size == many.size && one.whole == many.whole && one.bad == many.bad);
    ALWAYS(memcmp(one.bytes, many.bytes, one.size) == 0);
    ALWAYS(memcmp(one.bytes, stream, one.whole) == 0);
    /* Of a frame whose content is still coming, all but the length. */
    ALWAYS(one.size == one.whole || memcmp(one.bytes + one.whole + 4, stream + one.whole + 4, one.size - one.whole - 4) == 0);
    free(one.bytes);
    free(many.bytes);
}

/* A piece of the largest sizes stands for a frame of zeros that reaches the bounds of JOB and FILE, one in a stream. */
static uint8_t *put_filler(uint8_t *at, uint8_t type, size_t kib) {
    at = put_u8(put_u32(at, (uint32_t)(kib << 10) + 1), type);
    memset(at, 0, kib << 10);
    return at + (kib << 10);
}

/* Makes frames out of pieces "u16 size, type, content", so that mutations need not get the lengths right. */
static size_t build(const uint8_t *data, size_t size, uint8_t *stream) {
    struct reader reader = {data, size, false};
    uint8_t *at = stream;
    bool filled = false;
    while (reader.left >= 3) {
        size_t content = get_u16(&reader);
        if (content >= 0xff00 && !filled) {
            at = put_filler(at, get_u8(&reader), content & 0xff);
            filled = true;
            continue;
        }
        if (content > reader.left - 1)
            content = reader.left - 1;
        at = put_u32(at, (uint32_t)content + 1);
        memcpy(at, get_bytes(&reader, content + 1), content + 1);
        at += content + 1;
    }
    return (size_t)(at - stream);
}

/* Input: whether frames are built (bit 0), u32 how the stream is cut, rest = the stream. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct reader reader = {data, size, false};
    bool built = get_u8(&reader) & 1;
    uint32_t cut = get_u32(&reader) | 1u;
    if (reader.bad)
        return 0;
    uint8_t *stream = malloc(2 * size + FILLER_BYTES);
    size_t length = reader.left;
    if (built)
        length = build(reader.at, reader.left, stream);
    else if (length > 0)
        memcpy(stream, reader.at, length);
    check(stream, length, cut);
    free(stream);
    return 0;
}
