/* Little-endian reading with bounds checks, and writing into buffers whose size the caller has computed. */
#ifndef BYTES_H
#define BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A reader never fails in the middle: `bad` sticks, and reads after it give zeros, so that callers check once at the end. */
struct reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static inline const uint8_t *get_bytes(struct reader *r, size_t n) {
    if (r->bad || r->left < n) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += n;
    r->left -= n;
    return at;
}

static inline uint64_t get_number(struct reader *r, unsigned bytes) {
    const uint8_t *at = get_bytes(r, bytes);
    uint64_t value = 0;
    for (unsigned i = 0; at != NULL && i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static inline uint8_t get_u8(struct reader *r) { return (uint8_t)get_number(r, 1); }
static inline uint16_t get_u16(struct reader *r) { return (uint16_t)get_number(r, 2); }
static inline uint32_t get_u32(struct reader *r) { return (uint32_t)get_number(r, 4); }
static inline uint64_t get_u64(struct reader *r) { return get_number(r, 8); }

static inline uint8_t *put_number(uint8_t *at, uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
    return at + bytes;
}

static inline uint8_t *put_u8(uint8_t *at, uint8_t value) { return put_number(at, value, 1); }
static inline uint8_t *put_u16(uint8_t *at, uint16_t value) { return put_number(at, value, 2); }
static inline uint8_t *put_u32(uint8_t *at, uint32_t value) { return put_number(at, value, 4); }
static inline uint8_t *put_u64(uint8_t *at, uint64_t value) { return put_number(at, value, 8); }

#endif
