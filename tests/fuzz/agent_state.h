// Where the agent's variables lie in memory, so that each input can begin with those of an agent that was just started.
#ifndef AGENT_STATE_H
#define AGENT_STATE_H

extern char state_data_begin[64];
extern char state_data_end[64];
extern char state_bss_begin[64];
extern char state_bss_end[64];

#endif
