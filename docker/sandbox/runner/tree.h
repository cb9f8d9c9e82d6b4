/* Directories whose content an adversary has made: any bytes in names, any depth, any modes. */
#ifndef TREE_H
#define TREE_H

#include <stdbool.h>

/* Calls visit(fd, name, argument) for each entry but "." and "..", until one call returns other than 0; returns that, or -1. */
int tree_each(int fd, int (*visit)(int fd, const char *name, void *argument), void *argument);

/*
 * Removes everything in the directory but the entry of the name `but`, which may be NULL. Nobody may be alive who could change it
 * meanwhile. False: something is left.
 */
bool tree_empty(int fd, const char *but);
bool tree_is_empty(int fd, const char *but);

#endif
