// Hands the pages that lie in a command's pipe on to the port, without copying them.
#ifndef AGENT_HANDOVER_H
#define AGENT_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Whether another frame can be taken: not while much waits, and never where the kernel has no pipes for it.
bool handover_has_room(void);
// Bytes that wait to be sent.
size_t handover_waiting(void);
// Take a frame of up to `limit` bytes out of the pipe `fd`: the number of its bytes, 0 at the pipe's end, -1 with errno.
ssize_t handover_take(uint8_t type, uint32_t stream, int fd, size_t limit);
// Whether the kernel took what was sent last in parts, as it does with pages that belong to a file: it copies those.
bool handover_in_parts(void);
// Send what waits, as far as the port takes it; -1 with fault() told when the port can't be written.
int handover_send(int port);

#endif
