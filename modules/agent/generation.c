// Tells the workload which of its lives this is: a number in /run/mvm/generation, another one after each restoration.
#include "generation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "errors.h"
#include "scratch.h"

#define DIRECTORY "/run/mvm"
#define NUMBER_BYTES 16

// Open from before the workload is there, which may move names in directories that are its own.
static int generation_fd = -1;

static int make_file(const char *root)
{
    int directory = scratch_target(root, DIRECTORY);
    if (directory < 0)
        return -1;
    generation_fd = openat(directory, "generation", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
    if (generation_fd < 0)
        (void)error_set_errno("can't make " DIRECTORY "/generation");
    (void)close(directory);
    return generation_fd < 0 ? -1 : generation_renew();
}

void generation_make(const char *root)
{
    if (make_file(root) != 0)
        log_error(error_text());
}

// In one write to a page that the file has already: it takes no space, and whoever reads the file finds one number.
int generation_renew(void)
{
    uint8_t number[NUMBER_BYTES];
    char text[2 * NUMBER_BYTES + 2];
    if (generation_fd < 0)
        return 0;
    if (getrandom(number, sizeof number, 0) != (ssize_t)sizeof number)
        return error_set_errno("can't draw a generation");
    for (size_t i = 0; i < sizeof number; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", number[i]);
    text[2 * NUMBER_BYTES] = '\n';
    if (pwrite(generation_fd, text, 2 * NUMBER_BYTES + 1, 0) != 2 * NUMBER_BYTES + 1)
        return error_set_errno("can't write " DIRECTORY "/generation");
    return 0;
}
