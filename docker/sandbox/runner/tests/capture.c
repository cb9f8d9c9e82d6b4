/*
 * Shows what its stderr is like, or with an argument its stdout: inode, and what is not as a new one should be. By its input it
 * changes it afterwards: 'w' writes, 't' writes and takes it back, 'n' makes it non-blocking, 's' seals it, 'l' moves in it, 'f'
 * reserves memory for it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct stat st = {0};
    int how = getchar(), fd = argc > 1 ? 1 : 2;
    (void)argv;
    fstat(fd, &st);
    printf("%lu %s\n", (unsigned long)st.st_ino, st.st_size == 0 && st.st_blocks == 0 && lseek(fd, 0, SEEK_CUR) == 0 &&
           (fcntl(fd, F_GETFL) & (O_APPEND | O_NONBLOCK)) == O_APPEND && fcntl(fd, F_GET_SEALS) == 0 ? "new" : "used");
    fflush(stdout);
    switch (how) {
    case 'w': return write(fd, "said", 4) != 4;
    case 't': return write(fd, "said", 4) != 4 || ftruncate(fd, 0) != 0;
    case 'n': return fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK) != 0;
    case 's': return fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) != 0;
    case 'l': return lseek(fd, 5, SEEK_SET) != 5;
    case 'f': return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 4096) != 0;
    default: return 0;
    }
}
