// Finds a virtio disk by the serial number that the host gave it, and has the kernel know of no others.
#include "disk.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "errors.h"
#include "files.h"

#define DISK_WAIT_MS 30000
#define DISKS "/sys/block"
#define DRIVER "/sys/bus/virtio/drivers/virtio_blk"
// More virtio devices than QEMU's machine has places for.
#define MOST_DEVICES 64u

struct search {
    const char *serial;
    char *path;
    unsigned long size;
    unsigned next;
};

static int find_by_serial(const struct search *search)
{
    DIR *disks = opendir(DISKS);
    if (disks == NULL)
        return error_set_errno(DISKS);
    int result = error_set("there is no disk with serial number %s", search->serial);
    for (struct dirent *entry = readdir(disks); entry != NULL && result != 0; entry = readdir(disks)) {
        char path[300];
        char serial[64];
        (void)snprintf(path, sizeof path, DISKS "/%s/serial", entry->d_name);
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

// The driver refuses devices that are no disks, and those that it has (ENODEV).
static void bind_device(unsigned number)
{
    char device[32];
    (void)snprintf(device, sizeof device, "virtio%u", number);
    (void)write_text(DRIVER "/bind", device);
}

static int bind_until_found(void *context)
{
    struct search *search = context;
    int result = find_by_serial(search);
    while (result != 0 && search->next < MOST_DEVICES) {
        bind_device(search->next++);
        result = find_by_serial(search);
    }
    return result;
}

int disk_find(const char *serial, char *path, unsigned long size)
{
    struct search search = {serial, path, size, 0};
    return wait_until(bind_until_found, &search, DISK_WAIT_MS);
}

// The disk is a virtio device's: DISKS/NAME/device is a link to that.
static int release(const char *name)
{
    char link[400];
    char target[300];
    (void)snprintf(link, sizeof link, DISKS "/%s/device", name);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0)
        return error_set_errno("%s", link);
    target[length] = '\0';
    const char *slash = strrchr(target, '/');
    return write_text(DRIVER "/unbind", slash == NULL ? target : slash + 1);
}

// The first disk that is not the one at `path`; "" for none.
static int find_other(const char *path, char *name, unsigned long size)
{
    DIR *disks = opendir(DISKS);
    if (disks == NULL)
        return error_set_errno(DISKS);
    name[0] = '\0';
    for (struct dirent *entry = readdir(disks); entry != NULL && name[0] == '\0'; entry = readdir(disks))
        if (strncmp(entry->d_name, "vd", 2) == 0 && strcmp(entry->d_name, path + sizeof "/dev/" - 1) != 0)
            (void)snprintf(name, size, "%s", entry->d_name);
    (void)closedir(disks);
    return 0;
}

int disk_release_others(const char *path)
{
    char name[300];
    while (find_other(path, name, sizeof name) == 0) {
        if (name[0] == '\0')
            return 0;
        if (release(name) != 0)
            return -1;
    }
    return -1;
}
