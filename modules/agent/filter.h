// Makes the seccomp filter of a tier from the table, and puts the calling process under it.
#ifndef AGENT_FILTER_H
#define AGENT_FILTER_H

#include "protocol.h"

// Make the program; -1 with error_set() called. In the agent, once it knows the tier.
int filter_make(enum tier tier);
// From here on this process and all that come of it are under it; no-new-privs is set. -1 with errno.
int filter_install(void);
// The program as seccomp(2) takes it, for tests. -1 with errno.
int filter_write(int fd);

#endif
