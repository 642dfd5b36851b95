// Holds bytes on their way to a slow reader, at most one window of them.
#ifndef AGENT_QUEUE_H
#define AGENT_QUEUE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct queue {
    uint8_t *data;
    size_t start;
    size_t length;
};

// Both return 0, or -1 with errno when there is no memory or the window would be exceeded.
int queue_add(struct queue *queue, const uint8_t *data, size_t length);
// Write what the descriptor takes now; the number of bytes, or -1 with errno.
ssize_t queue_write(struct queue *queue, int fd);
void queue_free(struct queue *queue);

#endif
