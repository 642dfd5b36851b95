// The byte stream to the host: bounded buffers on both sides, frames in, frames out.
#include "channel.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bytes.h"
#include "fault.h"
#include "loop.h"
#include "protocol.h"

#define OUT_BYTES (512u * 1024u)
// Frames with bytes are made below this mark; the rest of the buffer is for small frames.
#define OUT_DATA_MARK (192u * 1024u)
// Above this mark no frame from the host is looked at, since it might need an answer.
#define OUT_CONTROL_MARK (OUT_BYTES - 128u * 1024u)

static uint8_t in[HEADER_BYTES + MAX_PAYLOAD];
static size_t in_length;
static uint8_t out[OUT_BYTES];
static size_t out_start;
static size_t out_length;
static bool ended = true;
static bool hung_up;
static struct watch port;
static frame_handler handle;

bool channel_ended(void)
{
    return ended;
}

void channel_end(void)
{
    if (!ended)
        (void)loop_watch(SET_ALWAYS, &port, 0);
    ended = true;
}

static void break_off(void)
{
    complain(fault_text());
    channel_end();
}

bool channel_has_room(void)
{
    return out_length <= OUT_DATA_MARK;
}

// What is watched follows from how full the buffer for the host is.
static void settle(void)
{
    if (ended)
        return;
    uint32_t events = out_length > 0 ? (uint32_t)EPOLLOUT : 0;
    if (out_length <= OUT_CONTROL_MARK)
        events |= (uint32_t)EPOLLIN;
    if (loop_watch(SET_ALWAYS, &port, events) != 0 || loop_pause_streams(!channel_has_room()) != 0)
        break_off();
}

// Room for a frame of `length` bytes behind what is queued; NULL ends the channel, since it was promised.
static uint8_t *make_room(size_t length)
{
    if (length > OUT_BYTES - out_length) {
        (void)fault("no room for a frame of %zu bytes", length);
        break_off();
        return NULL;
    }
    if (out_start + out_length + length > OUT_BYTES) {
        memmove(out, out + out_start, out_length);
        out_start = 0;
    }
    return out + out_start + out_length;
}

void channel_send(uint8_t type, uint32_t stream, const uint8_t *payload, size_t length)
{
    uint8_t *room = ended ? NULL : make_room(HEADER_BYTES + length);
    if (room == NULL)
        return;
    put_header(room, type, stream, (uint32_t)length);
    if (length > 0)
        memcpy(room + HEADER_BYTES, payload, length);
    out_length += HEADER_BYTES + length;
    settle();
}

void channel_send_window(uint32_t stream, uint8_t lane, uint32_t credit)
{
    uint8_t payload[5];
    put_number(payload, 1, lane);
    put_number(payload + 1, 4, credit);
    channel_send(FRAME_WINDOW, stream, payload, sizeof payload);
}

ssize_t channel_forward(uint8_t type, uint32_t stream, int fd, size_t limit)
{
    size_t most = limit > MAX_PAYLOAD ? MAX_PAYLOAD : limit;
    uint8_t *room = ended ? NULL : make_room(HEADER_BYTES + most);
    if (room == NULL) {
        errno = EPIPE;
        return -1;
    }
    ssize_t count = read(fd, room + HEADER_BYTES, most);
    if (count > 0) {
        put_header(room, type, stream, (uint32_t)count);
        out_length += HEADER_BYTES + (size_t)count;
        settle();
    }
    return count;
}

// A virtio port takes at most 32 KiB at a time: write until it takes no more.
static void write_some(void)
{
    while (out_length > 0) {
        ssize_t count = write(port.fd, out + out_start, out_length);
        if (count < 0 && errno != EAGAIN && errno != EINTR) {
            (void)fault_errno("the channel can't be written");
            break_off();
        }
        if (count <= 0)
            return;
        out_start += (size_t)count;
        out_length -= (size_t)count;
    }
    out_start = 0;
}

static void handle_frames(void)
{
    size_t start = 0;
    while (!ended && out_length <= OUT_CONTROL_MARK) {
        struct frame frame;
        size_t used = 0;
        enum parse parsed = parse_frame(in + start, in_length - start, &frame, &used);
        if (parsed == PARSE_MORE)
            break;
        if (parsed == PARSE_BAD)
            (void)fault("the host broke the protocol");
        if (parsed == PARSE_BAD || handle(&frame) != 0) {
            break_off();
            break;
        }
        start += used;
    }
    in_length -= start;
    if (start > 0)
        memmove(in, in + start, in_length);
}

// A virtio port gives at most a page at a time: read until it has no more.
static void read_some(void)
{
    while (in_length < sizeof in) {
        ssize_t count = read(port.fd, in + in_length, sizeof in - in_length);
        if (count < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (count <= 0) {
            (void)fault("the host hung up");
            hung_up = true;
            return;
        }
        in_length += (size_t)count;
    }
}

static void on_port(struct watch *watch, uint32_t events)
{
    (void)watch;
    if ((events & (uint32_t)EPOLLOUT) != 0)
        write_some();
    if (!ended && (events & (uint32_t)(EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        read_some();
    handle_frames();
    if (hung_up)
        break_off();
    settle();
}

int channel_open(int fd, frame_handler handler)
{
    port = (struct watch){.fd = fd, .ready = on_port};
    handle = handler;
    ended = false;
    settle();
    return ended ? -1 : 0;
}

void channel_flush(int milliseconds)
{
    struct pollfd poll_port = {.fd = port.fd, .events = POLLOUT};
    while (!ended && out_length > 0 && poll(&poll_port, 1, milliseconds) > 0) {
        if ((poll_port.revents & (POLLERR | POLLHUP)) != 0)
            return;
        write_some();
    }
}

void channel_await_hangup(int milliseconds)
{
    // Nothing that the host still says is looked at: only that it has gone, so that no byte of ours is lost.
    struct pollfd poll_port = {.fd = port.fd, .events = 0};
    if (!ended)
        (void)poll(&poll_port, 1, milliseconds);
}
