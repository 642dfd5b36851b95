// Opens a disk through dm-verity by ioctl, from the words of the kernel command line.
#ifndef AGENT_VERITY_H
#define AGENT_VERITY_H

#include <stdint.h>

#define VERITY_MAX_SALT 256

// The value of `mvm.verity=`: `<root hex>:<salt hex or ->:<data blocks>:<index of the tree's first block>`.
struct verity {
    char root[64 + 1];
    char salt[2 * VERITY_MAX_SALT + 1];
    uint64_t data_blocks;
    uint64_t hash_start;
};

// A pure function of the whole kernel command line; -1 with error_set() called.
int verity_parse(const char *command_line, struct verity *verity);
// Map `disk` (a device node) and write the mapped device's node into `mapped`; -1 with error_set() called.
int verity_open(const char *disk, const struct verity *verity, char *mapped, unsigned long size);

#endif
