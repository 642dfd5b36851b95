// Takes bytes from the host apart into frames, and refuses what the protocol does not know.
#include "frames.h"

#include <stdbool.h>

#include "bytes.h"
#include "protocol.h"

enum stream_kind { CHANNEL, FIRST, COMMAND, CONNECTION, EITHER };

struct frame_format {
    uint8_t type;
    enum stream_kind streams;
    uint32_t least;
    uint32_t most;
};

// Flags, time, entropy, and the length of the host name that follows.
#define THAW_LEAST (4u + 8u + ENTROPY_BYTES + 4u)

// All that a host may say. CONFIG, EXEC, SHELL, COPY and FILES have a length that only their own parser can judge.
static const struct frame_format FORMATS[] = {
    {FRAME_CONFIG, CHANNEL, 1, MAX_PAYLOAD},  {FRAME_RUN, FIRST, 0, 0},
    {FRAME_EXEC, COMMAND, 1, MAX_PAYLOAD},    {FRAME_STDIN, COMMAND, 0, MAX_PAYLOAD},
    {FRAME_SIGNAL, COMMAND, 4, 4},            {FRAME_DATA, CONNECTION, 1, MAX_PAYLOAD},
    {FRAME_EOF, CONNECTION, 0, 0},            {FRAME_RESET, CONNECTION, 0, 0},
    {FRAME_WINDOW, EITHER, 5, 5},             {FRAME_PING, CHANNEL, 8, 8},
    {FRAME_SHUTDOWN, CHANNEL, 4, 4},          {FRAME_RESIZE, COMMAND, 4, 4},
    {FRAME_SHELL, COMMAND, 5, MAX_PAYLOAD},   {FRAME_COPY, COMMAND, 5, MAX_PAYLOAD},
    {FRAME_TIME, CHANNEL, 8, 8},              {FRAME_FILES, COMMAND, 3, MAX_PAYLOAD},
    {FRAME_FREEZE, CHANNEL, 4, 4},            {FRAME_THAW, CHANNEL, THAW_LEAST, THAW_LEAST + MAX_HOSTNAME},
};

static bool stream_is(enum stream_kind kind, uint32_t stream)
{
    switch (kind) {
    case CHANNEL:
        return stream == 0;
    case FIRST:
        return stream == 1;
    case COMMAND:
        return stream % 2 == 1;
    case CONNECTION:
        return stream != 0 && stream % 2 == 0;
    case EITHER:
        return stream != 0;
    }
    return false;
}

static const struct frame_format *format_of(uint8_t type)
{
    for (size_t i = 0; i < sizeof FORMATS / sizeof FORMATS[0]; i++)
        if (FORMATS[i].type == type)
            return &FORMATS[i];
    return NULL;
}

enum parse parse_frame(const uint8_t *buffer, size_t length, struct frame *frame, size_t *used)
{
    if (length < HEADER_BYTES)
        return PARSE_MORE;
    struct reader reader = {.at = buffer, .left = HEADER_BYTES};
    const struct frame_format *format = format_of((uint8_t)get_number(&reader, 1));
    uint64_t zeros = get_number(&reader, 3);
    uint32_t stream = (uint32_t)get_number(&reader, 4);
    uint32_t size = (uint32_t)get_number(&reader, 4);
    if (format == NULL || zeros != 0 || size < format->least || size > format->most || !stream_is(format->streams, stream))
        return PARSE_BAD;
    if (length - HEADER_BYTES < size)
        return PARSE_MORE;
    *frame = (struct frame){format->type, stream, size, buffer + HEADER_BYTES};
    *used = HEADER_BYTES + size;
    return PARSE_FRAME;
}

void put_header(uint8_t out[], uint8_t type, uint32_t stream, uint32_t length)
{
    put_number(out, 1, type);
    put_number(out + 1, 3, 0);
    put_number(out + 4, 4, stream);
    put_number(out + 8, 4, length);
}
