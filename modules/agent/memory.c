// How much of the machine's memory commands may have, and their files in memory: what is free after the boot, less a reserve.
#include "memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "errors.h"
#include "files.h"

#define MIB (UINT64_C(1) << 20)
// What the agent needs doesn't grow with the machine. What no group is charged for does: dm-verity's cache of hashes, a
// fiftieth of it. The kernel's own watermarks are not in what it calls available.
#define RESERVE (4 * MIB)
#define RESERVED_SHARE 32
// For a shell that looks what the files are, and removes some.
#define ROOM (4 * MIB)

// Less a part, and at least half.
static uint64_t subtract(uint64_t all, uint64_t part)
{
    return all > 2 * part ? all - part : all / 2;
}

int memory_available(uint64_t *available)
{
    static const char name[] = "\nMemAvailable:";
    char text[8192];
    if (read_text("/proc/meminfo", text, sizeof text) != 0)
        return -1;
    const char *line = strstr(text, name);
    if (line == NULL || sscanf(line + sizeof name - 1, "%" SCNu64 " kB", available) != 1)
        return error_set("the kernel doesn't say how much memory is available");
    *available *= 1024;
    return 0;
}

uint64_t memory_for_commands(uint64_t available)
{
    return subtract(available, RESERVE + available / RESERVED_SHARE);
}

uint64_t memory_for_files(uint64_t commands)
{
    return subtract(commands, ROOM);
}
