// Makes the pipes of a child, or its terminal, and starts it on their other ends.
#ifndef AGENT_SPAWN_H
#define AGENT_SPAWN_H

#include <sys/types.h>

#include "child.h"
#include "requests.h"

// Our ends of the pipes: none of them blocks, all close on exec. With a terminal, input and output are its master, there
// is no error, and `terminal` is its other end, to be held until the command has ended.
struct spawned {
    int input;
    int output;
    int error;
    int report;
    int terminal;
    struct launch *launch;
};

// The child's number, or -1 with errno, when nothing is left open. The launch is child_start()'s.
pid_t spawn(const struct request *request, struct spawned *ours);

#endif
