#include <stdio.h>

int read(int a, int b) { return a * b; }
int write(int a) { return a; }
int time(int a) { return a; }
int link(int a) { return a; }
int y1(int a) { return a; }

int main(void)
{
    int n;
    scanf("%d", &n);
    printf("%d\n", link(time(write(y1(read(n, n))))));
}
