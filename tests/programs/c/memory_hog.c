#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    for (unsigned long i = 1;; i++) {
        char *block = malloc(1 << 20);
        if (!block)
            return 1;
        memset(block, (int)(i | 1), 1 << 20);
        if (block[i % 1000] == 0)
            puts("never");
    }
}
