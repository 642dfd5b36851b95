// Removes a file, an empty directory or a whole tree; follows no link, and enters no mount point.
#include "file_removal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol.h"
#include "records.h"

#define ENTERING (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static int remove_entries(DIR *directory, unsigned depth);

// What is beneath the path and gone already, somebody else has removed.
static int failure_of(const char *name, unsigned depth)
{
    return errno == ENOENT && depth > 1 ? 0 : record_failure(name, errno);
}

// A directory that is not empty. If a link took its place meanwhile, it is not entered.
static int remove_tree(int parent, const char *name, unsigned depth)
{
    if (depth > FILES_DEPTH)
        return record_failure("directories lie too deep in one another", EOVERFLOW);
    int fd = openat(parent, name, ENTERING);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL)
        return failure_of(name, depth);
    int result = remove_entries(directory, depth);
    (void)closedir(directory);
    if (result == 0 && unlinkat(parent, name, AT_REMOVEDIR) != 0)
        result = failure_of(name, depth);
    return result;
}

// The kernel unlinks no directory (EISDIR), and removes no mount point, empty or not (EBUSY): so none is entered.
static int remove_entry(int parent, const char *name, bool recursive, unsigned depth)
{
    if (unlinkat(parent, name, 0) == 0)
        return 0;
    if (errno == EISDIR && unlinkat(parent, name, AT_REMOVEDIR) == 0)
        return 0;
    if (recursive && errno == ENOTEMPTY)
        return remove_tree(parent, name, depth);
    return failure_of(name, depth);
}

static int remove_entries(DIR *directory, unsigned depth)
{
    int result = 0;
    errno = 0;
    for (struct dirent *entry = readdir(directory); result == 0 && entry != NULL; entry = readdir(directory)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = remove_entry(dirfd(directory), entry->d_name, true, depth + 1);
        errno = 0;
    }
    return result != 0 || errno == 0 ? result : record_failure("a directory", errno);
}

static bool ends_in_dots(const char *path)
{
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/')
        length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return (length - start == 1 || length - start == 2) && strncmp(path + start, "..", length - start) == 0;
}

int remove_path(const char *path, bool recursive)
{
    if (ends_in_dots(path))  // rmdir(2) gives ENOTEMPTY for "..", which would be entered
        return record_failure(path, EINVAL);
    return remove_entry(AT_FDCWD, path, recursive, 1);
}
