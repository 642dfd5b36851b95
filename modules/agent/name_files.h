// Tells the workload's programs where names are looked up, and its own: /etc/resolv.conf and /etc/hosts.
#ifndef AGENT_NAME_FILES_H
#define AGENT_NAME_FILES_H

#include "network.h"

// Mount both, read-only, over those of the image below `root`, which has to have them. -1 with error_set() called.
int name_files_mount(const struct network *network, const char *hostname, const char *root);

#endif
