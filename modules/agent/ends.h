// Tells the host how a command ended, or why there was none.
#ifndef AGENT_ENDS_H
#define AGENT_ENDS_H

#include <stdint.h>

#include "command.h"
#include "protocol.h"

void send_exit(uint32_t stream, enum end end, enum step step, uint32_t code);
// Of a command that was collected, or was never a program.
void send_end(const struct command *command);

#endif
