// The byte stream to the host: bounded buffers on both sides, frames in, frames out.
#ifndef AGENT_CHANNEL_H
#define AGENT_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "frames.h"

// Called for each frame; -1 (with error_set() called) ends the channel.
typedef int (*frame_handler)(const struct frame *frame);

int channel_open(int fd, frame_handler handler);
// Whether the conversation is over, because the host left or somebody broke the protocol.
bool channel_ended(void);
void channel_end(void);
// Give what is queued to the host, then wait for it to hang up, each at most so many milliseconds.
void channel_flush(int milliseconds);
void channel_await_hangup(int milliseconds);

// Queue a small frame, which always has room; `length` at most MAX_CONTROL.
#define MAX_CONTROL 4096u
void channel_send(uint8_t type, uint32_t stream, const uint8_t *payload, size_t length);
void channel_send_window(uint32_t stream, uint8_t flow, uint32_t credit);

// Read up to `limit` bytes (at most MAX_PAYLOAD) from `fd` straight into a frame: the number of bytes, 0 at the end of
// file, -1 with errno. To be called by watches of the set of streams only, which is paused while there is no room.
ssize_t channel_forward(uint8_t type, uint32_t stream, int fd, size_t limit);
// The same for a pipe, without copying where that can be done; to be followed by channel_push().
ssize_t channel_splice(uint8_t type, uint32_t stream, int fd, size_t limit);
void channel_push(void);
bool channel_has_room(void);
// Serve no stream, whatever room there is, until this is called again.
void channel_hold_streams(bool hold);

#endif
