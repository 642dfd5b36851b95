// Lists, describes, removes, renames and makes files for the host, as the workload's user, in a process of its own.
#ifndef AGENT_FILE_OPERATIONS_H
#define AGENT_FILE_OPERATIONS_H

#include "requests.h"

// Descriptor 1 takes the entries, 2 gets a line about what went wrong. Returns the exit status: 0, or errno.
int operate_on_files(const struct request *request);

#endif
