/* They come before a library's strong ones. */
#include <stdio.h>

__attribute__((weak)) int argp_parse(void) { return 5; }
__attribute__((weak)) int puts(const char *text) { return printf("mine %s\n", text); }

int main(void) { return puts("x") + argp_parse(); }
