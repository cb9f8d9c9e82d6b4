#include <stdio.h>

int main(void) {
    volatile __int128 integer = 1;
    volatile _Float128 quad = 1;
    volatile _Float16 half = 1;
    volatile _Complex long double complex = 1;
    integer = (integer << 100) / 7 % 1000003;
    complex = complex * complex / complex;
    printf("%d %d %f %d\n", (int)integer, (int)(quad / 3 * 10), (double)half, __builtin_popcountll((unsigned long)integer));
}
