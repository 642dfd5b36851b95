// Makes a file system on the machine's data disk, and gives it to the workload.
#ifndef AGENT_DATA_DISK_H
#define AGENT_DATA_DISK_H

#include <sys/types.h>

// Returns -1 with error_set() called. Below `root` the place is a directory of the image, or beneath a writable one.
int data_disk_mount(const char *place, const char *root, uid_t uid, gid_t gid);

#endif
