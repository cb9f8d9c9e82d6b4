/* job_decode() and name_is_safe(): what is accepted is encoded again and must give the same bytes, and keeps to all bounds. */
#include "../bytes.h"
#include "../frames.h"
#include "fuzz.h"

static uint8_t *put_strings(uint8_t *at, char *const *strings, unsigned count) {
    at = put_u16(at, (uint16_t)count);
    for (unsigned i = 0; i < count; i++) {
        size_t size = strlen(strings[i]);
        at = put_u16(at, (uint16_t)size);
        memcpy(at, strings[i], size);
        at += size;
    }
    ALWAYS(strings[count] == NULL);
    return at;
}

static uint8_t *put_spec(uint8_t *at, const struct job_spec *spec) {
    const uint64_t sizes[] = {spec->cpu_ns, spec->wall_ns, spec->memory_bytes, spec->address_space, spec->output_bytes,
                              spec->file_bytes, spec->stack_bytes};
    at = put_u32(at, spec->id);
    at = put_u8(put_u8(at, spec->mode), spec->flags);
    at = put_u16(put_u16(put_u16(put_u16(at, spec->runs), spec->files), spec->parallel), spec->cpu);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        at = put_u64(at, sizes[i]);
    at = put_u64(put_u32(at, spec->processes), spec->collect_max_bytes);
    at = put_strings(at, spec->argv, spec->argc);
    at = put_strings(at, spec->envp, spec->envc);
    return put_strings(at, spec->collect, spec->collectc);
}

static bool is_plain_tree(const char *name, size_t size) {
    return is_plain_path(name, size) || (size > 1 && name[size - 1] == '/' && is_plain_path(name, size - 1));
}

static void check_bounds(const struct job_spec *spec) {
    ALWAYS(spec->runs >= 1 && spec->runs <= MAX_RUNS);
    ALWAYS(spec->output_bytes <= MAX_OUTPUT_BYTES);
    ALWAYS(spec->cpu_ns <= INT64_MAX && spec->wall_ns <= INT64_MAX && spec->memory_bytes <= INT64_MAX);
    ALWAYS(spec->argc <= MAX_STRINGS && spec->envc <= MAX_STRINGS && spec->collectc <= MAX_STRINGS);
    ALWAYS(spec->collectc == 0 || spec->runs == 1);
    for (unsigned i = 0; i < spec->collectc; i++)
        ALWAYS(is_plain_tree(spec->collect[i], strlen(spec->collect[i])));
}

static void check_job(const uint8_t *payload, size_t size) {
    struct job_spec spec;
    const char *why = job_decode(payload, size, &spec);
    if (why == NULL) {
        uint8_t *again = malloc(size);
        check_bounds(&spec);
        ALWAYS(put_spec(again, &spec) == again + size && memcmp(again, payload, size) == 0);
        free(again);
    }
    job_spec_free(&spec);
}

static void check_name(const char *name, size_t size) {
    ALWAYS(name_is_safe(name, size, false) == is_plain_path(name, size));
    ALWAYS(name_is_safe(name, size, true) == is_plain_tree(name, size));
}

/* Input: the payload of a JOB, which is a name as well. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = exact_copy(data, size);
    check_job(copy, size);
    check_name((const char *)copy, size);
    free(copy);
    return 0;
}
