#include <stdio.h>

int optarg = 2, environ, time;

int main(void) { printf("%d\n", environ + optarg); }
