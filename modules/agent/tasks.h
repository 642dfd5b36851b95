// Bounds how many processes and threads all commands together have: by the kernel's pids controller, or by their user.
#ifndef AGENT_TASKS_H
#define AGENT_TASKS_H

#include <stdint.h>

// At most so many, 0: as many as there is room for. `hierarchy` is where control groups can be mounted, NULL: nowhere.
// Without the controller each user of commands has that limit (RLIMIT_NPROC). -1 with fault() told.
int tasks_bound(uint32_t most, const char *hierarchy);
// In a child that is still privileged, with the agent's descriptors: count it from here on. 0, or -errno, and errno stays.
long tasks_join(void);

#endif
