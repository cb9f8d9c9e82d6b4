/* Runs that are forked by a fork server instead of started by execve. served.c holds the theory of operation. */
#ifndef SERVED_H
#define SERVED_H

#include "runner.h"

bool served_available(void);

/* Whether the run is to be forked; starts the server at the first call of a job. */
bool served_wanted(struct runner *r, struct job *job, const struct run *run);
/* Asks for the fork (served_hear fills run->pid), or gives the server up; always 0, as the run is then started again. */
int served_start(struct runner *r, struct job *job, struct run *run);
/* Waits for what is under way, so that all active runs have their pid; before anything that looks at processes or makes one. */
void served_hear(struct runner *r);
/* False while what is left of a server is being killed: no run may start. */
bool served_settled(const struct job *job);
/* Back to the state before its start; from now on by exec. Also for a run that is not active yet. */
void served_requeue(struct job *job, struct run *run);
void served_end(struct runner *r, struct job *job);

/* A child has ended but is not reaped: NULL if `run` (of this pid, or NULL) is not to be believed. */
struct run *served_check(struct runner *r, pid_t pid, struct run *run);
/* The end of this run could be another process's doing: it was requeued. */
bool served_retry(struct job *job, struct run *run);
/* Kills all of a server's uid and starts its unfinished runs again by exec. */
void served_abandon(struct runner *r);
/* If a stranger has appeared while runs of a server are active. */
void served_watch(struct runner *r);
/* Ends SERVER_ENDING when everything is gone. */
void served_settle(struct runner *r, uint64_t now);

#endif
