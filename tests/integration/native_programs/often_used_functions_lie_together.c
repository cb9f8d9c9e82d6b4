/* The image has the members of libc that most programs use in an archive of their own, linked first: else they are spread over 220 KB. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    uintptr_t used[] = {(uintptr_t)malloc, (uintptr_t)scanf, (uintptr_t)printf, (uintptr_t)fflush, (uintptr_t)exit};
    uintptr_t first = used[0], last = used[0];
    for (size_t i = 1; i < sizeof used / sizeof *used; i++) {
        first = used[i] < first ? used[i] : first;
        last = used[i] > last ? used[i] : last;
    }
    int n;
    if (scanf("%d", &n) != 1)
        return 1;
    printf("%d\n", n * n);
    fflush(stdout);
    exit(last - first > 160 << 10);
}
