// One forwarded connection: its two directions, their credit, its half-closes and its breaking off.
#include "connection.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "channel.h"
#include "errors.h"
#include "protocol.h"

static void close_socket(struct connection *connection)
{
    if (connection->watch.fd < 0)
        return;
    (void)loop_watch(SET_STREAMS, &connection->watch, 0);
    (void)close(connection->watch.fd);
    connection->watch.fd = -1;
    queue_free(&connection->queue);
}

static void finish(struct connection *connection)
{
    close_socket(connection);
    connection->finished(connection);
}

// Close so that the other side sees a reset and not an end that looks whole.
static void abort_socket(struct connection *connection)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (connection->watch.fd >= 0)
        (void)setsockopt(connection->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close_socket(connection);
}

// The socket failed: break off, and wait for the host to have heard of it; it has when it ended its direction as we did ours.
static void reset_connection(struct connection *connection)
{
    abort_socket(connection);
    if (connection->sent_eof && connection->got_eof) {
        finish(connection);
        return;
    }
    connection->sent_reset = true;
    channel_send(FRAME_RESET, connection->stream, NULL, 0);
}

// What is watched follows from credit and from what is queued; an end of both directions ends the connection.
static void update_watch(struct connection *connection)
{
    if (connection->watch.fd < 0)
        return;
    uint32_t events = 0;
    if (!connection->sent_eof && connection->credit > 0)
        events |= (uint32_t)EPOLLIN;
    if (connection->queue.length > 0)
        events |= (uint32_t)EPOLLOUT;
    if (events == 0 && connection->sent_eof && connection->got_eof)
        finish(connection);
    else
        (void)loop_watch(SET_STREAMS, &connection->watch, events);
}

static void consumed(struct connection *connection, size_t count)
{
    connection->consumed += (uint32_t)count;
    if (connection->consumed < WINDOW_PORTION)
        return;
    channel_send_window(connection->stream, FRAME_DATA, connection->consumed);
    connection->allowed += connection->consumed;
    connection->consumed = 0;
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EINTR;
}

// All of these return -1 when the socket failed.
static int end_writing(const struct connection *connection)
{
    return shutdown(connection->watch.fd, SHUT_WR) == 0 || errno == ENOTCONN ? 0 : -1;
}

static int write_some(struct connection *connection)
{
    ssize_t count = queue_write(&connection->queue, connection->watch.fd);
    if (count < 0)
        return would_block() ? 0 : -1;
    if (!connection->got_eof)
        consumed(connection, (size_t)count);
    return connection->got_eof && connection->queue.length == 0 ? end_writing(connection) : 0;
}

static int read_some(struct connection *connection)
{
    ssize_t count = channel_forward(FRAME_DATA, connection->stream, connection->watch.fd, connection->credit);
    if (count < 0)
        return would_block() ? 0 : -1;
    if (count > 0) {
        connection->credit -= (uint32_t)count;
        return 0;
    }
    connection->sent_eof = true;
    channel_send(FRAME_EOF, connection->stream, NULL, 0);
    return 0;
}

static void on_socket(struct watch *watch, uint32_t events)
{
    struct connection *connection = (struct connection *)watch;
    bool hung_up = (events & (uint32_t)(EPOLLHUP | EPOLLERR)) != 0;
    uint32_t wanted = watch->events;
    int result = 0;
    if ((wanted & (uint32_t)EPOLLOUT) != 0 && ((events & (uint32_t)EPOLLOUT) != 0 || hung_up))
        result = write_some(connection);
    if (result == 0 && (wanted & (uint32_t)EPOLLIN) != 0 && ((events & (uint32_t)EPOLLIN) != 0 || hung_up))
        result = read_some(connection);
    if (result != 0)
        reset_connection(connection);
    else
        update_watch(connection);
}

void connection_open(struct connection *connection, uint32_t stream, int fd, void (*finished)(struct connection *))
{
    *connection = (struct connection){
        .watch = {.fd = fd, .ready = on_socket},
        .stream = stream,
        .credit = INITIAL_WINDOW,
        .allowed = INITIAL_WINDOW,
        .finished = finished,
    };
    update_watch(connection);
}

static int on_data(struct connection *connection, const struct frame *frame)
{
    if (connection->got_eof || frame->length > connection->allowed)
        return error_set("DATA for stream %u after its end or beyond its window", frame->stream);
    connection->allowed -= frame->length;
    if (connection->watch.fd < 0)
        return 0;
    if (queue_add(&connection->queue, frame->payload, frame->length) != 0)
        return error_set_errno("DATA for stream %u", frame->stream);
    if (write_some(connection) != 0)
        reset_connection(connection);
    else
        update_watch(connection);
    return 0;
}

static int on_eof(struct connection *connection)
{
    if (connection->got_eof)
        return error_set("a second EOF for stream %u", connection->stream);
    connection->got_eof = true;
    if (connection->sent_reset) {
        if (connection->sent_eof)
            finish(connection);
        return 0;
    }
    if (connection->queue.length == 0 && end_writing(connection) != 0)
        reset_connection(connection);
    else
        update_watch(connection);
    return 0;
}

static int on_reset(struct connection *connection)
{
    if (!connection->sent_reset && !(connection->sent_eof && connection->got_eof))
        channel_send(FRAME_RESET, connection->stream, NULL, 0);
    abort_socket(connection);
    finish(connection);
    return 0;
}

static int on_window(struct connection *connection, const struct frame *frame)
{
    struct reader reader = {.at = frame->payload, .left = frame->length};
    uint64_t flow = get_number(&reader, 1);
    uint32_t credit = (uint32_t)get_number(&reader, 4);
    if (flow != FRAME_DATA || credit == 0 || credit > INITIAL_WINDOW - connection->credit)
        return error_set("a window of %u for stream %u", credit, frame->stream);
    connection->credit += credit;
    update_watch(connection);
    return 0;
}

int connection_frame(struct connection *connection, const struct frame *frame)
{
    switch (frame->type) {
    case FRAME_DATA:
        return on_data(connection, frame);
    case FRAME_EOF:
        return on_eof(connection);
    case FRAME_RESET:
        return on_reset(connection);
    default:
        return on_window(connection, frame);
    }
}

void connection_drop(struct connection *connection)
{
    abort_socket(connection);
    finish(connection);
}
