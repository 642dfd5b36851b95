// Loads the kernel modules of the initrd, in the order that the image's builder worked out.
#include "kmodules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bytes.h"
#include "errors.h"
#include "files.h"

#define DIRECTORY "/modules/"
#define DISKS "virtio_blk.ko"
#define AUTOPROBE "/sys/bus/virtio/drivers_autoprobe"
#define MARKER "~Module signature appended~\n"

// Whether the kernel loads signed modules only.
static bool signatures_enforced(void)
{
    char value[8];
    return read_text("/sys/module/module/parameters/sig_enforce", value, sizeof value) == 0 && value[0] == 'Y';
}

// The host has verified the whole initrd: a signature at a module's end (kernel: scripts/sign-file.c) proves nothing
// more, and checking it takes the emulated CPU longer than all the rest of loading.
static void cut_signature(const char *path)
{
    uint8_t end[12 + sizeof MARKER - 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    bool is_signed = size > (off_t)sizeof end && pread(fd, end, sizeof end, size - (off_t)sizeof end) == (ssize_t)sizeof end &&
                     memcmp(end + 12, MARKER, sizeof MARKER - 1) == 0;
    if (fd >= 0)
        (void)close(fd);
    if (!is_signed)
        return;
    struct reader reader = {.at = end + 8, .left = 4};
    off_t length = (off_t)get_number(&reader, 4) + (off_t)sizeof end;
    if (length < size)
        (void)truncate(path, size - length);
}

static int load(const char *name, bool keep_signature)
{
    char path[300];
    int length = snprintf(path, sizeof path, DIRECTORY "%s", name);
    if (length < 0 || (size_t)length >= sizeof path || strchr(name, '/') != NULL)
        return error_set("not a module's name: %.100s", name);
    if (!keep_signature)
        cut_signature(path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno("%s", path);
    long result = syscall(SYS_finit_module, fd, "", 0);
    if (result != 0 && errno != EEXIST)
        (void)error_set_errno("can't load %s", path);
    else
        result = 0;
    (void)close(fd);
    (void)unlink(path);  // the initrd's memory is of no more use
    return result == 0 ? 0 : -1;
}

int kmodules_load_one(const char *name)
{
    return load(name, signatures_enforced());
}

// The driver of disks is given none when it is loaded, but each when it is looked for (disk.c): this guest may be saved
// before, with disks that stand for those of the machines that go on from it.
static int load_in_order(const char *name, bool keep_signature)
{
    if (strcmp(name, DISKS) != 0)
        return load(name, keep_signature);
    if (write_text(AUTOPROBE, "0") != 0 || load(name, keep_signature) != 0)
        return -1;
    return write_text(AUTOPROBE, "1");
}

static int load_listed(const char *list)
{
    static char order[16384];
    if (read_text(list, order, sizeof order) != 0)
        return -1;
    bool keep_signatures = signatures_enforced();
    char *rest = NULL;
    for (char *name = strtok_r(order, "\n", &rest); name != NULL; name = strtok_r(NULL, "\n", &rest))
        if (load_in_order(name, keep_signatures) != 0)
            return -1;
    return 0;
}

int kmodules_load(void)
{
    return load_listed(DIRECTORY "order");
}

int kmodules_load_network(void)
{
    if (access(DIRECTORY "network", F_OK) != 0)
        return error_set("this image was built for machines without a network");
    return load_listed(DIRECTORY "network");
}
