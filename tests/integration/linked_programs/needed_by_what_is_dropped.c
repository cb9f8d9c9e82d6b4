/* The references pull members although the section that they are in is not linked, nor is a message about it. */
#include <stdio.h>

extern int argp_parse(void), cfsetspeed(void), nowhere(void);

__attribute__((section(".text.dropped"))) int dropped(void) { return argp_parse() + cfsetspeed() + nowhere(); }

int main(void) { puts("x"); }
