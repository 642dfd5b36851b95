// Makes the directories for shares and the data disk that the image lacks: in memory, over the directory that is there.
#include "mount_points.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "errors.h"
#include "files.h"

#define COPIES "/mount-points"
#define QUIET (MS_NOSUID | MS_NODEV)
#define ROOM (MAX_PATH + 512)
// Of a directory that is covered: each is a mount, and a guest's kernel has 100,000 at most (fs/namespace.c).
#define MAX_ENTRIES 4096u

static unsigned copies;

// Put what one entry of a directory is into the copy: a symbolic link again, of all else the thing itself.
static int show(const char *directory, const char *copy, const char *name)
{
    char from[ROOM + NAME_MAX + 1];
    char to[ROOM + NAME_MAX + 1];
    char target[MAX_PATH];
    struct stat found;
    (void)snprintf(from, sizeof from, "%s/%s", directory, name);
    (void)snprintf(to, sizeof to, "%s/%s", copy, name);
    if (lstat(from, &found) != 0)
        return error_set_errno("%s", from);
    if (S_ISLNK(found.st_mode)) {
        ssize_t length = readlink(from, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = '\0';
        return symlink(target, to) == 0 ? 0 : error_set_errno("can't make %s", to);
    }
    if (S_ISDIR(found.st_mode) ? mkdir(to, 0700) != 0 : mknod(to, S_IFREG | 0600, 0) != 0)
        return error_set_errno("can't make %s", to);
    return mount_on(NULL, from, to, MS_BIND | MS_REC, NULL);
}

static int show_all(const char *directory, const char *copy)
{
    DIR *entries = opendir(directory);
    if (entries == NULL)
        return error_set_errno("%s", directory);
    int result = 0;
    unsigned count = 0;
    for (struct dirent *entry = readdir(entries); entry != NULL && result == 0; entry = readdir(entries)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        result = ++count > MAX_ENTRIES ? error_set("%s has more than %u entries", directory, MAX_ENTRIES)
                                       : show(directory, copy, entry->d_name);
    }
    (void)closedir(entries);
    return result;
}

// Mount a directory over itself that can be written to, and looks the same.
static int cover(const char *directory)
{
    char copy[64];
    struct stat found;
    if (copies == 0 && (make_directory(COPIES, 0700) != 0 || mount_on("tmpfs", "points", COPIES, QUIET, "mode=0700,size=1m") != 0))
        return -1;
    (void)snprintf(copy, sizeof copy, COPIES "/%u", copies++);
    if (stat(directory, &found) != 0 || mkdir(copy, 0700) != 0 || chown(copy, found.st_uid, found.st_gid) != 0 ||
        chmod(copy, found.st_mode & 07777u) != 0)
        return error_set_errno("can't make a copy of %s", directory);
    return show_all(directory, copy) == 0 ? mount_on(NULL, copy, directory, MS_BIND | MS_REC, NULL) : -1;
}

// A directory whose parent is there. `path` has `place`, the path in the guest, behind the root's.
static int make_one(char *path, const char *place)
{
    struct stat found;
    if (lstat(path, &found) == 0) {
        if (S_ISDIR(found.st_mode))
            return 0;
        const char *what = S_ISLNK(found.st_mode) ? "symbolic link" : "file";
        return error_set_failure(FAILURE_MOUNT_POINT, "%s is a %s of the image, and nothing is mounted there", place, what);
    }
    if (errno == ENOENT && mkdir(path, 0755) == 0)
        return 0;
    if (errno != EROFS)
        return error_set_errno("can't make %s", place);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    int result = cover(path);
    *slash = '/';
    if (result != 0)
        return -1;
    return mkdir(path, 0755) == 0 ? 0 : error_set_errno("can't make %s", place);
}

static int make(const char *root, const char *place)
{
    char path[ROOM];
    size_t start = strlen(root);
    (void)snprintf(path, sizeof path, "%s%s", root, place);
    for (char *slash = strchr(path + start + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL)
            *slash = '\0';
        if (make_one(path, path + start) != 0)
            return -1;
        if (slash == NULL)
            return 0;
        *slash = '/';
    }
}

static bool is_in_writable(const struct config *config, const char *place)
{
    for (size_t i = 0; i < config->writable_count; i++) {
        size_t length = strlen(config->writable[i]);
        if (strncmp(place, config->writable[i], length) == 0 && (place[length] == '/' || place[length] == '\0'))
            return true;
    }
    return false;
}

int mount_points_make(const struct config *config, const char *root)
{
    if (config->has_data && !is_in_writable(config, config->data) && make(root, config->data) != 0)
        return -1;
    for (size_t i = 0; i < config->shares.count; i++) {
        const char *place = config->shares.list[i].path;
        if (!is_in_writable(config, place) && make(root, place) != 0)
            return -1;
    }
    if (copies == 0)
        return 0;
    // of the file system, and so of every mount of it
    if (mount_on(NULL, "points", COPIES, MS_REMOUNT | MS_RDONLY | QUIET, NULL) != 0)
        return -1;
    return umount2(COPIES, MNT_DETACH) == 0 ? 0 : error_set_errno("can't hide " COPIES);
}
