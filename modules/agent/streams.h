// Listens on granted loopback ports and carries each connection to the host as a stream.
#ifndef AGENT_STREAMS_H
#define AGENT_STREAMS_H

#include "frames.h"
#include "requests.h"

// Listen on the ports of the configuration; -1 with error_set() called.
int streams_open(const struct config *config);
// Take no more connections.
void streams_close(void);
// A frame of an even stream. Returns -1 (with error_set() called) when it breaks the protocol.
int streams_frame(const struct frame *frame);
// Another host speaks from here on, of streams of its own: break off all connections without a word to it.
void streams_change_host(void);

#endif
