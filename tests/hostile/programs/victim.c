/* Somebody else's program, judged while an attack is going on: the sum of the first n squares, slowly, with a file on the way. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
    int n = 0;
    long sum = 0;
    FILE *file = fopen("note", "w+");
    if (file == NULL || scanf("%d", &n) != 1)
        return 1;
    for (int i = 1; i <= n; i++) {
        fprintf(file, "%d ", i * i);
        usleep(10000);
    }
    rewind(file);
    for (int square; fscanf(file, "%d", &square) == 1;)
        sum += square;
    printf("%ld\n", sum);
    return getppid() == 1 ? 0 : 2;
}
