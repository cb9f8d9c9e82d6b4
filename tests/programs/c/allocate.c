/* Uses as many MiB as stdin says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    size_t mib;
    if (scanf("%zu", &mib) != 1)
        return 1;
    char *block = malloc(mib << 20);
    if (!block)
        return 2;
    memset(block, 'x', mib << 20);
    printf("%c\n", block[(mib << 20) - 1]);
}
