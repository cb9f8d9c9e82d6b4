#include <stddef.h>
#include <stdio.h>

static char pool[1 << 24];
static size_t used;

void *malloc(size_t size)
{
    void *place = pool + used;
    used += (size + 15) & ~(size_t)15;
    return place;
}

void free(void *place)
{
    (void)place;
}

int main(void)
{
    int n;
    scanf("%d", &n);
    int *square = malloc(sizeof *square);
    *square = n * n;
    printf("%d\n", *square);
    free(square);
}
