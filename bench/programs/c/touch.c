#include <stdio.h>
#include <stdlib.h>

/* Writes to every page of so many MiB. */
int main(void)
{
    size_t mib;
    if (scanf("%zu", &mib) != 1)
        return 1;
    volatile char *block = malloc(mib << 20);
    if (block == NULL)
        return 1;
    for (size_t i = 0; i < mib << 20; i += 4096)
        block[i] = 1;
    printf("%zu\n", mib);
    return 0;
}
