// The one file system in memory behind all places that the workload may write to.
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "errors.h"
#include "files.h"
#include "reverse_dirs.h"

#define SCRATCH "/scratch"

static unsigned directories;

int scratch_open(const struct config *config, uint64_t most)
{
    if (config->scratch == 0)
        return 0;
    if (make_directory(SCRATCH, 0700) != 0)
        return -1;
    if (config->reverse_dirs)
        return reverse_dirs_mount(config->scratch, SCRATCH);
    char options[64];
    (void)snprintf(options, sizeof options, "mode=0700,size=%" PRIu64, config->scratch < most ? config->scratch : most);
    return mount_on("tmpfs", "scratch", SCRATCH, MS_NOSUID | MS_NODEV, options);
}

// Where everybody may write, only owners may delete.
static bool is_shared(const char *path)
{
    return strcmp(path, "/tmp") == 0 || strcmp(path, "/var/tmp") == 0 || strcmp(path, "/dev/shm") == 0;
}

static int make_source(const char *path, const struct config *config, char *source, size_t size)
{
    (void)snprintf(source, size, SCRATCH "/%u", directories++);
    if (mkdir(source, 0700) != 0)
        return error_set_errno("can't make %s", source);
    if (is_shared(path) ? chmod(source, 01777) != 0 : chown(source, config->uid, config->gid) != 0 || chmod(source, 0755) != 0)
        return error_set_errno("can't give %s away", source);
    return 0;
}

int scratch_target(const char *root, const char *path)
{
    int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0)
        return error_set_errno("%s", root);
    const struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    char part[MAX_PATH + 1];
    (void)snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL)
            *slash = '\0';
        (void)mkdirat(root_fd, part + 1, 0755);  // whether it is there now, the opening below tells
        if (slash == NULL)
            break;
        *slash = '/';
    }
    int fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof how);
    if (fd < 0)
        (void)error_set_errno("the image has no directory %s", path);
    (void)close(root_fd);
    return fd;
}

int scratch_bind(const char *root, const char *path, const struct config *config, unsigned long flags)
{
    char source[64];
    char target[64];
    if (make_source(path, config, source, sizeof source) != 0)
        return -1;
    int fd = scratch_target(root, path);
    if (fd < 0)
        return -1;
    (void)snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
    int result = mount_on(NULL, source, target, MS_BIND, NULL);
    (void)close(fd);
    fd = result == 0 ? scratch_target(root, path) : -1;  // the mount, and no more what lies beneath it
    if (fd < 0)
        return -1;
    (void)snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
    result = mount_on(NULL, "scratch", target, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | flags, NULL);
    (void)close(fd);
    return result;
}

int scratch_close(void)
{
    if (directories > 0 && umount2(SCRATCH, MNT_DETACH) != 0)
        return error_set_errno("can't hide the scratch space");
    return 0;
}
