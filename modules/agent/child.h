// What happens between fork and exec: a process of its own session without privileges, then another program.
#ifndef AGENT_CHILD_H
#define AGENT_CHILD_H

#include <stdint.h>
#include <sys/types.h>

#include "requests.h"

// Descriptors that the child gets as 0, 1, 2, and the one on which it reports a failure.
struct child_fds {
    int input;
    int output;
    int error;
    int report;
};

// What the child writes to `report` when it can't execute the program.
struct child_report {
    int32_t step;
    int32_t number;
};

// Returns only in the parent: the child's number, or -1 with errno.
pid_t child_start(const struct request *request, const struct child_fds *fds);

#endif
