// Takes a file or a directory in, beneath a directory that it holds, under a name of its own until all of it is there.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "copy.h"
#include "protocol.h"
#include "records.h"

#define CHUNK 65536
#define ENTERING (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define NO_REPLACE 1u  // RENAME_NOREPLACE

// Where it goes: a name in a directory.
struct destination {
    int parent;
    char name[256];
    char temporary[64];
};

static size_t records;

static int receive_file(int parent, const char *name, const struct record *record)
{
    static char chunk[CHUNK];
    int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, record->mode);
    if (fd < 0)
        return record_error(name, errno);
    int result = 0;
    for (uint64_t left = record->size; result == 0 && left > 0;) {
        size_t length = left < sizeof chunk ? (size_t)left : sizeof chunk;
        result = bytes_get(chunk, length);
        for (size_t done = 0; result == 0 && done < length;) {
            ssize_t count = write(fd, chunk + done, length - done);
            if (count <= 0)
                result = record_error(name, errno);
            else
                done += (size_t)count;
        }
        left -= length;
    }
    if (close(fd) != 0 && result == 0)
        result = record_error(name, errno);
    return result;
}

// Its owner can always look into it and remove it.
static int receive_directory(int parent, const char *name, const struct record *record)
{
    if (mkdirat(parent, name, record->mode | 0700) != 0) {
        (void)record_error(name, errno);
        return -1;
    }
    int fd = openat(parent, name, ENTERING);
    if (fd < 0)
        (void)record_error(name, errno);
    return fd;
}

static int next_record(struct record *record)
{
    return ++records > COPY_RECORDS ? record_error("there are too many files", 0) : record_get(record);
}

static int fill_directory(int fd, unsigned depth)
{
    struct record record;
    if (depth > COPY_DEPTH)
        return record_error("directories lie too deep in one another", 0);
    while (next_record(&record) == 0) {
        if (record.kind == RECORD_LEAVE)
            return 0;
        if (record.name[0] == '\0')
            return record_error("the copy has a nameless record", 0);
        if (record.kind == RECORD_FILE) {
            if (receive_file(fd, record.name, &record) != 0)
                return -1;
            continue;
        }
        int child = receive_directory(fd, record.name, &record);
        int result = child < 0 ? -1 : fill_directory(child, depth + 1);
        (void)close(child);
        if (result != 0)
            return -1;
    }
    return -1;
}

static int receive_copy(const struct destination *destination, bool *is_file)
{
    struct record record;
    if (next_record(&record) != 0)
        return -1;
    *is_file = record.kind == RECORD_FILE;
    if (record.name[0] != '\0' || (!*is_file && record.kind != RECORD_DIRECTORY))
        return record_error("the copy has nothing to begin with", 0);
    if (*is_file) {
        if (receive_file(destination->parent, destination->temporary, &record) != 0)
            return -1;
    } else {
        int fd = receive_directory(destination->parent, destination->temporary, &record);
        int result = fd < 0 ? -1 : fill_directory(fd, 1);
        (void)close(fd);
        if (result != 0)
            return -1;
    }
    if (next_record(&record) != 0)
        return -1;
    return record.kind == RECORD_END ? bytes_end() : record_error("the copy goes on behind its end", 0);
}

// A file may take a file's place if that was asked for; a directory never takes anything's.
static int rename_into_place(const struct destination *destination, bool replaces)
{
    const unsigned flags = replaces ? 0 : NO_REPLACE;
    if (syscall(SYS_renameat2, destination->parent, destination->temporary, destination->parent, destination->name, flags) != 0)
        return record_error(destination->name, errno);
    return 0;
}

static void remove_all(int parent, const char *name, unsigned depth)
{
    if (unlinkat(parent, name, 0) == 0 || depth > 2 * COPY_DEPTH)
        return;
    int fd = openat(parent, name, ENTERING);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL)
        return;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_all(fd, entry->d_name, depth + 1);
    (void)closedir(directory);
    (void)unlinkat(parent, name, AT_REMOVEDIR);
}

// The path's own directories are followed as everywhere, by links too: whoever asks for it means what is there.
static int find_destination(const char *path, const char *name, struct destination *destination)
{
    char parent[MAX_PATH + 1];
    uint64_t number = 0;
    destination->parent = name == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (destination->parent < 0) {
        (void)snprintf(parent, sizeof parent, "%s", path);
        char *slash = strrchr(parent, '/');
        name = slash == NULL ? path : path + (slash - parent) + 1;
        if (slash != NULL)
            slash[slash == parent ? 1 : 0] = '\0';
        destination->parent = open(slash == NULL ? "." : parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (destination->parent < 0)
        return record_error(path, errno);
    if (!is_name(name) || getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number) {
        (void)close(destination->parent);
        return record_error("it needs the name of a file", 0);
    }
    (void)snprintf(destination->name, sizeof destination->name, "%s", name);
    (void)snprintf(destination->temporary, sizeof destination->temporary, ".mvm-cp-%016llx.tmp", (unsigned long long)number);
    return 0;
}

int copy_in(const char *path, const char *name, bool replaces)
{
    struct destination destination;
    bool is_file = false;
    if (strlen(path) > MAX_PATH)
        return record_error("the path is too long", 0);
    if (find_destination(path, name, &destination) != 0)
        return -1;
    int result = receive_copy(&destination, &is_file);
    if (result == 0)
        result = rename_into_place(&destination, replaces && is_file);
    if (result != 0)
        remove_all(destination.parent, destination.temporary, 0);
    (void)close(destination.parent);
    return result;
}
