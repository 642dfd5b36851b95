// A pseudo-terminal for a shell: made, resized, and taken by the child that it is to control.
#ifndef AGENT_PTY_H
#define AGENT_PTY_H

#include <stdbool.h>

#include "requests.h"

// `master` is the agent's and doesn't block; `slave` is the command's. The agent holds that too until the command has
// ended, so that reading the master can't find an end before.
struct pty {
    int master;
    int slave;
};

// All return 0, or -1 with errno.
int pty_open(const struct request *request, struct pty *pty);
int pty_resize(int master, uint16_t rows, uint16_t columns);
// In the child, which leads its session: descriptor 0 becomes its controlling terminal. 0, or -errno, and errno stays.
long pty_take(void);
// Whether the master has bytes to read now.
bool pty_has_bytes(int master);
// Replace the child by the first shell that the image has; returns with -errno when it has none; errno stays.
long pty_execute_shell(char *const *envp);

#endif
