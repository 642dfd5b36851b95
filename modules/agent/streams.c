// Listens on granted loopback ports and carries each connection to the host as a stream.
#include "streams.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "channel.h"
#include "connection.h"
#include "errors.h"
#include "loop.h"
#include "protocol.h"

#define BACKLOG 128

struct listener {
    struct watch watch;
    uint16_t port;
};

static struct listener listeners[MAX_PORTS];
static size_t listener_count;
static struct connection *connections[MAX_STREAMS];
static uint32_t last_stream;

static struct connection **free_slot(void)
{
    for (size_t i = 0; i < MAX_STREAMS; i++)
        if (connections[i] == NULL)
            return &connections[i];
    return NULL;
}

// While all places are taken, connections wait in the kernel.
static void update_watches(void)
{
    uint32_t events = free_slot() == NULL ? 0 : (uint32_t)EPOLLIN;
    for (size_t i = 0; i < listener_count; i++)
        if (listeners[i].watch.fd >= 0)
            (void)loop_watch(SET_STREAMS, &listeners[i].watch, events);
}

static void remove_connection(struct connection *connection)
{
    for (size_t i = 0; i < MAX_STREAMS; i++)
        if (connections[i] == connection)
            connections[i] = NULL;
    free(connection);
    update_watches();
}

static void on_connection(struct watch *watch, uint32_t events)
{
    (void)events;
    const struct listener *listener = (const struct listener *)watch;
    struct connection **slot = free_slot();
    int fd = slot == NULL ? -1 : accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) {
        (void)close(fd);
        return;
    }
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    last_stream += 2;
    *slot = connection;
    uint8_t payload[2];
    put_number(payload, 2, listener->port);
    channel_send(FRAME_OPEN, last_stream, payload, sizeof payload);
    connection_open(connection, last_stream, fd, remove_connection);
    update_watches();
}

static int listen_on(struct listener *listener, uint16_t port)
{
    *listener = (struct listener){{-1, 0, on_connection}, port};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set_errno("socket for port %u", port);
    listener->watch.fd = fd;
    listener_count++;
    const int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        return error_set_errno("SO_REUSEADDR for port %u", port);
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 || listen(fd, BACKLOG) != 0)
        return error_set_errno("can't listen on 127.0.0.1:%u", port);
    return 0;
}

int streams_open(const struct config *config)
{
    for (size_t i = 0; i < config->port_count; i++)
        if (listen_on(&listeners[i], config->ports[i]) != 0)
            return -1;
    update_watches();
    return 0;
}

void streams_close(void)
{
    for (size_t i = 0; i < listener_count; i++) {
        struct watch *watch = &listeners[i].watch;
        if (watch->fd < 0)
            continue;
        (void)loop_watch(SET_STREAMS, watch, 0);
        (void)close(watch->fd);
        watch->fd = -1;
    }
}

int streams_frame(const struct frame *frame)
{
    for (size_t i = 0; i < MAX_STREAMS; i++)
        if (connections[i] != NULL && connections[i]->stream == frame->stream)
            return connection_frame(connections[i], frame);
    bool late = frame->type == FRAME_WINDOW || frame->type == FRAME_RESET;
    if (late && frame->stream <= last_stream)
        return 0;
    return error_set("a frame for stream %u, which is not open", frame->stream);
}

void streams_change_host(void)
{
    for (size_t i = 0; i < MAX_STREAMS; i++)
        if (connections[i] != NULL)
            connection_drop(connections[i]);
    last_stream = 0;
}
