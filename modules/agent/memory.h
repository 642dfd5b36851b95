// How much of the machine's memory commands may have, and their files in memory: what is free after the boot, less a reserve.
#ifndef AGENT_MEMORY_H
#define AGENT_MEMORY_H

#include <stdint.h>

// Bytes that are available now, as the kernel reckons. -1 with error_set() called.
int memory_available(uint64_t *available);
// What all commands together may have of so many bytes.
uint64_t memory_for_commands(uint64_t available);
// What files in memory may have of that: less than all, since the end of a command doesn't give it back.
uint64_t memory_for_files(uint64_t commands);

#endif
