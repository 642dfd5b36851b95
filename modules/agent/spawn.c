// Makes the pipes of a child, or its terminal, and starts it on their other ends.
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "child.h"
#include "pty.h"

#define PIPE_BYTES (256 * 1024)
// Of standard output: a window of it (protocol.h).
#define OUTPUT_BYTES (1024 * 1024)

// A pipe of which our end doesn't block; a stream's other end belongs to the workload, so that it can open /dev/stdout.
static int make_pipe(int *ours, int *theirs, bool we_read)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    *ours = ends[we_read ? 0 : 1];
    *theirs = ends[we_read ? 1 : 0];
    return fcntl(*ours, F_SETFL, O_NONBLOCK);
}

static int make_stream(int *ours, int *theirs, bool we_read, int bytes, const struct request *request)
{
    if (make_pipe(ours, theirs, we_read) != 0)
        return -1;
    (void)fcntl(*ours, F_SETPIPE_SZ, bytes);  // fewer turns for much output; the default will do where it is refused
    return geteuid() == 0 ? fchown(*theirs, request->uid, request->gid) : 0;
}

static int make_terminal(const struct request *request, struct spawned *ours, struct child_fds *theirs)
{
    struct pty pty;
    if (pty_open(request, &pty) != 0)
        return -1;
    ours->output = pty.master;
    ours->terminal = pty.slave;
    ours->input = fcntl(pty.master, F_DUPFD_CLOEXEC, 3);  // it is watched by itself
    *theirs = (struct child_fds){.input = pty.slave, .output = pty.slave, .error = pty.slave, .report = -1};
    theirs->is_terminal = true;
    return ours->input < 0 ? -1 : make_pipe(&ours->report, &theirs->report, true);
}

static int make_pipes(const struct request *request, struct spawned *ours, struct child_fds *theirs)
{
    if (request->rows > 0)
        return make_terminal(request, ours, theirs);
    if (make_stream(&ours->input, &theirs->input, false, PIPE_BYTES, request) != 0)
        return -1;
    if (make_stream(&ours->output, &theirs->output, true, OUTPUT_BYTES, request) != 0)
        return -1;
    if (make_stream(&ours->error, &theirs->error, true, PIPE_BYTES, request) != 0)
        return -1;
    return make_pipe(&ours->report, &theirs->report, true);
}

static void close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
}

pid_t spawn(const struct request *request, struct spawned *ours)
{
    struct child_fds theirs = {-1, -1, -1, -1, false};
    *ours = (struct spawned){-1, -1, -1, -1, -1, NULL};
    pid_t pid = make_pipes(request, ours, &theirs) == 0 ? child_start(request, &theirs, &ours->launch) : -1;
    int number = errno;
    close_all((const int[]){theirs.report, theirs.input, theirs.output, theirs.error}, theirs.is_terminal ? 1 : 4);
    if (pid < 0)
        close_all((const int[]){ours->input, ours->output, ours->error, ours->report, ours->terminal}, 5);
    errno = number;
    return pid;
}
