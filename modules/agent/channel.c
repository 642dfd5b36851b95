// The byte stream to the host: bounded buffers on both sides, frames in, frames out.
#include "channel.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bytes.h"
#include "errors.h"
#include "loop.h"
#include "protocol.h"
#include "splice.h"

#define OUT_BYTES (512u * 1024u)
// A frame lies in one piece, so at the end of the memory less than one frame is left unused.
#define OUT_MEMORY (OUT_BYTES + HEADER_BYTES + MAX_PAYLOAD)
// Frames with bytes are made below this mark; the rest of the buffer is for small frames.
#define OUT_DATA_MARK (192u * 1024u)
// Above this mark no frame from the host is looked at, since it might need an answer.
#define OUT_CONTROL_MARK (OUT_BYTES - 128u * 1024u)

static uint8_t in[HEADER_BYTES + MAX_PAYLOAD];
static size_t in_length;
// What is queued comes behind what is spliced, which is only done while nothing is queued. It lies at `out_start`,
// and when there was no more room behind it, then at the beginning. Nothing is moved to make room: where the processor
// is emulated, that costs more than all else that is done with a byte.
static uint8_t out[OUT_MEMORY];
static size_t out_start;
static size_t out_first;
static size_t out_second;
static size_t out_length;
static bool ended = true;
static bool hung_up;
static bool held;
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

static void fail(void)
{
    log_error(error_text());
    channel_end();
}

bool channel_has_room(void)
{
    return out_length <= OUT_DATA_MARK;
}

// What is watched follows from how full the buffer for the host is.
static void update_watch(void)
{
    if (ended)
        return;
    uint32_t events = out_length + splice_waiting() > 0 ? (uint32_t)EPOLLOUT : 0;
    if (out_length <= OUT_CONTROL_MARK)
        events |= (uint32_t)EPOLLIN;
    if (loop_watch(SET_ALWAYS, &port, events) != 0 || loop_pause_streams(held || !channel_has_room()) != 0)
        fail();
}

// Room for a frame of `length` bytes behind what is queued; NULL ends the channel, since it was promised.
static uint8_t *make_room(size_t length)
{
    if (length > OUT_BYTES - out_length) {
        (void)error_set("no room for a frame of %zu bytes", length);
        fail();
        return NULL;
    }
    if (out_second > 0 || out_start + out_first + length > OUT_MEMORY)
        return out + out_second;
    return out + out_start + out_first;
}

// So many bytes were put where make_room() said.
static void queued(const uint8_t *room, size_t length)
{
    if (room == out + out_start + out_first)
        out_first += length;
    else
        out_second += length;
    out_length += length;
}

static void sent(size_t count)
{
    out_start += count;
    out_first -= count;
    out_length -= count;
    if (out_first > 0)
        return;
    out_start = 0;
    out_first = out_second;
    out_second = 0;
}

// A virtio port takes at most 32 KiB at a time: write until it takes no more.
static void write_some(void)
{
    if (splice_send(port.fd) != 0)
        fail();
    if (splice_waiting() > 0)
        return;
    while (out_length > 0) {
        ssize_t count = write(port.fd, out + out_start, out_first);
        if (count < 0 && errno != EAGAIN && errno != EINTR) {
            (void)error_set_errno("the channel can't be written");
            fail();
        }
        if (count <= 0)
            return;
        sent((size_t)count);
    }
}

// At once where the port takes it: to be told that it does would cost more than the try.
static void write_now(void)
{
    write_some();
    update_watch();
}

void channel_send(uint8_t type, uint32_t stream, const uint8_t *payload, size_t length)
{
    uint8_t *room = ended ? NULL : make_room(HEADER_BYTES + length);
    if (room == NULL)
        return;
    put_header(room, type, stream, (uint32_t)length);
    if (length > 0)
        memcpy(room + HEADER_BYTES, payload, length);
    queued(room, HEADER_BYTES + length);
    write_now();
}

void channel_send_window(uint32_t stream, uint8_t flow, uint32_t credit)
{
    uint8_t payload[5];
    put_number(payload, 1, flow);
    put_number(payload + 1, 4, credit);
    channel_send(FRAME_WINDOW, stream, payload, sizeof payload);
}

ssize_t channel_forward(uint8_t type, uint32_t stream, int fd, size_t limit)
{
    // so that a whole frame is two writes to a virtio port, and not a third one for its last bytes
    size_t most = limit > MAX_PAYLOAD - HEADER_BYTES ? MAX_PAYLOAD - HEADER_BYTES : limit;
    uint8_t *room = ended ? NULL : make_room(HEADER_BYTES + most);
    if (room == NULL) {
        errno = EPIPE;
        return -1;
    }
    ssize_t count = read(fd, room + HEADER_BYTES, most);
    if (count > 0) {
        put_header(room, type, stream, (uint32_t)count);
        queued(room, HEADER_BYTES + (size_t)count);
        write_now();
    }
    return count;
}

ssize_t channel_splice(uint8_t type, uint32_t stream, int fd, size_t limit)
{
    if (ended || out_length > 0 || !splice_has_room())
        return channel_forward(type, stream, fd, limit);
    ssize_t count = splice_take(type, stream, fd, limit);
    if (count < 0 && errno == EPIPE) {
        (void)error_set("the channel lost bytes");
        fail();
    }
    return count;
}

void channel_hold_streams(bool hold)
{
    held = hold;
    update_watch();
}

void channel_push(void)
{
    if (!ended)
        write_now();
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
            (void)error_set("the host broke the protocol");
        if (parsed == PARSE_BAD || handle(&frame) != 0) {
            fail();
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
            (void)error_set("the host hung up");
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
        fail();
    update_watch();
}

int channel_open(int fd, frame_handler handler)
{
    port = (struct watch){.fd = fd, .ready = on_port};
    handle = handler;
    ended = false;
    update_watch();
    return ended ? -1 : 0;
}

void channel_flush(int milliseconds)
{
    struct pollfd poll_port = {.fd = port.fd, .events = POLLOUT};
    while (!ended && out_length + splice_waiting() > 0 && poll(&poll_port, 1, milliseconds) > 0) {
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
