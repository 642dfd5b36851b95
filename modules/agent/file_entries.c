// Describes what lies at a path or in a directory, in records on standard output (docs/reference/channel.md, "Files").
#include "file_entries.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bytes.h"
#include "protocol.h"
#include "records.h"

#define HEAD_BYTES 32u
#define MOST_NAME 255u
#define OPENING (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define NANOSECONDS INT64_C(1000000000)

// Written when it can't hold another record, and at the end.
static uint8_t buffer[65536];
static size_t used;

static int flush(void)
{
    const int result = bytes_put(buffer, used);
    used = 0;
    return result == 0 ? 0 : EPIPE;
}

// 64 bits hold the years 1677 to 2262; another time is the nearest of them.
static int64_t nanoseconds(const struct timespec *time)
{
    if (time->tv_sec >= INT64_MAX / NANOSECONDS)
        return INT64_MAX;
    return time->tv_sec <= INT64_MIN / NANOSECONDS ? INT64_MIN : time->tv_sec * NANOSECONDS + time->tv_nsec;
}

static int put_entry(const char *name, const struct stat *status)
{
    const size_t length = strlen(name);
    const int result = used + HEAD_BYTES + length > sizeof buffer ? flush() : 0;
    uint8_t *at = buffer + used;
    put_number(at, 1, (status->st_mode & S_IFMT) >> 12);
    put_number(at + 1, 1, 0);
    put_number(at + 2, 2, status->st_mode & 07777);
    put_number(at + 4, 4, length);
    put_number(at + 8, 8, (uint64_t)status->st_size);
    put_number(at + 16, 8, (uint64_t)nanoseconds(&status->st_mtim));
    put_number(at + 24, 4, status->st_uid);
    put_number(at + 28, 4, status->st_gid);
    memcpy(at + HEAD_BYTES, name, length);
    used += HEAD_BYTES + length;
    return result;
}

// Its kind is 0, and its size how many entries there are, so that none can be missing.
static int put_end(size_t count)
{
    const struct stat end = {.st_size = (off_t)count};
    const int result = put_entry("", &end);
    return result == 0 ? flush() : result;
}

struct names {
    char **at;
    size_t count;
    size_t room;
};

static int add_name(struct names *names, const char *name)
{
    if (names->count == FILES_ENTRIES)
        return record_failure("the directory has more than 65,536 entries", EOVERFLOW);
    if (strlen(name) > MOST_NAME)
        return record_failure(name, ENAMETOOLONG);
    if (names->count == names->room) {
        const size_t room = names->room == 0 ? 64 : 2 * names->room;
        char **at = realloc(names->at, room * sizeof *at);
        if (at == NULL)
            return record_failure("the names", ENOMEM);
        names->at = at;
        names->room = room;
    }
    char *copy = strdup(name);
    if (copy == NULL)
        return record_failure("the names", ENOMEM);
    names->at[names->count++] = copy;
    return 0;
}

// All of them before the first one is described: a directory with too many is refused whole.
static int read_names(DIR *directory, struct names *names)
{
    int result = 0;
    errno = 0;
    for (struct dirent *entry = readdir(directory); result == 0 && entry != NULL; entry = readdir(directory)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = add_name(names, entry->d_name);
        errno = 0;
    }
    return result != 0 || errno == 0 ? result : record_failure("the directory", errno);
}

static int compare(const void *one, const void *other)
{
    return strcmp(*(char *const *)one, *(char *const *)other);
}

// A name that was removed and made again while the directory was read may be there twice; what is gone is left out.
static int put_entries(int fd, const struct names *names)
{
    size_t count = 0;
    for (size_t i = 0; i < names->count; i++) {
        struct stat status;
        if (i > 0 && strcmp(names->at[i - 1], names->at[i]) == 0)
            continue;
        if (fstatat(fd, names->at[i], &status, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT)
                continue;
            return record_failure(names->at[i], errno);
        }
        const int result = put_entry(names->at[i], &status);
        if (result != 0)
            return result;
        count++;
    }
    return put_end(count);
}

// The kernel says nothing of a directory that was removed meanwhile but that it has no links.
static int check_is_there(int fd, const char *path)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return record_failure(path, errno);
    return status.st_nlink > 0 ? 0 : record_failure(path, ENOENT);
}

int list_directory(const char *path)
{
    struct names names = {0};
    int fd = open(path, OPENING);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL)
        return record_failure(path, errno);
    int result = read_names(directory, &names);
    if (result == 0)
        result = check_is_there(fd, path);
    if (result == 0 && names.count > 0)
        qsort(names.at, names.count, sizeof *names.at, compare);
    return result == 0 ? put_entries(fd, &names) : result;  // the process ends here, and gives all back
}

int describe_path(const char *path)
{
    struct stat status;
    if (lstat(path, &status) != 0)
        return record_failure(path, errno);
    const int result = put_entry("", &status);
    return result == 0 ? put_end(1) : result;
}
