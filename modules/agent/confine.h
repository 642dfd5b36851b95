// Takes from the agent, once, what no child of it may have and it can do without; children inherit that.
#ifndef AGENT_CONFINE_H
#define AGENT_CONFINE_H

// No capability to gain, by whatever program (capabilities(7)), no groups beside the first, no new privileges, no core
// dumps, default signals but for SIGPIPE, which the agent ignores, and the filter of system calls, which has to be made
// before: for each process anew, it would take the kernel longer than all else. Returns 0, or -1 with error_set() called.
int confine(void);

#endif
