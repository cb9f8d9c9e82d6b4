/* They pull nothing. */
#include <stdio.h>

#pragma weak argp_parse
#pragma weak getaddrinfo
#pragma weak cabsl
#pragma weak pthread_create
extern int argp_parse(void), getaddrinfo(void), cabsl(void), pthread_create(void);

int main(void) {
    printf("%d %d %d %d\n", argp_parse != NULL, getaddrinfo != NULL, cabsl != NULL, pthread_create != NULL);
}
