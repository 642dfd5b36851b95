// Scratch space whose directories list in the reverse of a tmpfs's order, for builds that must not depend on it.
//
// A tmpfs lists what was made last first (fs/libfs.c), an ext4 without hashed directories what was made first. It lies
// in memory like a tmpfs: in a file without a name, behind a loop device.
#include "reverse_dirs.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "errors.h"
#include "ext4.h"
#include "files.h"
#include "kmodules.h"

#define DEVICE "/dev/loop0"

static int make_file(uint64_t size)
{
    int file = memfd_create("scratch", MFD_CLOEXEC);
    if (file < 0)
        return error_set_errno("no file for the scratch space");
    if (ftruncate(file, (off_t)size) != 0)
        (void)error_set_errno("no room for the scratch space");
    else if (ext4_format(file, size) == 0)
        return file;
    (void)close(file);
    return -1;
}

static int attach(int file)
{
    if (kmodules_load_one("loop.ko") != 0)
        return -1;
    int device = open(DEVICE, O_RDWR | O_CLOEXEC);
    if (device < 0)
        return error_set_errno(DEVICE);
    const struct loop_config config = {
        .fd = (uint32_t)file,
        .block_size = 4096,
        .info = {.lo_flags = LO_FLAGS_AUTOCLEAR},  // gone with the last mount
    };
    if (ioctl(device, LOOP_CONFIGURE, &config) == 0)
        return device;
    (void)error_set_errno("can't set up " DEVICE);
    (void)close(device);
    return -1;
}

int reverse_dirs_mount(uint64_t size, const char *target)
{
    int file = make_file(size - size % EXT4_GROUP_BYTES);
    int device = file < 0 ? -1 : attach(file);
    // what is deleted goes back to the machine's memory; nothing here outlives a crash, so nothing waits for the disk
    int result = device < 0 ? -1 : mount_on("ext4", DEVICE, target, MS_NOSUID | MS_NODEV, "discard,nobarrier");
    if (device >= 0)
        (void)close(device);
    if (file >= 0)
        (void)close(file);
    return result;
}
