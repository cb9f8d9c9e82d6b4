/*
 * The file that a hostile submission wants to be started: a way into it is seen only for what its headers say, and an interpreter
 * or a note is never overlooked for what stands beside it.
 */
#include "../program.c"

#include <stdio.h>
#include <sys/mman.h>

#include "fuzz.h"

static bool has_interpreter(const uint8_t *bytes, size_t size) {
    Elf64_Ehdr head;
    if (size < sizeof head)
        return false;
    memcpy(&head, bytes, sizeof head);
    bool elf64 = memcmp(head.e_ident, ELFMAG, SELFMAG) == 0 && head.e_ident[EI_CLASS] == ELFCLASS64;
    if (!elf64 || head.e_phentsize != sizeof(Elf64_Phdr))
        return false;
    for (uint64_t i = 0; i < head.e_phnum && i < 64; i++) {
        uint64_t offset = head.e_phoff + i * sizeof(Elf64_Phdr);
        Elf64_Word type;
        if (offset > size || size - offset < sizeof(Elf64_Phdr))
            continue;
        memcpy(&type, bytes + offset, sizeof type);
        if (type == PT_INTERP)
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[40];
    int fd = memfd_create("program", 0);
    ALWAYS(write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    enum way way = way_into(path);
    if (way == WAY_LINKED)
        ALWAYS(memmem(data, size, FORKSERVER_NOTE_NAME, sizeof FORKSERVER_NOTE_NAME) != NULL);
    else
        ALWAYS((way == WAY_PRELOADED) == has_interpreter(data, size));
    close(fd);
    return 0;
}
