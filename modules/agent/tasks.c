// Holds all commands together in one of the kernel's control groups: how many they are, their memory, and whether they run.
#include "tasks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
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
static int memory_events_fd = -1;
// What freezing needs, each -1 where the kernel lacks it.
static struct {
    int list;
    int freeze;
    int events;
    int changes;
} freezer = {-1, -1, -1, -1};

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

static int open_file(const char *hierarchy, const char *name, int flags)
{
    char path[192];
    (void)snprintf(path, sizeof path, "%s/" GROUP "/%s", hierarchy, name);
    return open(path, flags | O_CLOEXEC);
}

// Now, for the agent finds no name of them any more once it is in the workload's root.
static void open_freezer(const char *hierarchy)
{
    char path[192];
    (void)snprintf(path, sizeof path, "%s/" GROUP "/cgroup.events", hierarchy);
    freezer.list = open_file(hierarchy, "cgroup.procs", O_RDONLY | O_NONBLOCK);
    freezer.freeze = open_file(hierarchy, "cgroup.freeze", O_WRONLY | O_NONBLOCK);
    freezer.events = open_file(hierarchy, "cgroup.events", O_RDONLY);
    freezer.changes = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (freezer.changes >= 0 && inotify_add_watch(freezer.changes, path, IN_MODIFY) < 0) {
        (void)close(freezer.changes);
        freezer.changes = -1;
    }
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
    memory_events_fd = open_file(hierarchy, "memory.events", O_RDONLY);  // absent where memory isn't bounded
    procs_fd = open_file(hierarchy, "cgroup.procs", O_WRONLY);
    if (procs_fd < 0)
        return error_set_errno("can't open a control group");
    open_freezer(hierarchy);
    return 0;
}

static const char *read_events(int fd, char *text, size_t size)
{
    ssize_t length = fd < 0 ? -1 : pread(fd, text + 1, size - 2, 0);
    text[0] = '\n';
    text[length < 0 ? 1 : length + 1] = '\0';
    return text;
}

uint64_t tasks_oom_kills(void)
{
    static const char name[] = "\noom_kill ";
    char text[512];
    uint64_t kills = 0;
    const char *line = strstr(read_events(memory_events_fd, text, sizeof text), name);
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

int tasks_freeze(void)
{
    if (freezer.list < 0 || freezer.freeze < 0 || freezer.events < 0 || freezer.changes < 0)
        return error_set("the guest's kernel has no control group that can be frozen");
    return write(freezer.freeze, "1", 1) == 1 ? 0 : error_set_errno("can't freeze the commands");
}

int tasks_thaw(void)
{
    if (freezer.freeze < 0)
        return 0;
    return write(freezer.freeze, "0", 1) == 1 ? 0 : error_set_errno("can't thaw the commands");
}

bool tasks_frozen(void)
{
    char text[512];
    return strstr(read_events(freezer.events, text, sizeof text), "\nfrozen 1\n") != NULL;
}

int tasks_changes(void)
{
    return freezer.changes;
}

static int read_list(char *text, size_t size)
{
    ssize_t count = read(freezer.list, text, size);
    return count < 0 ? error_set_errno("can't read which processes commands have") : (int)count;
}

int tasks_signal(int number)
{
    char text[4096];
    int count = 0;
    pid_t pid = 0;
    if (lseek(freezer.list, 0, SEEK_SET) != 0)
        return error_set_errno("can't read which processes commands have");
    while ((count = read_list(text, sizeof text)) > 0)
        for (int i = 0; i < count; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                pid = pid * 10 + (text[i] - '0');
                continue;
            }
            if (pid > 1)
                (void)kill(pid, number);  // one that was killed meanwhile is not collected yet, so that its number is its own
            pid = 0;
        }
    return count;
}
