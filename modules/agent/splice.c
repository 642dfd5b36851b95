// Moves pages from a command's pipe to the port with splice(2), without copying them.
#include "splice.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "errors.h"
#include "frames.h"
#include "protocol.h"

// A pipe of 16 places for pages: whatever is in there fits one frame, and behind its header 17 places.
#define FRAME_PIPE_BYTES 65536
#define FRAME_PLACES 17u
// 128 places, as many as the port's queue has: they fit that even when the kernel has no memory for a table beside it.
#define READY_PIPE_BYTES 524288
#define READY_FRAMES (128u / FRAME_PLACES)

// The workload can read its own pipe at any time, so a frame's length is known only once its bytes are in here.
static int frame_pipe[2] = {-1, -1};
// Whole frames, in their order.
static int ready_pipe[2] = {-1, -1};
static unsigned ready_frames;
static size_t waiting;
static bool in_parts;
static bool unusable;

static int open_pipe(int ends[2], int bytes)
{
    if (ends[0] >= 0)
        return 0;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return -1;
    return fcntl(ends[0], F_SETPIPE_SZ, bytes) == bytes ? 0 : -1;
}

bool splice_has_room(void)
{
    if (open_pipe(frame_pipe, FRAME_PIPE_BYTES) != 0 || open_pipe(ready_pipe, READY_PIPE_BYTES) != 0)
        unusable = true;
    return !unusable && ready_frames < READY_FRAMES;
}

size_t splice_waiting(void)
{
    return waiting;
}

bool splice_in_parts(void)
{
    return in_parts;
}

ssize_t splice_take(uint8_t type, uint32_t stream, int fd, size_t limit)
{
    ssize_t count = splice(fd, NULL, frame_pipe[1], NULL, limit < MAX_PAYLOAD ? limit : MAX_PAYLOAD, SPLICE_F_NONBLOCK);
    if (count <= 0)
        return count;
    uint8_t header[HEADER_BYTES];
    put_header(header, type, stream, (uint32_t)count);
    if (write(ready_pipe[1], header, sizeof header) != (ssize_t)sizeof header ||
        splice(frame_pipe[0], NULL, ready_pipe[1], NULL, (size_t)count, SPLICE_F_NONBLOCK) != count) {
        unusable = true; // and so is the channel, since bytes are lost: its caller sees EPIPE
        errno = EPIPE;
        return -1;
    }
    ready_frames++;
    waiting += sizeof header + (size_t)count;
    return count;
}

int splice_send(int port)
{
    size_t all = waiting;
    in_parts = false;
    while (waiting > 0) {
        ssize_t count = splice(ready_pipe[0], NULL, port, NULL, waiting, SPLICE_F_NONBLOCK);
        if (count < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (count < 0)
            return error_set_errno("the channel can't be written");
        if (count == 0)  // virtio_console has taken them out of the pipe, but its queue had no place
            return error_set("the channel lost bytes");
        in_parts |= waiting == all && (size_t)count < all - all / 8;
        waiting -= (size_t)count;
    }
    ready_frames = 0;
    return 0;
}
