// Puts the secrets of the workload into a file system in memory that only its user can read.
#ifndef AGENT_SECRET_FILES_H
#define AGENT_SECRET_FILES_H

#include <sys/types.h>

#include "secrets.h"

// Make /run/secrets below `root`, each file 0400 and the user's; -1 with error_set() called. Without secrets, nothing is made.
int secrets_place(const struct secrets *secrets, const char *root, uid_t uid, gid_t gid);

#endif
