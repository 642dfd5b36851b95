// Lists, describes, removes, renames and makes files for the host, as the workload's user, in a process of its own.
#include "file_operations.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "file_entries.h"
#include "file_removal.h"
#include "protocol.h"
#include "records.h"

#define DIRECTORY_MODE 0777  // less the umask (confine.c)

// As rename(2): what is in the way of a file is replaced, and of a directory an empty one.
static int rename_path(const char *path, const char *target)
{
    char both[500];
    if (rename(path, target) == 0)
        return 0;
    const int number = errno;
    (void)snprintf(both, sizeof both, "%.240s to %.240s", path, target);
    return record_failure(both, number);
}

// Make all that is missing of the path, from its beginning; a directory that is there is no failure, by a link too.
static int make_path(const char *path)
{
    char prefix[MAX_PATH + 1];
    struct stat status;
    if (strlen(path) > MAX_PATH)
        return record_failure("the path", ENAMETOOLONG);
    for (const char *end = path; *end != '\0';) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        (void)snprintf(prefix, sizeof prefix, "%.*s", (int)(end - path), path);
        if (mkdir(prefix, DIRECTORY_MODE) != 0 && errno != EEXIST)
            return record_failure(prefix, errno);
    }
    if (stat(path, &status) != 0)
        return record_failure(path, errno);
    return S_ISDIR(status.st_mode) ? 0 : record_failure(path, EEXIST);
}

static int make_one(const char *path)
{
    return mkdir(path, DIRECTORY_MODE) == 0 ? 0 : record_failure(path, errno);
}

int operate_on_files(const struct request *request)
{
    const char *path = request->argv[0];
    if (request->files == FILES_LIST)
        return list_directory(path);
    if (request->files == FILES_STAT)
        return describe_path(path);
    if (request->files == FILES_REMOVE)
        return remove_path(path, request->recursive);
    if (request->files == FILES_RENAME)
        return rename_path(path, request->argv[1]);
    return request->parents ? make_path(path) : make_one(path);
}
