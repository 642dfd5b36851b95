// Copies files between the guest and the host, as the workload's user, in a process of its own without a program.
#ifndef AGENT_COPY_H
#define AGENT_COPY_H

#include "requests.h"

// Descriptor 0 has what comes in, 1 takes what goes out, 2 gets a line about what went wrong. Returns the exit status.
int copy(const struct request *request);

// Both return 0, or -1 when a line was written about it.
int copy_out(const char *path);
// `name` may be NULL: then nothing may be there with that path yet, or a file if it `replaces`.
int copy_in(const char *path, const char *name, bool replaces);

#endif
