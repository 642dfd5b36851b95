// Makes the machine that the workload sees: the verified root, its writable places, its devices, its clock and name.
#ifndef AGENT_ROOT_H
#define AGENT_ROOT_H

#include "requests.h"

// Each returns -1 with error_set() called.
// Find the disk, verify and mount it; needs no configuration.
int root_mount(void);
// Everything else, after which `/` is the new root.
int root_configure(const struct config *config);

#endif
