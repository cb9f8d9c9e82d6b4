/* Reads "N M" and a character's code; prints the character N times to stdout and M times to stderr. */
#include <stdio.h>

int main(void) {
    int out, err, code;
    if (scanf("%d %d %d", &out, &err, &code) != 3)
        return 1;
    while (out-- > 0)
        putchar(code);
    while (err-- > 0)
        putc(code, stderr);
}
