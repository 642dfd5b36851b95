// Mounts the directories that the host shares, each at its place, never by way of a symbolic link.
#include "share_mounts.h"

#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#include "disk.h"
#include "files.h"
#include "scratch.h"

static int mount_one(const struct share *share, const char *root)
{
    char disk[64];
    char target[64];
    bool is_image = share->kind == SHARE_EROFS;
    if (is_image && disk_find(share->tag, disk, sizeof disk) != 0)
        return -1;
    int fd = scratch_target(root, share->path);
    if (fd < 0)
        return -1;
    (void)snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
    const unsigned long flags = MS_NOSUID | MS_NODEV | (share->read_only || is_image ? MS_RDONLY : 0);
    int result = mount_on(is_image ? "erofs" : "virtiofs", is_image ? disk : share->tag, target, flags, NULL);
    (void)close(fd);
    return result;
}

int shares_mount(const struct shares *shares, const char *root)
{
    for (size_t i = 0; i < shares->count; i++)
        if (mount_one(&shares->list[i], root) != 0)
            return -1;
    return 0;
}
