#include <stdio.h>
#include <stdlib.h>

/* Writes so many letters, beginning with the one of that number. */
int main(void)
{
    int count, first;
    if (scanf("%d %d", &count, &first) != 2)
        return 1;
    char *text = malloc(count);
    for (int i = 0; i < count; i++)
        text[i] = 'a' + (first + i) % 26;
    return fwrite(text, 1, count, stdout) != (size_t)count;
}
