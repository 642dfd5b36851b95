// Writes an empty ext4 file system into a sparse file, for directories that list what is oldest first.
#ifndef AGENT_EXT4_H
#define AGENT_EXT4_H

#include <stdint.h>

// What a file system of this kind is made of: its size is a multiple of this.
#define EXT4_GROUP_BYTES (UINT64_C(1) << 27)
#define EXT4_MOST_GROUPS UINT64_C(8192)

// Returns -1 with fault() told. `fd` is a file of `groups` times EXT4_GROUP_BYTES, all zero.
int ext4_format(int fd, uint32_t groups);

#endif
