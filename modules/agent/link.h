// Sets up the machine's one link to its network, by rtnetlink.
#ifndef AGENT_LINK_H
#define AGENT_LINK_H

#include "network.h"

// Wait for the link, and return when it carries packets. -1 with error_set() called.
int link_set_up(const struct network *network);

#endif
