// Keeps the guest's clock, entropy and host name, by a process of its own: the agent's filter lets nobody set the first,
// and what the machine is given anew comes when the agent is under it.
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/random.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "errors.h"

// A clock that is as near is left alone.
#define TOLERANCE (SECOND / 200)
// The descriptors that the process has.
#define SOCKET_FD 0
#define RANDOM_FD 1

// What the agent asks for: all of it in each message, of a fixed size, so that there is nothing to take apart.
struct keeper_request {
    uint32_t parts;
    int64_t offset;
    uint8_t entropy[ENTROPY_BYTES];
    char hostname[MAX_HOSTNAME + 1];
};

// In the order in which they are done.
enum part { PART_NONE, PART_ENTROPY = 1, PART_CLOCK = 2, PART_NAME = 4 };

// Which part failed, and errno; PART_NONE and 0 when nothing did.
struct keeper_answer {
    int32_t part;
    int32_t number;
};

static int keeper_fd = -1;
static pid_t keeper;

// The kernel credits these bytes, since the host drew them for this machine and moment alone.
static int add_entropy(const uint8_t *entropy)
{
    union {
        struct rand_pool_info info;
        uint8_t bytes[sizeof(struct rand_pool_info) + ENTROPY_BYTES];
    } pool;
    pool.info.entropy_count = 8 * ENTROPY_BYTES;
    pool.info.buf_size = ENTROPY_BYTES;
    memcpy(pool.bytes + sizeof(struct rand_pool_info), entropy, ENTROPY_BYTES);
    int result = ioctl(RANDOM_FD, RNDADDENTROPY, &pool) == 0 && ioctl(RANDOM_FD, RNDRESEEDCRNG) == 0 ? 0 : -1;
    explicit_bzero(&pool, sizeof pool);
    return result;
}

int64_t keeper_read_clock(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

static int set_clock(int64_t offset)
{
    if (llabs(keeper_read_clock(CLOCK_REALTIME) - keeper_read_clock(CLOCK_MONOTONIC) - offset) < TOLERANCE)
        return 0;
    const int64_t time = keeper_read_clock(CLOCK_MONOTONIC) + offset;
    const struct timespec now = {.tv_sec = (time_t)(time / SECOND), .tv_nsec = (long)(time % SECOND)};
    return clock_settime(CLOCK_REALTIME, &now);
}

static int do_part(enum part part, const struct keeper_request *request)
{
    switch (part) {
    case PART_ENTROPY:
        return add_entropy(request->entropy);
    case PART_CLOCK:
        return set_clock(request->offset);
    case PART_NAME:
        return sethostname(request->hostname, strnlen(request->hostname, MAX_HOSTNAME));
    default:
        return 0;
    }
}

static struct keeper_answer do_all(const struct keeper_request *request)
{
    static const enum part parts[] = {PART_ENTROPY, PART_CLOCK, PART_NAME};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if ((request->parts & parts[i]) != 0 && do_part(parts[i], request) != 0)
            return (struct keeper_answer){parts[i], errno};
    return (struct keeper_answer){PART_NONE, 0};
}

#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define KILL BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define UNLESS(value, skipped) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, (skipped))
#define CALL(name) UNLESS(__NR_##name, 1), ALLOW
#define CALL_WITH(name, argument, value) UNLESS(__NR_##name, 4), LOAD(args[argument]), UNLESS(value, 1), ALLOW, LOAD(nr)

// Nothing but its work; another call, or another use of these, ends it.
static struct sock_filter program[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
    KILL,
    LOAD(nr),
    CALL_WITH(recvfrom, 0, SOCKET_FD),
    CALL_WITH(sendto, 0, SOCKET_FD),
    CALL(clock_gettime),
    CALL_WITH(clock_settime, 0, CLOCK_REALTIME),
    CALL_WITH(ioctl, 1, RNDADDENTROPY),
    CALL_WITH(ioctl, 1, RNDRESEEDCRNG),
    CALL(sethostname),
    CALL(exit_group),
    KILL,
};

static int install_filter(void)
{
    const struct sock_fprog filter = {sizeof program / sizeof program[0], program};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
}

static int give_up_all_else(int fd)
{
    const struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    const uint32_t allowed = 1u << CAP_SYS_TIME | 1u << CAP_SYS_ADMIN;  // the second for entropy and name
    const struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{.effective = allowed, .permitted = allowed}};
    if (dup2(fd, SOCKET_FD) != SOCKET_FD)
        return -1;
    int random = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    if (random < 0 || dup2(random, RANDOM_FD) != RANDOM_FD || syscall(SYS_close_range, RANDOM_FD + 1, ~0u, 0) != 0)
        return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_capset, &header, data) != 0)
        return -1;
    return install_filter();
}

static _Noreturn void keep(int fd)
{
    struct keeper_request request;
    if (give_up_all_else(fd) != 0)
        _exit(1);
    while (recv(SOCKET_FD, &request, sizeof request, 0) == (ssize_t)sizeof request) {
        const struct keeper_answer answer = do_all(&request);
        explicit_bzero(&request, sizeof request);
        if (send(SOCKET_FD, &answer, sizeof answer, MSG_NOSIGNAL) != (ssize_t)sizeof answer)
            break;
    }
    _exit(0);
}

int keeper_start(void)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return error_set_errno("can't make a socket for the keeper");
    keeper = fork();
    if (keeper == 0)
        keep(ends[1]);
    (void)close(ends[1]);
    keeper_fd = ends[0];
    return keeper > 0 ? 0 : error_set_errno("can't start the keeper");
}

pid_t keeper_process(void)
{
    return keeper;
}

static int ask(const struct keeper_request *request)
{
    struct keeper_answer answer;
    if (keeper_fd < 0 || send(keeper_fd, request, sizeof *request, MSG_NOSIGNAL) != (ssize_t)sizeof *request ||
        recv(keeper_fd, &answer, sizeof answer, 0) != (ssize_t)sizeof answer)
        return error_set("the process is gone that keeps clock, entropy and host name");
    if (answer.part == PART_NONE)
        return 0;
    errno = answer.number;
    const char *what = answer.part == PART_ENTROPY ? "add entropy" : answer.part == PART_CLOCK ? "set the clock" : "set the host name";
    return error_set_errno("can't %s", what);
}

int keeper_renew(const struct renewal *renewal)
{
    struct keeper_request request;
    memset(&request, 0, sizeof request);
    request.parts = PART_ENTROPY | PART_CLOCK | (renewal->hostname[0] != '\0' ? PART_NAME : PART_NONE);
    request.offset = (int64_t)renewal->time_ns - keeper_read_clock(CLOCK_MONOTONIC);
    memcpy(request.entropy, renewal->entropy, ENTROPY_BYTES);
    memcpy(request.hostname, renewal->hostname, MAX_HOSTNAME);
    int result = ask(&request);
    explicit_bzero(&request, sizeof request);
    return result;
}

void keeper_set_clock(int64_t offset)
{
    struct keeper_request request;
    memset(&request, 0, sizeof request);
    request.parts = PART_CLOCK;
    request.offset = offset;
    (void)ask(&request);  // whoever asks for a command next, finds the clock set; refused is a time before the boot
}

#ifdef AGENT_TEST_MODE
void keeper_adopt(int fd)
{
    keeper_fd = fd;
}

int keeper_write_filter(int fd)
{
    return write(fd, program, sizeof program) == (ssize_t)sizeof program ? 0 : -1;
}

_Noreturn void keeper_serve(int fd)
{
    keep(fd);
}
#endif
