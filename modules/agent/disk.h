// Finds a virtio disk by the serial number that the host gave it.
#ifndef AGENT_DISK_H
#define AGENT_DISK_H

// Wait for the disk and write its device node into `path`; -1 with error_set() called.
int disk_find(const char *serial, char *path, unsigned long size);

#endif
