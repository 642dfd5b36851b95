// Copies files between the guest and the host, as the workload's user, in a process of its own without a program.
#include "copy.h"

#include <signal.h>
#include <stddef.h>

// What waits is woken by it and gives up in order, so that nothing half-made stays.
static void on_signal(int number)
{
    (void)number;
}

static void take_signals(void)
{
    static const int numbers[] = {SIGHUP, SIGINT, SIGTERM};
    const struct sigaction action = {.sa_handler = on_signal};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        (void)sigaction(numbers[i], &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

int copy(const struct request *request)
{
    take_signals();
    if (request->copy == COPY_OUT)
        return copy_out(request->argv[0]) == 0 ? 0 : 1;
    return copy_in(request->argv[0], request->argv[1], request->replaces) == 0 ? 0 : 1;
}
