// One lane of output: how much the host has room for, and how much is left once the main process has ended.
#ifndef AGENT_LANE_H
#define AGENT_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"

// The end of a pipe that we read, or the master of a pseudo-terminal.
struct lane {
    struct watch watch;
    uint8_t type;
    uint32_t stream;
    uint32_t credit;
    bool is_terminal;
    // Its bytes are pages of files, which are to stay where they are.
    bool copies;
    size_t until_look;
    bool last_bytes;
    size_t left;
};

// A lane without a descriptor yet.
struct lane lane_of(uint8_t type, uint32_t stream, void (*ready)(struct watch *watch, uint32_t events));
// Watch it while the host has room for its bytes; close it when there is nothing more to come.
void lane_settle(struct lane *lane);
// Send what lies there, as far as there is room; close it at its end.
void lane_read(struct lane *lane);
// The main process has ended: only what lies there now is its output; who else still holds the other end is none of it.
void lane_expect_last_bytes(struct lane *lane);

#endif
