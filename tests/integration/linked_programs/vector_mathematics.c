/* Taken from libmvec, which no usual program needs. */
#pragma GCC optimize("Ofast")
#include <math.h>
#include <stdio.h>

static double numbers[1000];

int main(void) {
    double sum = 0;
    for (int i = 0; i < 1000; i++)
        numbers[i] = sin(i * 0.1) + exp(-i) + pow(i, 1.5) + log(i + 1.);
    for (int i = 0; i < 1000; i++)
        sum += numbers[i];
    printf("%f\n", sum);
}
