// What programs of these tests have in common: requests by two FIFOs, and the generation, mapped.

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#define GENERATION "/run/mvm/generation"
#define DIGITS 32

static FILE *open_fifo(const char *fifo, const char *end, const char *mode)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s.%s", fifo, end);
    FILE *file = fopen(path, mode);
    if (file == NULL)
        err(1, "%s", path);
    return file;
}

// To look at it takes no system call.
static const char *map_generation(void)
{
    int fd = open(GENERATION, O_RDONLY | O_CLOEXEC);
    const void *generation = fd < 0 ? MAP_FAILED : mmap(NULL, DIGITS, PROT_READ, MAP_SHARED, fd, 0);
    if (generation == MAP_FAILED)
        err(1, GENERATION);
    return generation;
}
