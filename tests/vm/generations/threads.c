// A stand-in for a virtual machine such as Java's: threads that draw, each with a generator of its own in memory, and
// one thread that takes the process's signals, so that no handler runs in those that draw.
//
//   threads FIFO HOOK
//
// Answers each line of FIFO.ask in FIFO.answer: "signals" with how many SIGURG were taken, any other with one number of
// each thread. HOOK: none; file: a thread looks at the generation before it draws; flag: at what the other thread has
// counted.

#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "requests.h"

#define THREADS 3

static enum { NONE, FROM_FILE, FROM_FLAG } hook;
static const volatile char *generation;
static atomic_uint signals;
static pthread_barrier_t asked, drawn;
static uint64_t numbers[THREADS];

static void read_generation(char *into)
{
    for (int i = 0; i < DIGITS; i++)
        into[i] = generation[i];
}

static bool is_another(const char *seen)
{
    char now[DIGITS];
    read_generation(now);
    return memcmp(now, seen, sizeof now) != 0;
}

static uint64_t seed(void)
{
    uint64_t state = 0;
    while (state == 0)
        if (getrandom(&state, sizeof state, 0) != (ssize_t)sizeof state)
            err(1, "getrandom");
    return state;
}

static void *draw(void *number)
{
    unsigned int counted = atomic_load(&signals);
    char seen[DIGITS];
    read_generation(seen);  // first: what is seeded before that may be of another machine
    uint64_t state = seed();
    for (;;) {
        (void)pthread_barrier_wait(&asked);
        if ((hook == FROM_FILE && is_another(seen)) || (hook == FROM_FLAG && atomic_load(&signals) != counted)) {
            counted = atomic_load(&signals);
            read_generation(seen);
            state = seed();
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *(uint64_t *)number = state;
        (void)pthread_barrier_wait(&drawn);
    }
    return NULL;
}

static void *take_signals(void *set)
{
    int taken = 0;
    while (sigwait(set, &taken) == 0)
        atomic_fetch_add(&signals, 1);
    return NULL;
}

static void answer(const char *fifo)
{
    char line[64] = "";
    FILE *ask = open_fifo(fifo, "ask", "re");
    if (fgets(line, sizeof line, ask) == NULL)
        errx(1, "no request");
    (void)fclose(ask);
    FILE *out = open_fifo(fifo, "answer", "we");
    if (strcmp(line, "signals\n") == 0) {
        (void)fprintf(out, "%u", atomic_load(&signals));
    } else {
        (void)pthread_barrier_wait(&asked);
        (void)pthread_barrier_wait(&drawn);
        for (int i = 0; i < THREADS; i++)
            (void)fprintf(out, "%016" PRIx64 " ", numbers[i]);
    }
    (void)fputc('\n', out);
    (void)fclose(out);
}

static void start(void *(*function)(void *), void *argument)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, function, argument) != 0)
        errx(1, "pthread_create");
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: threads FIFO HOOK");
    hook = strcmp(argv[2], "file") == 0 ? FROM_FILE : strcmp(argv[2], "flag") == 0 ? FROM_FLAG : NONE;
    generation = map_generation();
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGURG);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)pthread_barrier_init(&asked, NULL, THREADS + 1);
    (void)pthread_barrier_init(&drawn, NULL, THREADS + 1);
    start(take_signals, &set);
    for (int i = 0; i < THREADS; i++)
        start(draw, &numbers[i]);
    for (;;)
        answer(argv[1]);
}
