// Puts the secrets of the workload into a file system in memory that only its user can read.
#include "secret_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "errors.h"
#include "files.h"

#define QUIET (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static int write_all(int fd, const uint8_t *data, size_t length)
{
    while (length > 0) {
        ssize_t count = write(fd, data, length);
        if (count < 0 && errno != EINTR)
            return -1;
        if (count > 0) {
            data += count;
            length -= (size_t)count;
        }
    }
    return 0;
}

// No message here holds more of a secret than its name.
static int place_one(const struct secret *secret, int directory, uid_t uid, gid_t gid)
{
    int fd = openat(directory, secret->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
    if (fd < 0)
        return error_set_errno("the secret %s", secret->name);
    int result = 0;
    if (write_all(fd, secret->value, secret->length) != 0 || fchmod(fd, 0400) != 0 || fchown(fd, uid, gid) != 0)
        result = error_set_errno("the secret %s", secret->name);
    (void)close(fd);
    return result;
}

static int place_all(const struct secrets *secrets, const char *path, uid_t uid, gid_t gid)
{
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0)
        return error_set_errno("%s", path);
    int result = 0;
    for (size_t i = 0; i < secrets->count && result == 0; i++)
        result = place_one(&secrets->list[i], directory, uid, gid);
    (void)close(directory);
    return result;
}

int secrets_place(const struct secrets *secrets, const char *root, uid_t uid, gid_t gid)
{
    if (secrets->count == 0)
        return 0;
    char path[64];
    char options[96];
    (void)snprintf(path, sizeof path, "%s/run/secrets", root);
    (void)snprintf(options, sizeof options, "mode=0500,uid=%u,gid=%u,size=1m,nr_inodes=64", uid, gid);
    if (make_directory(path, 0500) != 0 || mount_on("tmpfs", "secrets", path, QUIET, options) != 0)
        return -1;
    if (place_all(secrets, path, uid, gid) != 0)
        return -1;
    return mount_on(NULL, "secrets", path, MS_REMOUNT | MS_BIND | MS_RDONLY | QUIET, NULL);
}
