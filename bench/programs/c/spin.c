#include <stdio.h>

/* A fixed amount of work that no compiler removes and that needs no memory. */
int main(void)
{
    unsigned long long rounds, state = 88172645463325252ULL;
    if (scanf("%llu", &rounds) != 1)
        return 1;
    while (rounds--) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    printf("%llu\n", state);
    return 0;
}
