// Makes a file system on the machine's data disk, and gives it to the workload.
#include "data_disk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "errors.h"
#include "ext4.h"
#include "files.h"
#include "protocol.h"
#include "scratch.h"

static int format(const char *disk)
{
    int fd = open(disk, O_RDWR | O_EXCL | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno("%s", disk);
    off_t end = lseek(fd, 0, SEEK_END);
    uint64_t size = end < 0 ? 0 : (uint64_t)end;
    bool fits = size > 0 && size % EXT4_STEP_BYTES == 0 && size <= EXT4_MOST_GROUPS * EXT4_GROUP_BYTES;
    int result = fits ? ext4_format(fd, size) : error_set("no file system fits a disk of %" PRIu64 " bytes", size);
    (void)close(fd);
    return result;
}

// The root directory of what is mounted there.
static int set_owner(const char *place, const char *root, uid_t uid, gid_t gid)
{
    char path[64];
    int fd = scratch_target(root, place);
    if (fd < 0)
        return -1;
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int result = chown(path, uid, gid) == 0 && chmod(path, 0755) == 0 ? 0 : error_set_errno("can't give %s away", place);
    (void)close(fd);
    return result;
}

int data_disk_mount(const char *place, const char *root, uid_t uid, gid_t gid)
{
    char disk[64];
    char target[64];
    if (disk_find(DATA_SERIAL, disk, sizeof disk) != 0 || format(disk) != 0)
        return -1;
    int fd = scratch_target(root, place);
    if (fd < 0)
        return -1;
    (void)snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
    // nothing on it outlives the machine, so nothing waits for the disk
    int result = mount_on("ext4", disk, target, MS_NOSUID | MS_NODEV | MS_NOATIME, "nobarrier");
    (void)close(fd);
    return result == 0 ? set_owner(place, root, uid, gid) : -1;
}
