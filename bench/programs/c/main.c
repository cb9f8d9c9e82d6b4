#include <stdio.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

int main(void)
{
    int n;
    if (scanf("%d", &n) != 1)
        return 1;
    long long *values = malloc(n * sizeof *values), sum = 0;
    for (int i = 0; i < n; i++) {
        if (scanf("%lld", &values[i]) != 1)
            return 1;
        sum += values[i];
    }
    qsort(values, n, sizeof *values, ascending);
    int distinct = 0;
    for (int i = 0; i < n; i++)
        distinct += i == 0 || values[i] != values[i - 1];
    printf("%lld %lld %d\n", sum, values[n / 2], distinct);
    return 0;
}
