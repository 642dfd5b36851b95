// Tells the host how a command ended, or why there was none.
#ifndef AGENT_EXIT_REPORT_H
#define AGENT_EXIT_REPORT_H

#include <stdint.h>

#include "protocol.h"

void send_exit(uint32_t stream, enum end end, enum step step, uint16_t flags, uint32_t code);

#endif
