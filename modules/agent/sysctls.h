// Sets the kernel's own settings that keep a workload from what is not its business.
#ifndef AGENT_SYSCTLS_H
#define AGENT_SYSCTLS_H

#include "protocol.h"

// Once all modules are loaded: none can be after this. Settings that this kernel doesn't have are left out.
// Returns -1 with error_set() called.
int sysctls_set(enum tier tier);
// What a machine in a network needs besides, before there is a link: there is no IPv6 on one that comes then.
// Returns -1 with error_set() called.
int sysctls_set_network(void);

#endif
