// Makes the pipes of a child and starts it on their other ends.
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "child.h"

#define PIPE_BYTES (256 * 1024)

// A pipe of which our end doesn't block and the other end belongs to the workload, so that it can open /dev/stdout.
static int make_pipe(int *ours, int *theirs, bool we_read, const struct request *request)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    (void)fcntl(ends[0], F_SETPIPE_SZ, PIPE_BYTES);  // fewer turns for much output; the default will do where it is refused
    *ours = ends[we_read ? 0 : 1];
    *theirs = ends[we_read ? 1 : 0];
    if (geteuid() == 0 && fchown(*theirs, request->uid, request->gid) != 0)
        return -1;
    return fcntl(*ours, F_SETFL, O_NONBLOCK);
}

static int make_pipes(const struct request *request, struct spawned *ours, struct child_fds *theirs)
{
    if (make_pipe(&ours->input, &theirs->input, false, request) != 0)
        return -1;
    if (make_pipe(&ours->output, &theirs->output, true, request) != 0)
        return -1;
    if (make_pipe(&ours->error, &theirs->error, true, request) != 0)
        return -1;
    return make_pipe(&ours->report, &theirs->report, true, request);
}

static void close_four(const int fds[4])
{
    for (int i = 0; i < 4; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
}

pid_t spawn(const struct request *request, struct spawned *ours)
{
    struct child_fds theirs = {-1, -1, -1, -1};
    *ours = (struct spawned){-1, -1, -1, -1};
    pid_t pid = make_pipes(request, ours, &theirs) == 0 ? child_start(request, &theirs) : -1;
    int number = errno;
    close_four((const int[]){theirs.input, theirs.output, theirs.error, theirs.report});
    if (pid < 0)
        close_four((const int[]){ours->input, ours->output, ours->error, ours->report});
    errno = number;
    return pid;
}
