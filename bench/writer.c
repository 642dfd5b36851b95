// In the place of the agent: writes 128 MiB to the port each time it reads a byte from it.
#include <fcntl.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "boot.h"

#define TOTAL (128u << 20)

int main(void)
{
    static char block[65536];
    int port = boot_prepare() == 0 ? boot_open_port() : -1;
    char told = 0;
    memset(block, 'x', sizeof block);
    if (port >= 0)
        (void)fcntl(port, F_SETFL, 0);  // as a program does that knows nothing of ports: it waits
    while (port >= 0 && read(port, &told, 1) == 1)
        for (size_t left = TOTAL; left > 0;) {
            ssize_t count = write(port, block, left < sizeof block ? left : sizeof block);
            if (count <= 0)
                return 1;
            left -= (size_t)count;
        }
    (void)reboot(RB_AUTOBOOT);
    return 0;
}
