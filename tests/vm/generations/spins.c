// A program of one thread that looks at the generation as often as it can: whether it had its SIGURG before it saw another.
//
//   spins FIFO
//
// Reads a line from FIFO.ask, spins, and answers in FIFO.answer: how many SIGURG its handler had taken by then.

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define GENERATION "/run/mvm/generation"
#define DIGITS 32

static volatile sig_atomic_t signals;

static void count(int number)
{
    (void)number;
    signals++;
}

static int spin(const volatile char *generation, const char *seen)
{
    for (int i = 0; generation[i] == seen[i]; i = (i + 1) % DIGITS)
        ;
    return signals;
}

static FILE *open_fifo(const char *fifo, const char *end, const char *mode)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s.%s", fifo, end);
    FILE *file = fopen(path, mode);
    if (file == NULL)
        err(1, "%s", path);
    return file;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        errx(2, "usage: spins FIFO");
    int fd = open(GENERATION, O_RDONLY | O_CLOEXEC);
    const void *generation = fd < 0 ? MAP_FAILED : mmap(NULL, DIGITS, PROT_READ, MAP_SHARED, fd, 0);
    if (generation == MAP_FAILED)
        err(1, GENERATION);
    char seen[DIGITS];
    memcpy(seen, generation, sizeof seen);
    (void)signal(SIGURG, count);
    char line[64] = "";
    if (fgets(line, sizeof line, open_fifo(argv[1], "ask", "re")) == NULL)
        errx(1, "no request");
    const int handled = spin(generation, seen);
    FILE *out = open_fifo(argv[1], "answer", "we");
    (void)fprintf(out, "%d\n", handled);
    (void)fclose(out);
}
