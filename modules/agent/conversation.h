// The order of the conversation with the host: HELLO, CONFIG, READY, then commands and streams, also FREEZE and THAW, then
// SHUTDOWN and BYE.
#ifndef AGENT_CONVERSATION_H
#define AGENT_CONVERSATION_H

#include "requests.h"

// What a configuration means for this machine; -1 with error_set() called.
typedef int (*apply_config)(const struct config *config);

// Say HELLO on `fd`, a non-blocking descriptor.
int conversation_begin(int fd, apply_config apply);
// Say FAILED with the words of error_set().
void conversation_failed(void);
// Talk until the host has said SHUTDOWN or left, or something failed.
void conversation_run(void);

#endif
