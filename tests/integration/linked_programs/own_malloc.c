#include <stdio.h>
#include <string.h>

static char memory[1 << 24];
static size_t used;

void *malloc(size_t size) {
    void *block = memory + used;
    used += (size + 15) & ~(size_t)15;
    return block;
}

void free(void *block) { (void)block; }

void *calloc(size_t count, size_t size) { return malloc(count * size); }

void *realloc(void *block, size_t size) { return block ? memcpy(malloc(size), block, size) : malloc(size); }

int main(void) { return printf("%d\n", malloc(3) == memory) < 0; }
