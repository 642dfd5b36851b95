// Loads the kernel modules of the initrd, in the order that the image's builder worked out.
#ifndef AGENT_KMODULES_H
#define AGENT_KMODULES_H

// Load what /modules/order names, one file of /modules per line, and delete it; -1 with error_set() called.
int kmodules_load(void);
// Load what /modules/network names, which an image has that may be in a network; -1 with error_set() called.
int kmodules_load_network(void);
// Load one that no ordinary machine needs, which is in /modules and not in the order; -1 with error_set() called.
int kmodules_load_one(const char *name);

#endif
