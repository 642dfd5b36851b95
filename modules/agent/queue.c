// Holds bytes on their way to a slow reader, at most one window of them.
#include "queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol.h"

int queue_add(struct queue *queue, const uint8_t *data, size_t length)
{
    if (length > INITIAL_WINDOW - queue->length) {
        errno = ENOBUFS;
        return -1;
    }
    if (queue->data == NULL) {
        queue->data = malloc(INITIAL_WINDOW);
        if (queue->data == NULL)
            return -1;
    }
    if (queue->start + queue->length + length > INITIAL_WINDOW) {
        memmove(queue->data, queue->data + queue->start, queue->length);
        queue->start = 0;
    }
    memcpy(queue->data + queue->start + queue->length, data, length);
    queue->length += length;
    return 0;
}

ssize_t queue_write(struct queue *queue, int fd)
{
    ssize_t count = write(fd, queue->data + queue->start, queue->length);
    if (count > 0) {
        queue->start += (size_t)count;
        queue->length -= (size_t)count;
    }
    if (queue->length == 0)
        queue_free(queue);
    return count;
}

void queue_free(struct queue *queue)
{
    free(queue->data);
    *queue = (struct queue){0};
}
