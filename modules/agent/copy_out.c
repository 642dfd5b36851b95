// Sends a file or a directory with all that is in it; follows no link beneath, and opens nothing that isn't one of both.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "copy.h"
#include "protocol.h"
#include "records.h"

#define CHUNK 65536
#define OPENING (O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

static size_t records;

static struct record record_of(enum record_kind kind, const char *name, unsigned mode, uint64_t size)
{
    struct record record = {.kind = kind, .mode = (uint16_t)mode, .size = size};
    strncpy(record.name, name, sizeof record.name - 1);
    return record;
}

static int put_record(enum record_kind kind, const char *name, unsigned mode, uint64_t size)
{
    const struct record record = record_of(kind, name, mode, size);
    if (++records > COPY_RECORDS)
        return record_error("there are too many files", 0);
    return record_put(&record);
}

// As many bytes as it has now: a file that shrinks meanwhile ends the copy, of one that grows the rest is left out.
static int send_file(int fd, const char *name, const struct stat *status)
{
    static char chunk[CHUNK];
    uint64_t left = (uint64_t)status->st_size;
    if (put_record(RECORD_FILE, name, status->st_mode & 0777, left) != 0)
        return -1;
    while (left > 0) {
        ssize_t count = read(fd, chunk, left < sizeof chunk ? (size_t)left : sizeof chunk);
        if (count <= 0)
            return record_error(name, count < 0 ? errno : ENODATA);
        if (bytes_put(chunk, (size_t)count) != 0)
            return -1;
        left -= (uint64_t)count;
    }
    if (status->st_size == 0 && read(fd, chunk, 1) > 0)
        return record_error("a file doesn't say how large it is, as those in /proc", 0);
    return 0;
}

static int send_entries(int fd, unsigned depth);

static int send_directory(int fd, const char *name, const struct stat *status, unsigned depth)
{
    if (depth > COPY_DEPTH)
        return record_error("directories lie too deep in one another", 0);
    if (put_record(RECORD_DIRECTORY, name, status->st_mode & 0777, 0) != 0 || send_entries(fd, depth) != 0)
        return -1;
    return put_record(RECORD_LEAVE, "", 0, 0);
}

static int send_opened(int fd, const char *name, unsigned depth)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return record_error(name, errno);
    if (S_ISDIR(status.st_mode))
        return send_directory(fd, name, &status, depth);
    if (S_ISREG(status.st_mode))
        return send_file(fd, name, &status);
    return record_error("it is neither a file nor a directory", 0);
}

// What is neither is named, and never opened: a link could lead anywhere, a device could do anything.
static int send_entry(int parent, const char *name, unsigned depth)
{
    struct stat status;
    if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : record_error(name, errno);
    if (!is_name(name))
        return record_error("a name is too long", 0);
    if (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode))
        return put_record(RECORD_LEFT_OUT, name, (status.st_mode & S_IFMT) >> 12, 0);
    int fd = openat(parent, name, OPENING | O_NOFOLLOW);
    if (fd < 0)
        return record_error(name, errno);
    int result = send_opened(fd, name, depth);
    (void)close(fd);
    return result;
}

static int send_entries(int fd, unsigned depth)
{
    DIR *directory = fdopendir(fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (directory == NULL)
        return record_error("a directory", errno);
    int result = 0;
    for (struct dirent *entry = readdir(directory); result == 0 && entry != NULL; entry = readdir(directory))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = send_entry(fd, entry->d_name, depth + 1);
    (void)closedir(directory);
    return result;
}

int copy_out(const char *path)
{
    int fd = open(path, OPENING);  // whoever asks for it means what is there, by links too
    if (fd < 0)
        return record_error(path, errno);
    int result = send_opened(fd, "", 1);
    (void)close(fd);
    return result == 0 ? put_record(RECORD_END, "", 0, 0) : -1;
}
