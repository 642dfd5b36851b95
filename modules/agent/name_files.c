// Tells the workload's programs where names are looked up, and its own: /etc/resolv.conf and /etc/hosts.
#include "name_files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "errors.h"
#include "files.h"

#define FILES "/names"
#define RESOLVER "/etc/resolv.conf"
#define HOSTS "/etc/hosts"
#define QUIET (MS_NOSUID | MS_NODEV | MS_NOEXEC)

// What lies at that path below `root`, never by way of a symbolic link.
static int open_below(const char *root, const char *path, uint64_t flags, uint64_t mode)
{
    const struct open_how how = {
        .flags = flags | O_CLOEXEC,
        .mode = mode,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0)
        return -1;
    int fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof how);
    int reason = errno;
    (void)close(root_fd);
    errno = reason;
    return fd;
}

// The file that is to be covered; it is made where the directory is a writable place, empty so far.
static int open_covered(const char *root, const char *path)
{
    int made = open_below(root, path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (made >= 0)
        (void)close(made);
    int fd = open_below(root, path, O_PATH, 0);
    struct stat found;
    if (fd >= 0 && fstat(fd, &found) == 0 && S_ISREG(found.st_mode))
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return error_set("the image has no file %s to put the machine's own over", path);
}

static int write_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t count = write(fd, data, length);
        if (count < 0)
            return -1;
        data += count;
        length -= (size_t)count;
    }
    return 0;
}

// What the image itself says there, with a line's end behind it; without such a file, or with an empty one, the usual.
static int copy_hosts(int fd, const char *root)
{
    static const char usual[] = "127.0.0.1 localhost\n";
    char data[4096];
    char last = '\0';
    int image = open_below(root, HOSTS, O_RDONLY | O_NONBLOCK, 0);
    if (image < 0 && errno != ENOENT)
        return -1;
    ssize_t count = 0;
    int result = 0;
    while (image >= 0 && result == 0 && (count = read(image, data, sizeof data)) > 0) {
        result = write_all(fd, data, (size_t)count);
        last = data[count - 1];
    }
    if (image >= 0)
        (void)close(image);
    if (result != 0 || count < 0)
        return -1;
    if (last == '\0')
        return write_all(fd, usual, sizeof usual - 1);
    return last == '\n' ? 0 : write_all(fd, "\n", 1);
}

static int write_resolver(const struct network *network)
{
    char text[128];
    uint32_t it = network->resolver;
    int length = snprintf(text, sizeof text, "nameserver %u.%u.%u.%u\noptions timeout:2 attempts:3 no-aaaa\n", it >> 24,
                          it >> 16 & 255, it >> 8 & 255, it & 255);
    int fd = open(FILES RESOLVER, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    int result = fd < 0 ? -1 : write_all(fd, text, (size_t)length);
    if (fd >= 0)
        (void)close(fd);
    return result == 0 ? 0 : error_set_errno("can't write %s", RESOLVER);
}

static int write_hosts(const struct network *network, const char *hostname, const char *root)
{
    char text[128];
    uint32_t it = network->address;
    int length =
        snprintf(text, sizeof text, "%u.%u.%u.%u %.64s\n", it >> 24, it >> 16 & 255, it >> 8 & 255, it & 255, hostname);
    int fd = open(FILES HOSTS, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    int result = fd < 0 || copy_hosts(fd, root) != 0 || write_all(fd, text, (size_t)length) != 0 ? -1 : 0;
    int reason = errno;
    if (fd >= 0)
        (void)close(fd);
    errno = reason;
    return result == 0 ? 0 : error_set_errno("can't write %s", HOSTS);
}

// A bind mount is as read-only as the mount that it is made from.
static int cover(const char *root, const char *path)
{
    char source[64];
    char target[64];
    int fd = open_covered(root, path);
    if (fd < 0)
        return -1;
    (void)snprintf(source, sizeof source, FILES "%s", path);
    (void)snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
    int result = mount_on(NULL, source, target, MS_BIND, NULL);
    (void)close(fd);
    return result;
}

int name_files_mount(const struct network *network, const char *hostname, const char *root)
{
    if (make_directory(FILES, 0755) != 0 || mount_on("tmpfs", "names", FILES, QUIET, "mode=0755,size=1m,nr_inodes=8") != 0)
        return -1;
    if (make_directory(FILES "/etc", 0755) != 0 || write_resolver(network) != 0 || write_hosts(network, hostname, root) != 0)
        return -1;
    if (mount_on(NULL, "names", FILES, MS_REMOUNT | MS_RDONLY | QUIET, NULL) != 0)
        return -1;
    if (cover(root, RESOLVER) != 0 || cover(root, HOSTS) != 0)
        return -1;
    return umount2(FILES, MNT_DETACH) == 0 ? 0 : error_set_errno("can't hide " FILES);
}
