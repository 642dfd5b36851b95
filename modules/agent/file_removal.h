// Removes a file, an empty directory or a whole tree; follows no link, and enters no mount point.
#ifndef AGENT_FILE_REMOVAL_H
#define AGENT_FILE_REMOVAL_H

#include <stdbool.h>

// Returns 0, or errno when a line was written about it; then what comes behind that in a tree is still there.
int remove_path(const char *path, bool recursive);

#endif
