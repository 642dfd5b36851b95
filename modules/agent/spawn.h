// Makes the pipes of a child and starts it on their other ends.
#ifndef AGENT_SPAWN_H
#define AGENT_SPAWN_H

#include <sys/types.h>

#include "requests.h"

// Our ends of the pipes: none of them blocks, all close on exec.
struct spawned {
    int input;
    int output;
    int error;
    int report;
};

// The child's number, or -1 with errno, when nothing is left open.
pid_t spawn(const struct request *request, struct spawned *ours);

#endif
