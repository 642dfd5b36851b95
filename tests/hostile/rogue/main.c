// A guest's first process that means harm: says to the host what the files /rogue/0, /rogue/1, … hold, whatever it is.
//
// It says the first one at once, and each next one when something came from the host. With /rogue/forever it says the
// last one again and again, without listening; else it listens, and says nothing more.
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot.h"
#include "errors.h"

static void until(int port, short events)
{
    struct pollfd one = {.fd = port, .events = events};
    (void)poll(&one, 1, -1);
}

static void hear(int port)
{
    static char heard[65536];
    ssize_t count = 0;
    while (count <= 0) {
        until(port, POLLIN);
        count = read(port, heard, sizeof heard);
    }
}

static void say(int port, const char *text, size_t size)
{
    for (size_t said = 0; said < size;) {
        ssize_t count = write(port, text + said, size - said);
        if (count > 0)
            said += (size_t)count;
        else
            until(port, POLLOUT);
    }
}

static char *script(int number, size_t *size)
{
    char path[32];
    struct stat found;
    (void)snprintf(path, sizeof path, "/rogue/%d", number);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &found) != 0)
        return NULL;
    *size = (size_t)found.st_size;
    char *text = malloc(*size + 1);
    if (text == NULL || read(fd, text, *size) != found.st_size)
        abort();
    (void)close(fd);
    return text;
}

int main(void)
{
    if (boot_prepare() != 0) {
        log_error(error_text());
        return 1;
    }
    int port = boot_open_port();
    size_t size = 0;
    char *text = script(0, &size);
    if (port < 0 || text == NULL)
        return 1;
    say(port, text, size);
    for (int number = 1;; number++) {
        size_t next_size = 0;
        char *next = script(number, &next_size);
        if (next == NULL)
            break;
        hear(port);
        say(port, next, next_size);
        text = next;
        size = next_size;
    }
    bool forever = access("/rogue/forever", F_OK) == 0;
    for (;;)
        if (forever)
            say(port, text, size);
        else
            hear(port);
}
