// What C programs usually take of libc, libm and libgcc: archives.sh keeps what this one is linked with. Never run.
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

extern char __stack_chk_fail[], __udivti3[], __umodti3[], __divti3[],
    __modti3[], __udivmodti4[], __popcountdi2[], __powidf2[];

const void *const usual[] = {
    printf, fprintf, sprintf, snprintf, vprintf, vfprintf, vsnprintf, vsprintf, scanf, fscanf, sscanf, vscanf, vsscanf, puts,
    fputs, putchar, putc, fputc, putchar_unlocked, putc_unlocked, getchar, getc, fgetc, getchar_unlocked, getc_unlocked, fgets,
    getline, getdelim, ungetc, fread, fwrite, fread_unlocked, fwrite_unlocked, fopen, freopen, fdopen, fclose, fflush, feof,
    ferror, clearerr, fseek, ftell, rewind, setvbuf, setbuf, perror, fileno, &stdin, &stdout, &stderr, malloc, calloc, realloc,
    free, aligned_alloc, posix_memalign, abort, exit, _Exit, atexit, quick_exit, getenv, atoi, atol, atoll, atof, strtol,
    strtoul, strtoll, strtoull, strtod, strtof, strtold, strtoimax, qsort, bsearch, rand, srand, rand_r, random, srandom, abs,
    labs, llabs, div, ldiv, lldiv, memcpy, memmove, memset, memcmp, memchr, strlen, strnlen, strcpy, strncpy, stpcpy, strcat,
    strncat, strcmp, strncmp, strcasecmp, strncasecmp, strchr, strrchr, strstr, strspn, strcspn, strpbrk, strtok, strtok_r,
    strsep, strdup, strndup, strerror, strcoll, bzero, bcopy, index, rindex, ffs, isalpha, isdigit, isalnum, isspace, isupper,
    islower, ispunct, isxdigit, isprint, iscntrl, isgraph, isblank, toupper, tolower, __ctype_b_loc, __ctype_tolower_loc,
    __ctype_toupper_loc, time, clock, clock_gettime, gettimeofday, difftime, mktime, localtime, gmtime, localtime_r, strftime,
    nanosleep, usleep, sleep, getrusage, setrlimit, getrlimit, read, write, open_memstream, getpid, sysconf, signal, raise,
    sigaction, setjmp, longjmp, _setjmp, setlocale, __errno_location, __stack_chk_fail, pthread_create, pthread_join,
    pthread_mutex_lock, pthread_mutex_unlock, pthread_mutex_init, pthread_mutex_destroy, pthread_cond_wait, pthread_cond_signal,
    pthread_cond_broadcast, pthread_self, sin, cos, tan, asin, acos, atan, atan2, sinh, cosh, tanh, exp, exp2, log, log2, log10,
    log1p, pow, sqrt, cbrt, hypot, floor, ceil, round, trunc, rint, lround, llround, lrint, llrint, fabs, fmod, modf, frexp,
    ldexp, fmax, fmin, fma, sinf, cosf, tanf, atan2f, expf, logf, powf, sqrtf, floorf, ceilf, roundf, fabsf, fmodf, sqrtl,
    floorl, ceill, roundl, fabsl, fmodl, __udivti3, __umodti3, __divti3, __modti3, __udivmodti4, __popcountdi2, __powidf2,
};

int main(void) { return usual[0] != 0; }
