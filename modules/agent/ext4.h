// Writes an empty ext4 file system, whatever bytes the disk has, for directories that list what is oldest first.
#ifndef AGENT_EXT4_H
#define AGENT_EXT4_H

#include <stdint.h>

// What a file system of this kind is made of, and the least of it that may be its end: sizes are multiples of the latter.
#define EXT4_GROUP_BYTES (UINT64_C(1) << 27)
#define EXT4_STEP_BYTES (UINT64_C(1) << 24)
#define EXT4_MOST_GROUPS UINT64_C(8192)

// Returns -1 with error_set() called. `size` is a multiple of EXT4_STEP_BYTES, and at most EXT4_MOST_GROUPS of groups.
int ext4_format(int fd, uint64_t size);

#endif
