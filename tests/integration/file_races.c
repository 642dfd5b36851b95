// Runs an operation of the agent's on files, and renames something just before the agent opens or describes an entry.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "file_entries.h"
#include "file_removal.h"

int __real_openat(int parent, const char *name, int flags, ...);
int __real_fstatat(int parent, const char *name, struct stat *status, int flags);
int __wrap_openat(int parent, const char *name, int flags, ...);
int __wrap_fstatat(int parent, const char *name, struct stat *status, int flags);

// Renamed when the entry `when` is about to be opened or described, once.
static const char *when;
static const char *from;
static const char *to;
static unsigned flags_of_rename;

static void change(const char *name)
{
    if (when == NULL || strcmp(name, when) != 0)
        return;
    when = NULL;
    if (syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags_of_rename) != 0)
        abort();
}

int __wrap_openat(int parent, const char *name, int flags, ...)
{
    change(name);
    return __real_openat(parent, name, flags);
}

int __wrap_fstatat(int parent, const char *name, struct stat *status, int flags)
{
    change(name);
    return __real_fstatat(parent, name, status, flags);
}

// Operation, path, entry, the two paths of the rename, and its flags: 2 exchanges them.
int main(int argc, char **argv)
{
    if (argc != 7)
        return 255;
    when = argv[3];
    from = argv[4];
    to = argv[5];
    flags_of_rename = (unsigned)atoi(argv[6]);
    const int result = strcmp(argv[1], "list") == 0 ? list_directory(argv[2]) : remove_path(argv[2], true);
    return when == NULL ? result : 255;
}
