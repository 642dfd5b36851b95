// Finds a virtio disk by the serial number that the host gave it.
#include "disk.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "errors.h"
#include "files.h"

#define DISK_WAIT_MS 30000

struct search {
    const char *serial;
    char *path;
    unsigned long size;
};

static int find_by_serial(void *context)
{
    const struct search *search = context;
    DIR *disks = opendir("/sys/block");
    if (disks == NULL)
        return error_set_errno("/sys/block");
    int result = error_set("there is no disk with serial number %s", search->serial);
    for (struct dirent *entry = readdir(disks); entry != NULL && result != 0; entry = readdir(disks)) {
        char path[300];
        char serial[64];
        (void)snprintf(path, sizeof path, "/sys/block/%s/serial", entry->d_name);
        if (strncmp(entry->d_name, "vd", 2) != 0 || read_text(path, serial, sizeof serial) != 0)
            continue;
        serial[strcspn(serial, "\n")] = '\0';
        int length = snprintf(search->path, search->size, "/dev/%s", entry->d_name);
        if (strcmp(serial, search->serial) == 0 && length > 0 && (unsigned long)length < search->size)
            result = access(search->path, R_OK);
    }
    (void)closedir(disks);
    return result;
}

int disk_find(const char *serial, char *path, unsigned long size)
{
    struct search search = {serial, path, size};
    return wait_until(find_by_serial, &search, DISK_WAIT_MS);
}
