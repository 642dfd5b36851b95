// Tries system calls that a filter may refuse, each in a process of its own, and prints what became of each.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALL(name, ...) {#name, SYS_##name, {__VA_ARGS__}}
#define AGAIN(label, name, ...) {label, SYS_##name, {__VA_ARGS__}}
#define NOWHERE (-1)
#define ITSELF 0xfffff  // stands for our own process

static char byte;
static char other;
static struct iovec here = {&byte, 1};
static struct iovec there = {&other, 1};

// Arguments with which an unprivileged process gets another answer than a filter's EPERM.
static const struct {
    const char *label;
    long number;
    long arguments[6];
} attempts[] = {
    CALL(getpid, 0), CALL(mount, 0), CALL(umount2, 0), CALL(chroot, 0), CALL(open_tree, NOWHERE, 0, 0),
    CALL(setns, NOWHERE, 0), CALL(clone3, 0, 0), AGAIN("unshare user", unshare, CLONE_NEWUSER),
    AGAIN("unshare fs", unshare, CLONE_FS), AGAIN("clone user", clone, CLONE_NEWUSER | SIGCHLD),
    AGAIN("clone", clone, SIGCHLD), CALL(keyctl, 0, -2, 0), CALL(add_key, 0, 0, 0, 0, -2),
    CALL(perf_event_open, 0, 0, NOWHERE, NOWHERE, 0), CALL(userfaultfd, 1), CALL(io_uring_setup, 0, 0),
    CALL(ioctl, NOWHERE, 0x5412), CALL(pidfd_getfd, NOWHERE, 0, 0), CALL(kcmp, ITSELF, ITSELF, 2),
    CALL(process_vm_readv, ITSELF, (long)&here, 1, (long)&there, 1), AGAIN("traceme", ptrace, PTRACE_TRACEME),
    AGAIN("unix", socket, AF_UNIX, SOCK_STREAM), AGAIN("inet", socket, AF_INET, SOCK_STREAM),
    AGAIN("netlink", socket, AF_NETLINK, SOCK_RAW), AGAIN("packet", socket, AF_PACKET, SOCK_DGRAM),
    AGAIN("alg", socket, AF_ALG, SOCK_SEQPACKET), AGAIN("vsock", socket, AF_VSOCK, SOCK_STREAM),
    CALL(memfd_create, (long)"x", 0), AGAIN("personality", personality, 0x40000),
    AGAIN("personality asked", personality, 0xffffffff), AGAIN("x32", getpid, 0),
};

static long try(size_t i)
{
    long a[6];
    for (size_t k = 0; k < 6; k++)
        a[k] = attempts[i].arguments[k] == ITSELF ? getpid() : attempts[i].arguments[k];
    long number = attempts[i].number | (strcmp(attempts[i].label, "x32") == 0 ? 0x40000000 : 0);
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

// Whether a process can take hold of another one that didn't ask for it.
static long attach(long request)
{
    pid_t child = fork();
    if (child == 0)
        for (;;)
            (void)pause();
    long result = ptrace((int)request, child, NULL, NULL);
    int number = errno;
    (void)kill(child, SIGKILL);
    errno = number;
    return result;
}

// getpid() by the numbers of 32 bits.
static long by_other_numbers(long number)
{
    long result = number;
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory");
    return result;
}

static void report(const char *label, long (*deed)(long), long value)
{
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(deed(value) >= 0 ? 0 : errno);
    int status = 0;
    (void)waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        (void)printf("%s=signal %d\n", label, WTERMSIG(status));
    else
        (void)printf("%s=%d\n", label, WEXITSTATUS(status));
}

static long listed(long i)
{
    return try((size_t)i);
}

// As many processes as there is room for, and then always one more.
static _Noreturn void multiply(void)
{
    int count = 0;
    pid_t child = fork();
    for (; child > 0; child = fork())
        count++;
    while (child == 0)
        (void)pause();
    (void)printf("%d %d\n", count, errno);
    (void)fflush(stdout);
    for (;;) {
        pid_t more = fork();
        if (more == 0)
            break;
    }
    for (;;)
        (void)pause();
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "multiply") == 0)
        multiply();
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++)
        report(attempts[i].label, listed, (long)i);
    report("attach", attach, PTRACE_ATTACH);
    report("seize", attach, PTRACE_SEIZE);
    report("32 bits", by_other_numbers, 20);
    return 0;
}
