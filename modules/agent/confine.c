// Takes from the agent, once, what no child of it may have and it can do without; children inherit that.
#include "confine.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "errors.h"
#include "filter.h"

#define OPEN_FILES_SOFT 1024
#define OPEN_FILES_HARD 524288

// The agent executes nothing, so that its own capabilities never depend on this set.
static int drop_bounding_set(void)
{
    for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0)
            return -1;
    return 0;
}

// Whatever uid 0 meant by itself, it means no more, and can't again; a nested user namespace begins afresh.
static int lock_securebits(void)
{
    const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED |
                               SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                               SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    return prctl(PR_SET_SECUREBITS, bits, 0, 0, 0);
}

static void default_signals(void)
{
    const struct sigaction action = {.sa_handler = SIG_DFL};
    for (int number = 1; number <= 64; number++)
        (void)sigaction(number, &action, NULL);  // KILL, STOP and the library's own refuse: they are at their default
    (void)signal(SIGPIPE, SIG_IGN);
}

int confine(void)
{
    const struct rlimit no_core = {0, 0};
    const struct rlimit files = {OPEN_FILES_SOFT, OPEN_FILES_HARD};
    default_signals();
    (void)umask(022);
    (void)setrlimit(RLIMIT_NOFILE, &files);  // more than the kernel's default, where the agent may give it (not in tests)
    if (setrlimit(RLIMIT_CORE, &no_core) != 0)
        return error_set_errno("can't forbid core dumps");
    if (geteuid() == 0 && (drop_bounding_set() != 0 || lock_securebits() != 0 || setgroups(0, NULL) != 0))
        return error_set_errno("can't give privileges up for all commands");
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_set_errno("can't give new privileges up");
    return filter_install() == 0 ? 0 : error_set_errno("can't filter system calls");
}
