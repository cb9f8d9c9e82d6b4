/* What the fuzz targets share. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../protocol.h"

/* A trap and not abort(): the sanitizers then show where. */
#define ALWAYS(condition) ((condition) ? (void)0 : __builtin_trap())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In an allocation of just its size, so that ASan sees a read beyond it. */
static inline uint8_t *exact_copy(const void *bytes, size_t size) {
    uint8_t *copy = malloc(size);
    if (size > 0)
        memcpy(copy, bytes, size);
    return copy;
}

/* xorshift; `state` is never 0. */
static inline uint32_t next_random(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Relative and without empty, "." or ".." parts: said in another way than name_is_safe() does. */
static inline bool is_plain_path(const char *name, size_t size) {
    static const char *const forbidden[] = {"//", "/./", "/../"};
    char framed[MAX_NAME_BYTES + 2] = "/";
    if (size == 0 || size >= MAX_NAME_BYTES || memchr(name, '\0', size) != NULL)
        return false;
    memcpy(framed + 1, name, size);
    framed[size + 1] = '/';
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        if (memmem(framed, size + 2, forbidden[i], strlen(forbidden[i])) != NULL)
            return false;
    return true;
}

#endif
