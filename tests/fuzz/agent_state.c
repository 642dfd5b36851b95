// Linked before and after the agent's files: what lies between the two is all that they keep from one frame to the next.
#include "agent_state.h"

#define IN_ORDER __attribute__((no_sanitize("address"), aligned(64)))

#ifdef STATE_END
IN_ORDER char state_data_end[64] = {1};
IN_ORDER char state_bss_end[64];
#else
IN_ORDER char state_data_begin[64] = {1};
IN_ORDER char state_bss_begin[64];
#endif
