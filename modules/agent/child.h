// What happens between clone and exec: a process of its own session without privileges, then another program.
#ifndef AGENT_CHILD_H
#define AGENT_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "requests.h"

// Descriptors that the child gets as 0, 1, 2, and the one on which it reports a failure. The first three may be one
// terminal, which is to control the child's session.
struct child_fds {
    int input;
    int output;
    int error;
    int report;
    bool is_terminal;
};

// What the child writes to `report` when it can't execute the program.
struct child_report {
    int32_t step;
    int32_t number;
};

// A child that still uses the agent's memory, and the request in it.
struct launch;

// Returns only in the parent: the child's number, or -1 with errno. What the request points to has to stay until the
// child has executed its program or ended, which the other end of `report` tells by its end; then the launch, which may
// be NULL, is to be let go.
pid_t child_start(const struct request *request, const struct child_fds *fds, struct launch **launch);
void child_release(struct launch *launch);

#endif
