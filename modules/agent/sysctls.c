// Sets the kernel's own settings that keep a workload from what is not its business.
#include "sysctls.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "errors.h"

#define ALL (1u << TIER_DEFAULT | 1u << TIER_STRICT | 1u << TIER_NAMESPACES)
#define STRICT (1u << TIER_STRICT)

// Kernel: Documentation/admin-guide/sysctl. Of two rows with one name the later one counts.
static const struct {
    const char *path;
    const char *value;
    unsigned tiers;
} settings[] = {
    {"kernel/dmesg_restrict", "1", ALL},               // its log
    {"kernel/kptr_restrict", "2", ALL},                // its addresses
    {"kernel/perf_event_paranoid", "3", ALL},          // 3 is Debian's own: nothing without privileges; elsewhere as 2
    {"kernel/unprivileged_bpf_disabled", "1", ALL},    // and nobody can take it back
    {"net/core/bpf_jit_harden", "2", ALL},
    {"kernel/yama/ptrace_scope", "1", ALL},            // only what a process started itself
    {"kernel/yama/ptrace_scope", "2", STRICT},         // nobody without privileges
    {"vm/unprivileged_userfaultfd", "0", ALL},
    {"kernel/kexec_load_disabled", "1", ALL},
    {"kernel/sysrq", "0", ALL},
    {"fs/suid_dumpable", "0", ALL},
    {"fs/protected_symlinks", "1", ALL},
    {"fs/protected_hardlinks", "1", ALL},
    {"fs/protected_fifos", "2", ALL},
    {"fs/protected_regular", "2", ALL},
    {"user/max_user_namespaces", "0", ALL & ~(1u << TIER_NAMESPACES)},
    {"kernel/modules_disabled", "1", ALL},             // and nobody can take it back
};

// For a machine in a network, before its link is there. It speaks IPv4 alone, passes nothing on, and takes its routes from
// the host alone; a workload is never root, and may have the low ports.
static const struct {
    const char *path;
    const char *value;
} of_network[] = {
    {"net/ipv6/conf/all/disable_ipv6", "1"},
    {"net/ipv6/conf/default/disable_ipv6", "1"},
    {"net/ipv6/conf/all/accept_ra", "0"},
    {"net/ipv6/conf/default/accept_ra", "0"},
    {"net/ipv4/ip_forward", "0"},
    {"net/ipv4/conf/all/accept_redirects", "0"},
    {"net/ipv4/conf/default/accept_redirects", "0"},
    {"net/ipv4/conf/all/accept_source_route", "0"},
    {"net/ipv4/conf/default/accept_source_route", "0"},
    {"net/ipv4/conf/all/route_localnet", "0"},
    {"net/ipv4/ip_unprivileged_port_start", "0"},
};

static int set(const char *name, const char *value)
{
    char path[128];
    (void)snprintf(path, sizeof path, "/proc/sys/%s", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : error_set_errno("%s", path);
    size_t length = strlen(value);
    int result = write(fd, value, length) == (ssize_t)length ? 0 : error_set_errno("can't set %s to %s", path, value);
    (void)close(fd);
    return result;
}

int sysctls_set(enum tier tier)
{
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        if ((settings[i].tiers >> tier & 1u) != 0 && set(settings[i].path, settings[i].value) != 0)
            return -1;
    return 0;
}

int sysctls_set_network(void)
{
    for (size_t i = 0; i < sizeof of_network / sizeof of_network[0]; i++)
        if (set(of_network[i].path, of_network[i].value) != 0)
            return -1;
    return 0;
}
