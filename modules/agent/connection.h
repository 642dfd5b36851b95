// One forwarded connection: its two directions, their credit, its half-closes and its breaking off.
#ifndef AGENT_CONNECTION_H
#define AGENT_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "frames.h"
#include "loop.h"
#include "queue.h"

struct connection {
    struct watch watch;
    uint32_t stream;
    uint32_t credit;
    uint32_t allowed;
    uint32_t consumed;
    struct queue queue;
    bool sent_eof;
    bool got_eof;
    bool sent_reset;
    // Called when nothing is left to do; the connection is closed and may be freed then.
    void (*finished)(struct connection *connection);
};

void connection_open(struct connection *connection, uint32_t stream, int fd, void (*finished)(struct connection *));
// A frame of this stream; -1 (with error_set() called) when it breaks the protocol.
int connection_frame(struct connection *connection, const struct frame *frame);
// Break it off towards the workload, and say nothing of it to the host.
void connection_drop(struct connection *connection);

#endif
