// Finds a virtio disk by the serial number that the host gave it, and has the kernel know of no others.
#ifndef AGENT_DISK_H
#define AGENT_DISK_H

// Give disks their driver, one after another, until it is there, and write its device node into `path`; -1 with
// error_set() called.
int disk_find(const char *serial, char *path, unsigned long size);
// Take the driver from all disks but the one at `path`: the kernel knows nothing of them then, neither their size nor any
// block. -1 with error_set() called.
int disk_release_others(const char *path);

#endif
