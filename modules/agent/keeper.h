// Keeps the guest's clock, entropy and host name, by a process of its own: the agent's filter lets nobody set the first,
// and what the machine is given anew comes when the agent is under it.
#ifndef AGENT_KEEPER_H
#define AGENT_KEEPER_H

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "protocol.h"

// In nanoseconds.
#define SECOND INT64_C(1000000000)

// What a machine is given that begins, or that goes on from a snapshot: Unix time in nanoseconds, less than 2^63; bytes
// that the host drew for this moment alone; a host name, or none, which keeps the one that it has.
struct renewal {
    uint64_t time_ns;
    uint8_t entropy[ENTROPY_BYTES];
    char hostname[MAX_HOSTNAME + 1];
};

// Start the process, before the agent knows a secret or opens a port; -1 with error_set() called.
int keeper_start(void);
// Its number, 0: none.
pid_t keeper_process(void);
// Add the entropy to the kernel's, which is reseeded by it, set clock and name. -1 with error_set() called.
int keeper_renew(const struct renewal *renewal);
// A clock's reading, in nanoseconds.
int64_t keeper_read_clock(clockid_t clock);
// Set the clock so many nanoseconds before CLOCK_MONOTONIC; without effect where it can't be set.
void keeper_set_clock(int64_t offset);

#ifdef AGENT_TEST_MODE
// Talk to what holds the other end of `fd` in place of a process of the agent's own.
void keeper_adopt(int fd);
// The program of its filter, as seccomp(2) takes it. -1 with errno.
int keeper_write_filter(int fd);
// Be that process, on the socket `fd`.
_Noreturn void keeper_serve(int fd);
#endif

#endif
