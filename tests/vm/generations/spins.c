// A program of one thread that looks at the generation as often as it can: whether it had its SIGURG before it saw another.
//
//   spins FIFO
//
// Reads a line from FIFO.ask, spins, and answers in FIFO.answer: how many SIGURG its handler had taken by then.

#define _GNU_SOURCE
#include <signal.h>
#include <string.h>

#include "requests.h"


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

int main(int argc, char **argv)
{
    if (argc != 2)
        errx(2, "usage: spins FIFO");
    const char *generation = map_generation();
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
