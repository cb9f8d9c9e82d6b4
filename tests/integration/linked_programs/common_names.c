/* A common symbol pulls a library's member that defines it. */
#include <stdio.h>

__attribute__((common)) int signgam;
__attribute__((common)) int argp_err_exit_status;
__attribute__((common)) void *__rcmd_errstr;

int main(void) { printf("%d %d %p\n", signgam, argp_err_exit_status, __rcmd_errstr); }
