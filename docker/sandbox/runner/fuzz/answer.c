/*
 * The runner's side: what a hostile fork server says, and the file that a hostile submission wants to be started. Nothing but
 * the one right answer is taken for it, and an ELF file is called dynamic only for what its headers say.
 */
#include "../served.c"

#include "../bytes.h"
#include "fuzz.h"
#include "stubs.h"

enum { MOST_MESSAGES = 4 };

static void say(int fd, const uint8_t *bytes, size_t size, bool with_descriptor) {
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec part = {(void *)(uintptr_t)bytes, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    if (with_descriptor) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
    }
    ALWAYS(sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size);
}

static int lowest_free(void) {
    int fd = dup(STDIN_FILENO);
    close(fd);
    return fd;
}

/* Input: u32 sequence that is waited for, then messages "u8 size (bit 7: with a descriptor), bytes". */
static void check_answer(struct reader *reader) {
    int before = lowest_free(), pair[2], messages = 0;
    bool expected = false;
    uint32_t sequence = get_u32(reader);
    ALWAYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    for (; reader->left > 0 && messages < MOST_MESSAGES; messages++) {
        uint8_t size = get_u8(reader);
        struct reader text = {reader->at, reader->left < (size & 0x7f) ? reader->left : (size & 0x7f), false};
        say(pair[1], text.at, text.left, size & 0x80);
        get_bytes(reader, text.left);
        if (messages == 0)
            expected = text.left == 4 && get_u32(&text) == sequence;
    }
    close(pair[1]);
    ALWAYS(hear_answer(&(struct server){.control = pair[0]}, sequence) == expected);
    close(pair[0]);
    ALWAYS(lowest_free() == before); /* descriptors that were not asked for do not stay */
}

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

static void check_program(const uint8_t *bytes, size_t size) {
    char path[40];
    int fd = memfd_create("program", 0);
    ALWAYS(write(fd, bytes, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ALWAYS(is_dynamic(path) == has_interpreter(bytes, size));
    close(fd);
}

/* Input: what is tried (bit 0: a program), rest = for that. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct reader reader = {data, size, false};
    if (get_u8(&reader) & 1)
        check_program(reader.at, reader.left);
    else
        check_answer(&reader);
    return 0;
}
