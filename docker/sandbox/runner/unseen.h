/* What the container's cgroup knows of a job and its processes do not show. unseen.c holds the theory of operation. */
#ifndef UNSEEN_H
#define UNSEEN_H

#include "runner.h"

void unseen_open(struct cgroup *cgroup);
void unseen_begin(const struct runner *r, struct job *job);
/* Whether the active runs together keep more memory than they may. */
bool unseen_memory(const struct runner *r);

/* CPU time of the container, to be read before its processes are looked at. */
uint64_t unseen_clock(const struct runner *r);
/* Puts what is on nobody's bill on that of the active runs. */
void unseen_charge(struct runner *r, uint64_t container_ns);
/* A run is active no more. */
void unseen_ended(struct job *job, const struct run *run);
/* Something that no run has to pay for has happened: what was missing until now is forgotten. */
void unseen_restart(struct job *job);

#endif
