#include "outq.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "runner.h"

/* How long the last frame over a stream may take to reach a reader that is busy. */
#define FLUSH_NS SECOND

enum { FRAME_HEAD_BYTES = 5, PARTS = 2 };

struct out_item {
    struct out_item *next;
    size_t size, taken; /* of head */
    unsigned part;
    uint64_t offset; /* in parts[part] */
    struct out_part parts[PARTS];
    uint8_t head[];
};

void outq_init(struct outq *q) {
    *q = (struct outq){0};
    q->end = &q->first;
}

static void drop_parts(struct out_part *parts) {
    for (unsigned i = 0; i < PARTS; i++)
        if (parts[i].fd >= 0)
            close(parts[i].fd);
}

void outq_push(struct outq *q, uint8_t type, const void *head, size_t size, struct out_part a, struct out_part b) {
    struct out_item *item = malloc(sizeof *item + FRAME_HEAD_BYTES + size);
    if (item == NULL) {
        drop_parts((struct out_part[]){a, b});
        q->failed = true;
        return;
    }
    *item = (struct out_item){.size = FRAME_HEAD_BYTES + size, .parts = {a, b}};
    uint64_t content = (a.fd >= 0 ? a.size : 0) + (b.fd >= 0 ? b.size : 0);
    uint8_t *at = put_u32(item->head, (uint32_t)(1 + size + content));
    at = put_u8(at, type);
    if (size > 0)
        memcpy(at, head, size);
    q->queued += item->size + content;
    *q->end = item;
    q->end = &item->next;
}

void outq_push_text(struct outq *q, uint8_t type, const char *text) {
    const struct out_part none = {-1, 0};
    outq_push(q, type, text, strlen(text), none, none);
}

static size_t take_head(struct out_item *item, uint8_t *to, size_t room) {
    size_t left = item->size - item->taken;
    size_t take = left < room ? left : room;
    memcpy(to, item->head + item->taken, take);
    item->taken += take;
    return take;
}

static size_t take_part(struct out_item *item, uint8_t *to, size_t room) {
    struct out_part *part = &item->parts[item->part];
    if (part->fd < 0 || item->offset == part->size) {
        item->part++;
        item->offset = 0;
        return 0;
    }
    uint64_t left = part->size - item->offset;
    size_t take = left < room ? (size_t)left : room;
    ssize_t got = pread(part->fd, to, take, (off_t)item->offset);
    /* The length is on the wire already: a file that turns out shorter is filled up, never allowed to break the framing. */
    if (got <= 0) {
        memset(to, 0, take);
        got = (ssize_t)take;
    }
    item->offset += (uint64_t)got;
    return (size_t)got;
}

/* Small frames are put together in the buffer, so that results that end at the same time cost one write. */
static void fill(struct outq *q) {
    q->have = q->sent = 0;
    while (q->first != NULL && q->have < sizeof q->buffer) {
        struct out_item *item = q->first;
        uint8_t *to = q->buffer + q->have;
        size_t room = sizeof q->buffer - q->have;
        if (item->taken < item->size) {
            q->have += take_head(item, to, room);
        } else if (item->part < PARTS) {
            q->have += take_part(item, to, room);
        } else {
            q->first = item->next;
            if (q->first == NULL)
                q->end = &q->first;
            drop_parts(item->parts);
            free(item);
        }
    }
}

bool outq_pump(struct outq *q) {
    while (!q->failed) {
        if (q->sent == q->have)
            fill(q);
        if (q->have == 0)
            return true;
        ssize_t n = write(STDOUT_FILENO, q->buffer + q->sent, q->have - q->sent);
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            q->sent += (size_t)n;
            q->queued -= (uint64_t)n;
        }
    }
    return false;
}

bool outq_flush(struct outq *q) {
    for (uint64_t end = now_ns() + FLUSH_NS; outq_pump(q) && !outq_is_empty(q) && now_ns() < end;)
        poll(&(struct pollfd){STDOUT_FILENO, POLLOUT, 0}, 1, 100);
    return outq_is_empty(q);
}

bool outq_is_empty(const struct outq *q) { return q->queued == 0; }
