// The one file system in memory behind all places that the workload may write to.
#ifndef AGENT_SCRATCH_H
#define AGENT_SCRATCH_H

#include "requests.h"

// Each returns -1 with error_set() called.
// As large as is configured, or so many bytes where that is less.
int scratch_open(const struct config *config, uint64_t most);
// Mount a new directory of it on `path` below `root`, never by way of a symbolic link.
int scratch_bind(const char *root, const char *path, const struct config *config, unsigned long flags);
// A descriptor of the directory below `root`, made where it is missing and an earlier mount lets us.
int scratch_target(const char *root, const char *path);
// Take the file system itself out of sight; what was bound stays.
int scratch_close(void);

#endif
