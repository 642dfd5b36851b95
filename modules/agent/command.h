// One command: its pipes and their credit, its signals, its time limit and its end.
#ifndef AGENT_COMMAND_H
#define AGENT_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "child.h"
#include "frames.h"
#include "loop.h"
#include "protocol.h"
#include "queue.h"
#include "requests.h"

// One of the two output pipes: how much the host has room for, and how much is left once the main process has ended.
struct lane {
    struct watch watch;
    uint8_t type;
    uint32_t stream;
    uint32_t credit;
    bool last_bytes;
    size_t left;
};

struct command {
    uint32_t stream;
    pid_t pid;
    struct watch input;
    struct watch report;
    struct lane output[2];
    struct queue queue;
    uint32_t input_allowed;
    uint32_t input_consumed;
    bool input_ends;
    bool started;
    bool failed;
    bool reaped;
    bool timed_out;
    struct child_report failure;
    int status;
    uint64_t pending_signals;
    struct timer timer;
    // Called when EXIT was sent; the command is closed and may be freed then.
    void (*finished)(struct command *command);
};

// Start it; when that fails, EXIT is sent and -1 returned.
int command_start(struct command *command, uint32_t stream, const struct request *request);

// Each takes a frame of the command's stream; -1 (with fault() told) when it breaks the protocol.
int command_stdin(struct command *command, const struct frame *frame);
int command_signal(struct command *command, const struct frame *frame);
int command_window(struct command *command, const struct frame *frame);

// Signal its process group, once it has one; 1 to 64.
void command_deliver(struct command *command, uint32_t number);

// The main process was collected.
void command_ended(struct command *command, int status);

void send_exit(uint32_t stream, enum end end, enum step step, uint32_t code);

#endif
