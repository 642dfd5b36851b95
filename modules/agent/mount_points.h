// Makes the directories for shares and the data disk that the image lacks.
#ifndef AGENT_MOUNT_POINTS_H
#define AGENT_MOUNT_POINTS_H

#include "requests.h"

// Below `root`, which may be read-only; places in writable directories are left to scratch_target(). Before anything is
// mounted there. -1 with error_set() called.
int mount_points_make(const struct config *config, const char *root);

#endif
