// One output stream of a command: how much the host has room for, and how much is left once the main process has ended.
#ifndef AGENT_OUTPUT_STREAM_H
#define AGENT_OUTPUT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"

// The end of a pipe that we read, or the master of a pseudo-terminal.
struct output_stream {
    struct watch watch;
    uint8_t type;
    uint32_t stream;
    uint32_t credit;
    bool is_terminal;
    // Its bytes are pages of files, which are to stay where they are.
    bool copies;
    size_t until_check;
    bool last_bytes;
    size_t left;
};

// An output stream without a descriptor yet.
struct output_stream output_stream_new(uint8_t type, uint32_t stream, void (*ready)(struct watch *watch, uint32_t events));
// Watch it while the host has room for its bytes; close it when there is nothing more to come.
void output_stream_update_watch(struct output_stream *output);
// Send what lies there, as far as there is room; close it at its end.
void output_stream_read(struct output_stream *output);
// The main process has ended: only what lies there now is its output; who else still holds the other end is none of it.
void output_stream_expect_last_bytes(struct output_stream *output);

#endif
