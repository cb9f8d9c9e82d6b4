#ifndef PROGRAM_H
#define PROGRAM_H

/* How the fork server gets into a program. */
enum way { WAY_NONE, WAY_PRELOADED, WAY_LINKED };

enum way way_into(const char *path);

#endif
