#include <netdb.h>
#include <pwd.h>
#include <stdio.h>

int main(void)
{
    int n;
    scanf("%d", &n);
    const struct passwd *root = getpwnam("root");
    printf("%d\n", root != NULL && root->pw_uid != 0 ? 0 : n * n);
    return gethostbyname("no.such.host.invalid") != NULL;
}
