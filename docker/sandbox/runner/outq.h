/*
 * The outgoing queue. An item is a small head in memory and up to two files whose content follows it; the content is copied to
 * stdout in pieces, so that 64 MiB of output never sit in the runner's memory. Nothing here ever blocks.
 */
#ifndef OUTQ_H
#define OUTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct out_item;

struct out_part {
    int fd; /* -1: no part; else owned by the queue from now on */
    uint64_t size;
};

struct outq {
    struct out_item *first, **end;
    uint64_t queued; /* bytes that were pushed and not yet written */
    size_t have, sent;
    bool failed; /* out of memory: the framing cannot be kept up */
    uint8_t buffer[64 << 10];
};

void outq_init(struct outq *q);

/* Queues a frame: `head` (payload without type) and the two parts. */
void outq_push(struct outq *q, uint8_t type, const void *head, size_t size, struct out_part a, struct out_part b);
void outq_push_text(struct outq *q, uint8_t type, const char *text);

/* Writes what stdout takes. False: the reader is gone or the queue is broken. */
bool outq_pump(struct outq *q);
/* Writes all of it, waiting for a reader that is busy, but not for long. False: not all is written. */
bool outq_flush(struct outq *q);
bool outq_is_empty(const struct outq *q);

#endif
