// Takes bytes from the host apart into frames, and refuses what the protocol does not know.
#ifndef AGENT_FRAMES_H
#define AGENT_FRAMES_H

#include <stddef.h>
#include <stdint.h>

// A frame from the host; `payload` points into the buffer that was parsed.
struct frame {
    uint8_t type;
    uint32_t stream;
    uint32_t length;
    const uint8_t *payload;
};

enum parse { PARSE_MORE, PARSE_FRAME, PARSE_BAD };

// A pure function of `length` bytes at `buffer`; on PARSE_FRAME fills `frame` and `used`, the bytes that it took.
enum parse parse_frame(const uint8_t *buffer, size_t length, struct frame *frame, size_t *used);

void put_header(uint8_t out[], uint8_t type, uint32_t stream, uint32_t length);

#endif
