// Scratch space whose directories list in the reverse of a tmpfs's order, for builds that must not depend on it.
#ifndef AGENT_REVERSE_DIRS_H
#define AGENT_REVERSE_DIRS_H

#include <stdint.h>

// Mount `size` bytes of it on `target`, root's alone. Returns -1 with error_set() called.
int reverse_dirs_mount(uint64_t size, const char *target);

#endif
