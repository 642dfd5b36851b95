// Moves pages from a command's pipe to the port with splice(2), without copying them.
#ifndef AGENT_SPLICE_H
#define AGENT_SPLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Whether another frame can be taken: not while much waits, and never where the kernel has no pipes for it.
bool splice_has_room(void);
// Bytes that wait to be sent.
size_t splice_waiting(void);
// Take a frame of up to `limit` bytes out of the pipe `fd`: the number of its bytes, 0 at the pipe's end, -1 with errno.
ssize_t splice_take(uint8_t type, uint32_t stream, int fd, size_t limit);
// Whether the kernel took what was sent last in parts, as it does with pages that belong to a file: it copies those.
bool splice_in_parts(void);
// Send what waits, as far as the port takes it; -1 with error_set() called when the port can't be written.
int splice_send(int port);

#endif
