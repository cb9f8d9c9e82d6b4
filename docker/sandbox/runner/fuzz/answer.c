/* The runner's side: what a hostile fork server says. Nothing but the one right answer is taken for it. */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct reader reader = {data, size, false};
    check_answer(&reader);
    return 0;
}
