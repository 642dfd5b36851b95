// A pseudo-terminal for a shell: made, resized, and taken by the child that it is to control.
#include "pty.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "syscalls.h"

int pty_resize(int master, uint16_t rows, uint16_t columns)
{
    const struct winsize size = {.ws_row = rows, .ws_col = columns};
    return ioctl(master, TIOCSWINSZ, &size);
}

// The other end is opened by its master, not by a name; it is the workload's alone, so that `tty` and its like work.
static int open_slave(int master, const struct request *request)
{
    const int unlocked = 0;
    if (ioctl(master, TIOCSPTLCK, &unlocked) != 0)
        return -1;
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        return -1;
    struct termios modes;
    bool is_theirs = geteuid() != 0 || fchown(slave, request->uid, request->gid) == 0;
    if (is_theirs && fchmod(slave, 0600) == 0 && tcgetattr(slave, &modes) == 0) {
        modes.c_iflag |= IUTF8;  // erases whole characters
        if (tcsetattr(slave, TCSANOW, &modes) == 0)
            return slave;
    }
    int number = errno;
    (void)close(slave);
    errno = number;
    return -1;
}

int pty_open(const struct request *request, struct pty *pty)
{
    *pty = (struct pty){-1, -1};
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (master < 0)
        return -1;
    int slave = pty_resize(master, request->rows, request->columns) == 0 ? open_slave(master, request) : -1;
    if (slave >= 0) {
        *pty = (struct pty){master, slave};
        return 0;
    }
    int number = errno;
    (void)close(master);
    errno = number;
    return -1;
}

long pty_take(void)
{
    return raw_syscall(SYS_ioctl, STDIN_FILENO, TIOCSCTTY, 0, 0);
}

bool pty_has_bytes(int master)
{
    struct pollfd poll_master = {.fd = master, .events = POLLIN};
    return poll(&poll_master, 1, 0) > 0 && (poll_master.revents & POLLIN) != 0;
}

long pty_execute_shell(char *const *envp)
{
    static char bash[] = "bash";
    static char sh[] = "sh";
    static const struct {
        const char *path;
        char *name;
    } shells[] = {
        {"/bin/bash", bash}, {"/usr/bin/bash", bash}, {"/bin/sh", sh}, {"/usr/bin/sh", sh}, {"/bin/busybox", sh},
    };
    long result = -ENOENT;
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++) {
        char *const argv[] = {shells[i].name, NULL};
        result = raw_syscall(SYS_execve, (long)shells[i].path, (long)argv, (long)envp, 0);
        if (result != -ENOENT && result != -ENOTDIR && result != -EACCES)
            break;
    }
    return result;
}
