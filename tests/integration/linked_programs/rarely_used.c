#include <complex.h>
#include <dlfcn.h>
#include <glob.h>
#include <iconv.h>
#include <locale.h>
#include <netdb.h>
#include <regex.h>
#include <search.h>
#include <stdio.h>
#include <wchar.h>

int main(void) {
    regex_t expression;
    glob_t found;
    struct addrinfo *addresses;
    setlocale(LC_ALL, "");
    printf("%d %d\n", regcomp(&expression, "a+b", REG_EXTENDED), glob("*", 0, NULL, &found));
    printf("%d %p\n", getaddrinfo("localhost", "80", NULL, &addresses), dlopen("libm.so.6", RTLD_NOW));
    printf("%d %f\n", iconv_open("UTF-16", "UTF-8") != NULL, creal(cexp(csqrt(-1 + 2 * I))));
    return hcreate(10) + wprintf(L"x");
}
