// What PID 1 does before it can talk: kernel file systems, modules, loopback, and the port to the host.
#ifndef AGENT_BOOT_H
#define AGENT_BOOT_H

// Each returns -1 with error_set() called.
int boot_prepare(void);
// The port's descriptor, non-blocking.
int boot_open_port(void);

#endif
