/* Leaving Docker's streams for a socket of the worker's, see move.c. */
#ifndef MOVE_H
#define MOVE_H

#include "runner.h"

/* MOVE: between jobs, once. Answers over the old streams. */
void move(struct runner *r, const struct event *event);

#endif
