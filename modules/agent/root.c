// Makes the machine that the workload sees: the verified root, its writable places, its devices, its clock and name.
#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data_disk.h"
#include "disk.h"
#include "errors.h"
#include "files.h"
#include "generation.h"
#include "keeper.h"
#include "kmodules.h"
#include "link.h"
#include "memory.h"
#include "mount_points.h"
#include "name_files.h"
#include "scratch.h"
#include "secret_files.h"
#include "share_mounts.h"
#include "sysctls.h"
#include "tasks.h"
#include "verity.h"

#define ROOT "/newroot"
#define QUIET (MS_NOSUID | MS_NODEV)
#define GROUPS "/sys/fs/cgroup"

int root_mount(void)
{
    char command_line[4096];
    struct verity verity;
    char disk[64];
    char mapped[64];
    if (read_text("/proc/cmdline", command_line, sizeof command_line) != 0 || verity_parse(command_line, &verity) != 0)
        return -1;
    if (disk_find("root", disk, sizeof disk) != 0 || disk_release_others(disk) != 0)
        return -1;
    if (verity_open(disk, &verity, mapped, sizeof mapped) != 0)
        return -1;
    if (make_directory(ROOT, 0755) != 0)
        return -1;
    return mount_on("erofs", mapped, ROOT, MS_RDONLY | QUIET, NULL);
}

// Before anything else: what the machine makes from here on draws on it.
static int renew(const struct config *config)
{
    struct renewal renewal = {.time_ns = config->time_ns};
    memcpy(renewal.entropy, config->entropy, ENTROPY_BYTES);
    memcpy(renewal.hostname, config->hostname, sizeof renewal.hostname);
    int result = keeper_renew(&renewal);
    explicit_bzero(&renewal, sizeof renewal);
    return result;
}

static int mount_kernel_file_systems(void)
{
    // Nothing lies over parts of /proc: nested user namespaces may mount their own only then (mount_too_revealing()).
    if (mount_on("proc", "proc", ROOT "/proc", QUIET | MS_NOEXEC, "hidepid=invisible") != 0)
        return -1;
    if (mount_on("sysfs", "sysfs", ROOT "/sys", QUIET | MS_NOEXEC | MS_RDONLY, NULL) != 0)
        return -1;
    return mount_on("tmpfs", "run", ROOT "/run", QUIET | MS_NOEXEC, "mode=0755,size=1m");
}

static int make_nodes(void)
{
    static const struct {
        const char *path;
        unsigned major, minor;
    } nodes[] = {
        {ROOT "/dev/null", 1, 3},   {ROOT "/dev/zero", 1, 5},    {ROOT "/dev/full", 1, 7},
        {ROOT "/dev/random", 1, 8}, {ROOT "/dev/urandom", 1, 9}, {ROOT "/dev/tty", 5, 0},
    };
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        dev_t device = (dev_t)(nodes[i].major << 8 | nodes[i].minor);
        if (mknod(nodes[i].path, S_IFCHR | 0666, device) != 0)
            return error_set_errno("can't make %s", nodes[i].path);
    }
    return 0;
}

static int make_links(void)
{
    static const char *const links[][2] = {
        {"/proc/self/fd", ROOT "/dev/fd"},       {"/proc/self/fd/0", ROOT "/dev/stdin"},
        {"/proc/self/fd/1", ROOT "/dev/stdout"}, {"/proc/self/fd/2", ROOT "/dev/stderr"},
        {"pts/ptmx", ROOT "/dev/ptmx"},
    };
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
        if (symlink(links[i][0], links[i][1]) != 0)
            return error_set_errno("can't make %s", links[i][1]);
    return 0;
}

static int make_devices(const struct config *config)
{
    if (mount_on("tmpfs", "dev", ROOT "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k") != 0)
        return -1;
    mode_t mask = umask(0);
    int result = make_nodes() == 0 && make_links() == 0 ? 0 : -1;
    (void)umask(mask);
    if (result != 0 || make_directory(ROOT "/dev/pts", 0755) != 0 || make_directory(ROOT "/dev/shm", 0755) != 0)
        return -1;
    if (mount_on("devpts", "devpts", ROOT "/dev/pts", MS_NOSUID | MS_NOEXEC, "ptmxmode=0666,mode=0620") != 0)
        return -1;
    if (config->scratch > 0 && scratch_bind(ROOT, "/dev/shm", config, MS_NOEXEC) != 0)
        return -1;
    return mount_on(NULL, "dev", ROOT "/dev", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL);
}

static int make_writable(const struct config *config)
{
    for (size_t i = 0; i < config->writable_count; i++)
        if (scratch_bind(ROOT, config->writable[i], config, 0) != 0)
            return -1;
    return 0;
}

// From an initramfs no pivot_root(2) is possible: the new root is moved over the old one, as switch_root(8) does.
static int enter_root(void)
{
    static const char *const old[] = {"/proc", "/sys", "/dev"};
    for (size_t i = 0; i < sizeof old / sizeof old[0]; i++)
        if (umount2(old[i], MNT_DETACH) != 0)
            return error_set_errno("can't unmount the initrd's %s", old[i]);
    if (chdir(ROOT) != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0)
        return error_set_errno("can't enter the root file system");
    return 0;
}

static int bound_tasks(const struct config *config, uint64_t memory)
{
    int mounted = tasks_mount(GROUPS);
    return mounted < 0 ? -1 : tasks_bound(config->tasks, memory, mounted > 0 ? GROUPS : NULL);
}

static int join_network(const struct config *config)
{
    if (sysctls_set_network() != 0 || kmodules_load_network() != 0 || link_set_up(&config->network) != 0)
        return -1;
    return name_files_mount(&config->network, config->hostname, ROOT);
}

int root_configure(const struct config *config)
{
    uint64_t memory = 0;
    if (renew(config) != 0 || memory_available(&memory) != 0)
        return -1;
    memory = memory_for_commands(memory);
    if (mount_points_make(config, ROOT) != 0)
        return -1;
    if (mount_kernel_file_systems() != 0 || scratch_open(config, memory_for_files(memory)) != 0)
        return -1;
    if (make_devices(config) != 0 || make_writable(config) != 0 || scratch_close() != 0)
        return -1;
    generation_make(ROOT);
    if (config->has_network && join_network(config) != 0)
        return -1;
    if (config->has_data && data_disk_mount(config->data, ROOT, config->uid, config->gid) != 0)
        return -1;
    if (shares_mount(&config->shares, ROOT) != 0)
        return -1;
    if (secrets_place(&config->secrets, ROOT, config->uid, config->gid) != 0)
        return -1;
    if (sysctls_set(config->tier) != 0 || bound_tasks(config, memory) != 0)
        return -1;
    return enter_root();
}
