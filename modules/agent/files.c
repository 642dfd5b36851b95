// File operations that booting needs: reading a whole one, writing a word, making directories, waiting.
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "errors.h"
#include "loop.h"

int read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno("%s", path);
    size_t length = 0;
    ssize_t count = 0;
    do {
        length += (size_t)count;
        count = read(fd, text + length, size - length);
    } while (count > 0);
    (void)close(fd);
    if (count < 0)
        return error_set_errno("%s", path);
    if (length == size)
        return error_set("%s has %zu bytes or more", path, size);
    text[length] = '\0';
    return 0;
}

int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno("%s", path);
    int result = write(fd, text, strlen(text)) < 0 ? error_set_errno("can't write %s to %s", text, path) : 0;
    (void)close(fd);
    return result;
}

int make_directory(const char *path, mode_t mode)
{
    if (mkdir(path, mode) != 0 && errno != EEXIST)
        return error_set_errno("can't make %s", path);
    return 0;
}

int mount_on(const char *type, const char *source, const char *target, unsigned long flags, const char *options)
{
    if (mount(source, target, type, flags, options) != 0)
        return error_set_errno("can't mount %s on %s", type == NULL ? source : type, target);
    return 0;
}

int wait_until(int (*found)(void *context), void *context, uint64_t milliseconds)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    uint64_t end = now_ms() + milliseconds;
    while (found(context) != 0) {
        if (now_ms() >= end)
            return -1;
        (void)nanosleep(&pause, NULL);
    }
    return 0;
}
