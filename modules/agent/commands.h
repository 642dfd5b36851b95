// The table of commands: which may start, to which one a frame or an ended child belongs.
#ifndef AGENT_COMMANDS_H
#define AGENT_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>

#include "frames.h"
#include "requests.h"

// A frame of an odd stream; `allowed` says what the host may have run, and stays the caller's. Returns -1
// (with error_set() called) when it breaks the protocol.
int commands_frame(const struct config *allowed, const struct frame *frame);

// A child ended: collect those that have; true when there may be more.
bool commands_reap(void);

// SIGTERM to all process groups; SIGKILL to all sessions.
void commands_terminate(void);
void commands_kill(void);
size_t commands_running(void);

// Whether each command executes its program by now, or was collected; what isn't known yet is heard of at once.
bool commands_settle(void);
// Whether the configuration's command was started and has not ended.
bool commands_run_goes_on(void);
// Another host speaks from here on, of streams of its own: kill the sessions of all commands but the configuration's, and forget
// them without a word; that one goes on as command_change_host() says.
void commands_change_host(void);

#endif
