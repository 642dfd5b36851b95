// Keeps the guest's clock at the host's, by a process of its own: the agent's filter lets nobody set a clock.
#include "clock.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "errors.h"

#define SECOND INT64_C(1000000000)
#define WINDOW 8u
// A clock that is as near is left alone.
#define TOLERANCE (SECOND / 200)

static int keeper_fd = -1;
static pid_t keeper;

static int64_t read_clock(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

bool clock_estimate(struct clock_estimate *estimate, int64_t offset, int64_t now)
{
    int64_t best = offset;
    if (estimate->is_known && offset <= estimate->offset) {
        if (now - estimate->last < SECOND)
            return false;  // held up together with the one before
        if (estimate->count == 0 || offset > estimate->greatest)
            estimate->greatest = offset;
        estimate->last = now;
        estimate->count++;
        if (estimate->count < WINDOW)
            return false;
        best = estimate->greatest;
    }
    const bool has_changed = !estimate->is_known || best != estimate->offset;
    *estimate = (struct clock_estimate){.offset = best, .last = now, .is_known = true};
    return has_changed;
}

static void set(int64_t offset)
{
    if (llabs(read_clock(CLOCK_REALTIME) - read_clock(CLOCK_MONOTONIC) - offset) < TOLERANCE)
        return;
    const int64_t time = read_clock(CLOCK_MONOTONIC) + offset;
    const struct timespec now = {.tv_sec = (time_t)(time / SECOND), .tv_nsec = (long)(time % SECOND)};
    (void)clock_settime(CLOCK_REALTIME, &now);  // of no use: a time before the boot
}

// It may set the clock, and nothing else; it has one descriptor.
static int give_up_all_else(int fd)
{
    const struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    const uint32_t allowed = 1u << CAP_SYS_TIME;
    const struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{.effective = allowed, .permitted = allowed}};
    if (dup2(fd, 0) != 0 || syscall(SYS_close_range, 1, ~0u, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return (int)syscall(SYS_capset, &header, data);
}

static _Noreturn void keep(int fd)
{
    int64_t offset = 0;
    if (give_up_all_else(fd) != 0)
        _exit(1);
    while (recv(0, &offset, sizeof offset, 0) == (ssize_t)sizeof offset) {
        set(offset);
        if (send(0, "", 1, MSG_NOSIGNAL) != 1)
            break;
    }
    _exit(0);
}

int clock_start(void)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return error_set_errno("can't make a socket for the clock");
    keeper = fork();
    if (keeper == 0)
        keep(ends[1]);
    (void)close(ends[1]);
    keeper_fd = ends[0];
    return keeper > 0 ? 0 : error_set_errno("can't start the clock's process");
}

pid_t clock_process(void)
{
    return keeper;
}

void clock_take(uint64_t time_ns)
{
    static struct clock_estimate estimate;
    char done = 0;
    const int64_t now = read_clock(CLOCK_MONOTONIC);
    if (!clock_estimate(&estimate, (int64_t)time_ns - now, now) || keeper_fd < 0)
        return;
    // whoever asks for a command next, finds the clock set
    if (send(keeper_fd, &estimate.offset, sizeof estimate.offset, MSG_NOSIGNAL) == (ssize_t)sizeof estimate.offset)
        (void)!recv(keeper_fd, &done, 1, 0);
}
