// Mounts the directories that the host shares, each at its place, never by way of a symbolic link.
#ifndef AGENT_SHARE_MOUNTS_H
#define AGENT_SHARE_MOUNTS_H

#include "shares.h"

// Returns -1 with error_set() called. Below `root` each place is a directory of the image, or beneath a writable one.
int shares_mount(const struct shares *shares, const char *root);

#endif
