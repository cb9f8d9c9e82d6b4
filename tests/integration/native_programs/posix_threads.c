#include <pthread.h>
#include <stdio.h>

static int n;

static void *work(void *square)
{
    *(int *)square = n * n;
    return square;
}

int main(void)
{
    pthread_t thread;
    int square;
    scanf("%d", &n);
    pthread_create(&thread, NULL, work, &square);
    pthread_join(thread, NULL);
    printf("%d\n", square);
}
