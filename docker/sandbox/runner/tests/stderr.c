/*
 * Shows what its stderr is like: inode, and what is not as a new one should be. By its input it changes it afterwards: 'w' writes,
 * 't' writes and takes it back, 'n' makes it non-blocking, 's' seals it, 'l' moves in it, 'f' reserves memory for it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void) {
    struct stat st = {0};
    int how = getchar();
    fstat(2, &st);
    printf("%lu %s\n", (unsigned long)st.st_ino, st.st_size == 0 && st.st_blocks == 0 && lseek(2, 0, SEEK_CUR) == 0 &&
           (fcntl(2, F_GETFL) & (O_APPEND | O_NONBLOCK)) == O_APPEND && fcntl(2, F_GET_SEALS) == 0 ? "new" : "used");
    switch (how) {
    case 'w': return write(2, "said", 4) != 4;
    case 't': return write(2, "said", 4) != 4 || ftruncate(2, 0) != 0;
    case 'n': return fcntl(2, F_SETFL, O_APPEND | O_NONBLOCK) != 0;
    case 's': return fcntl(2, F_ADD_SEALS, F_SEAL_GROW) != 0;
    case 'l': return lseek(2, 5, SEEK_SET) != 5;
    case 'f': return fallocate(2, FALLOC_FL_KEEP_SIZE, 0, 4096) != 0;
    default: return 0;
    }
}
