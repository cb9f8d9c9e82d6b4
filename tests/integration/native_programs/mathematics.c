#include <math.h>
#include <stdio.h>

int main(void)
{
    double n;
    scanf("%lf", &n);
    printf("%.0f\n", exp(2 * log(n)) + sin(0) * cbrt(n) + fma(0, n, 0));
}
