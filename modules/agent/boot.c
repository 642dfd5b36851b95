// What PID 1 does before it can talk: kernel file systems, modules, loopback, and the port to the host.
#include "boot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "errors.h"
#include "files.h"
#include "kmodules.h"
#include "protocol.h"

#define PORTS "/sys/class/virtio-ports"
#define PORT_WAIT_MS 30000

// Whatever was open at the start, the console takes its place; without one, nothing does.
static void open_console(void)
{
    int fd = open("/dev/console", O_RDWR | O_NOCTTY);
    if (fd < 0)
        fd = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3 && fd >= 0; i++)
        if (fd != i)
            (void)dup2(fd, i);
    if (fd > 2)
        (void)close(fd);
}

static int mount_kernel_file_systems(void)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (make_directory("/proc", 0555) != 0 || mount_on("proc", "proc", "/proc", flags, NULL) != 0)
        return -1;
    if (make_directory("/sys", 0555) != 0 || mount_on("sysfs", "sysfs", "/sys", flags, NULL) != 0)
        return -1;
    if (make_directory("/dev", 0755) != 0)
        return -1;
    if (mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, NULL) != 0 && errno != EBUSY)
        return error_set_errno("can't mount /dev");
    return 0;
}

// TIOCSTI types into a terminal for whoever sits at it: nobody here needs that (since Linux 6.2 it can be turned off).
static void disable_tiocsti(void)
{
    (void)write_text("/proc/sys/dev/tty/legacy_tiocsti", "0");
}

static int bring_up_loopback(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set_errno("socket");
    struct ifreq request = {.ifr_name = "lo"};
    int result = ioctl(fd, SIOCGIFFLAGS, &request);
    request.ifr_flags = (short)(request.ifr_flags | IFF_UP | IFF_RUNNING);
    if (result == 0)
        result = ioctl(fd, SIOCSIFFLAGS, &request);
    if (result != 0)
        (void)error_set_errno("can't bring up lo");
    (void)close(fd);
    return result;
}

int boot_prepare(void)
{
    if (mount_kernel_file_systems() != 0)
        return -1;
    open_console();
    disable_tiocsti();
    return kmodules_load() != 0 || bring_up_loopback() != 0 ? -1 : 0;
}

static bool is_agent_port(const char *port)
{
    char path[300];
    char name[64];
    (void)snprintf(path, sizeof path, PORTS "/%s/name", port);
    return port[0] != '.' && read_text(path, name, sizeof name) == 0 && strcmp(name, PORT_NAME "\n") == 0;
}

static bool is_connected(int port)
{
    struct pollfd poll_port = {.fd = port, .events = 0};
    return poll(&poll_port, 1, 0) == 0;  // else it reports that the host has hung up, or not yet come
}

// The node may be there before the port works: then it opens with ENXIO.
static int find_port(void *context)
{
    int *fd = context;
    DIR *ports = opendir(PORTS);
    if (ports == NULL)
        return error_set_errno(PORTS);
    *fd = -1;
    for (struct dirent *entry = readdir(ports); entry != NULL && *fd < 0; entry = readdir(ports)) {
        char path[300];
        (void)snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        if (is_agent_port(entry->d_name))
            *fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    }
    (void)closedir(ports);
    if (*fd >= 0 && !is_connected(*fd)) {
        (void)close(*fd);
        *fd = -1;
    }
    return *fd < 0 ? error_set("there is no port named " PORT_NAME) : 0;
}

int boot_open_port(void)
{
    int fd = -1;
    return wait_until(find_port, &fd, PORT_WAIT_MS) == 0 ? fd : -1;
}
