// Bounds all commands together, by the kernel's control groups: how many processes and threads they are, and their memory.
#include "tasks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "errors.h"
#include "syscalls.h"

#define GROUP "workload"

static uint32_t limit;
static bool counted;
static int procs_fd = -1;
static int events_fd = -1;

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

// What a kernel says that was built without that.
static bool is_absent(void)
{
    return errno == ENODEV || errno == ENOENT || errno == EINVAL;
}

int tasks_mount(const char *hierarchy)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    // Each command joins; without that word (since Linux 6.0) each would wait for the kernel until all have seen it.
    if (mount("cgroup2", hierarchy, "cgroup2", flags, "favordynmods") == 0 ||
        mount("cgroup2", hierarchy, "cgroup2", flags, NULL) == 0)
        return 1;
    return is_absent() ? 0 : error_set_errno("can't mount control groups");
}

// Whether a controller holds the group to that: 1, or 0 where there is no such controller, or -1.
static int set_limit(const char *hierarchy, const char *controller, const char *file, uint64_t most)
{
    char name[64];
    char number[24];
    if (most == 0)
        return 0;
    if (write_word(hierarchy, "cgroup.subtree_control", controller) != 0)
        return is_absent() ? 0 : -1;
    (void)snprintf(name, sizeof name, GROUP "/%s", file);
    (void)snprintf(number, sizeof number, "%" PRIu64, most);
    return write_word(hierarchy, name, number) == 0 ? 1 : -1;
}

// Documentation/admin-guide/cgroup-v2.rst.
int tasks_bound(uint32_t most, uint64_t memory, const char *hierarchy)
{
    char path[160];
    limit = most;
    if (hierarchy == NULL)
        return 0;
    (void)snprintf(path, sizeof path, "%s/" GROUP, hierarchy);
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return error_set_errno("can't make a control group");
    int by_memory = set_limit(hierarchy, "+memory", "memory.max", memory);
    int by_number = by_memory < 0 ? -1 : set_limit(hierarchy, "+pids", "pids.max", most);
    if (by_number < 0)
        return error_set_errno("can't bound the commands");
    counted = by_number > 0;
    if (!counted && by_memory == 0)
        return 0;
    (void)snprintf(path, sizeof path, "%s/" GROUP "/memory.events", hierarchy);
    events_fd = open(path, O_RDONLY | O_CLOEXEC);  // absent where memory isn't bounded
    (void)snprintf(path, sizeof path, "%s/" GROUP "/cgroup.procs", hierarchy);
    procs_fd = open(path, O_WRONLY | O_CLOEXEC);
    return procs_fd < 0 ? error_set_errno("can't open a control group") : 0;
}

uint64_t tasks_oom_kills(void)
{
    static const char name[] = "\noom_kill ";
    char text[512];
    uint64_t kills = 0;
    ssize_t length = events_fd < 0 ? -1 : pread(events_fd, text, sizeof text - 1, 0);
    text[length < 0 ? 0 : length] = '\0';
    const char *line = strstr(text, name);
    return line != NULL && sscanf(line + sizeof name - 1, "%" SCNu64, &kills) == 1 ? kills : 0;
}

long tasks_join(void)
{
    if (procs_fd >= 0 && raw_syscall(SYS_write, procs_fd, (long)"0", 1, 0) != 1)
        return -EAGAIN;
    if (limit == 0 || counted)
        return 0;
    const struct rlimit by_user = {limit, limit};
    return raw_syscall(SYS_setrlimit, RLIMIT_NPROC, (long)&by_user, 0, 0);
}
