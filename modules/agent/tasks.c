// Bounds how many processes and threads all commands together have: by the kernel's pids controller, or by their user.
#include "tasks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fault.h"
#include "raw.h"

#define GROUP "workload"

static uint32_t limit;
static int members = -1;

static int write_word(const char *directory, const char *name, const char *word)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t length = strlen(word);
    ssize_t count = write(fd, word, length);
    (void)close(fd);
    return count == (ssize_t)length ? 0 : -1;
}

// Whether this kernel counts tasks by control groups, version 2 (Documentation/admin-guide/cgroup-v2.rst).
static int make_group(const char *hierarchy)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    char group[128];
    char file[160];
    char most[16];
    // Each command joins; without that word (since Linux 6.0) each would wait for the kernel until all have seen it.
    if (mount("cgroup2", hierarchy, "cgroup2", flags, "favordynmods") != 0 &&
        mount("cgroup2", hierarchy, "cgroup2", flags, NULL) != 0)
        return -1;
    (void)snprintf(group, sizeof group, "%s/" GROUP, hierarchy);
    (void)snprintf(file, sizeof file, "%s/cgroup.procs", group);
    (void)snprintf(most, sizeof most, "%" PRIu32, limit);
    if (write_word(hierarchy, "cgroup.subtree_control", "+pids") != 0 || mkdir(group, 0700) != 0)
        return -1;
    return write_word(group, "pids.max", most) == 0 ? open(file, O_WRONLY | O_CLOEXEC) : -1;
}

int tasks_bound(uint32_t most, const char *hierarchy)
{
    limit = most;
    if (most == 0 || hierarchy == NULL)
        return 0;
    members = make_group(hierarchy);
    if (members < 0 && errno != ENODEV && errno != ENOENT && errno != EINVAL)
        return fault_errno("can't bound the number of tasks");
    return 0;
}

long tasks_join(void)
{
    if (limit == 0)
        return 0;
    if (members >= 0)
        return raw(SYS_write, members, (long)"0", 1, 0) == 1 ? 0 : -EAGAIN;
    const struct rlimit by_user = {limit, limit};
    return raw(SYS_setrlimit, RLIMIT_NPROC, (long)&by_user, 0, 0);
}
