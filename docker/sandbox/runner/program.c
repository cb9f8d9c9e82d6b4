/*
 * Which way the fork server can get into a program, as its ELF headers tell. They are the submission's, so nothing is believed that
 * is not checked; at worst a server is started in vain.
 */
#include "program.h"

#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "forkserver.h"

enum { MAX_PROGRAM_HEADERS = 64, MAX_NOTE_BYTES = 1024 };

struct note_head {
    uint32_t name_size, value_size, type;
};

static size_t padded(size_t size) { return (size + 3) & ~(size_t)3; }

/* The note may be forged: then nobody greets, and all goes by exec. */
static bool has_our_note(const uint8_t *notes, size_t size) {
    static const uint32_t version = FORKSERVER_VERSION;
    struct note_head head;
    while (size >= sizeof head) {
        memcpy(&head, notes, sizeof head);
        if (head.name_size > MAX_NOTE_BYTES || head.value_size > MAX_NOTE_BYTES)
            return false;
        size_t value = sizeof head + padded(head.name_size), whole = value + padded(head.value_size);
        if (whole > size)
            return false;
        if (head.type == FORKSERVER_NOTE_TYPE && head.name_size == sizeof FORKSERVER_NOTE_NAME && head.value_size == sizeof version &&
            memcmp(notes + sizeof head, FORKSERVER_NOTE_NAME, sizeof FORKSERVER_NOTE_NAME) == 0)
            return memcmp(notes + value, &version, sizeof version) == 0;
        notes += whole;
        size -= whole;
    }
    return false;
}

static bool is_linked(int fd, const Elf64_Phdr *part) {
    uint8_t notes[MAX_NOTE_BYTES];
    if (part->p_type != PT_NOTE || part->p_filesz > sizeof notes)
        return false;
    ssize_t size = pread(fd, notes, part->p_filesz, (off_t)part->p_offset);
    return size > 0 && has_our_note(notes, (size_t)size);
}

static bool read_head(int fd, Elf64_Ehdr *head) {
    return pread(fd, head, sizeof *head, 0) == sizeof *head && memcmp(head->e_ident, ELFMAG, SELFMAG) == 0 &&
           head->e_ident[EI_CLASS] == ELFCLASS64 && head->e_phentsize == sizeof(Elf64_Phdr);
}

/* Preloading is the dynamic loader's doing: without one (static, script) there is no use in trying. */
enum way way_into(const char *path) {
    Elf64_Ehdr head;
    Elf64_Phdr part;
    enum way way = WAY_NONE;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return WAY_NONE;
    unsigned count = read_head(fd, &head) ? head.e_phnum : 0;
    for (unsigned i = 0; i < count && i < MAX_PROGRAM_HEADERS && way != WAY_LINKED; i++) {
        if (pread(fd, &part, sizeof part, (off_t)(head.e_phoff + i * sizeof part)) != sizeof part)
            continue;
        if (is_linked(fd, &part))
            way = WAY_LINKED;
        else if (part.p_type == PT_INTERP)
            way = WAY_PRELOADED;
    }
    close(fd);
    return way;
}
