// Holds all commands together in one of the kernel's control groups: how many they are, their memory, and whether they run.
#ifndef AGENT_TASKS_H
#define AGENT_TASKS_H

#include <stdbool.h>
#include <stdint.h>

// Mount the hierarchy there: 1; 0 where the kernel has none; -1 with error_set() called.
int tasks_mount(const char *hierarchy);
// At most so many, 0: as many as there is room for; and so many bytes, 0: any. `hierarchy` is where control groups are,
// NULL: nowhere. Without the one controller each user of commands has that limit (RLIMIT_NPROC), without the other there
// is no bound. -1 with error_set() called.
int tasks_bound(uint32_t most, uint64_t memory, const char *hierarchy);
// In a child that is still privileged, with the agent's descriptors: count it from here on. 0, or -errno, and errno stays.
long tasks_join(void);
// How many processes of commands the kernel has ended for want of memory; 0 where it doesn't count.
uint64_t tasks_oom_kills(void);

// Have the kernel stop all processes of commands, which takes as long as they are in it; or have them go on, which is no failure
// where they do. -1 with error_set() called.
int tasks_freeze(void);
int tasks_thaw(void);
// Whether all of them stand.
bool tasks_frozen(void);
// A descriptor that doesn't block, and has bytes to read once that may have changed.
int tasks_changes(void);
// Signal each process of commands, while they stand; -1 with error_set() called.
int tasks_signal(int number);

#endif
