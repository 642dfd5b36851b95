// One command: its pipes, or its terminal, and their credit, its signals, its time limit and its end.
#ifndef AGENT_COMMAND_H
#define AGENT_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "child.h"
#include "frames.h"
#include "loop.h"
#include "output_stream.h"
#include "protocol.h"
#include "queue.h"
#include "requests.h"

struct command {
    uint32_t stream;
    pid_t pid;
    // Both until the child needs them no more.
    struct request request;
    struct launch *launch;
    struct watch input;
    struct watch report;
    // The other end of its terminal, held until it has ended so that the terminal lives as long.
    struct watch terminal;
    struct output_stream output[2];
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
    // tasks_oom_kills() when it started.
    uint64_t oom_kills;
    uint64_t pending_signals;
    struct timer timer;
    struct timer report_delay;
    // Called when EXIT was sent; the command is closed and may be freed then.
    void (*finished)(struct command *command);
};

// Start it; when that fails, EXIT is sent and -1 returned. The request becomes the command's.
int command_start(struct command *command, uint32_t stream, const struct request *request);

// Give back what its start needed, once it has executed its program or was collected; may be called again.
void command_release(struct command *command);

// Each takes a frame of the command's stream; -1 (with error_set() called) when it breaks the protocol.
int command_stdin(struct command *command, const struct frame *frame);
int command_signal(struct command *command, const struct frame *frame);
int command_window(struct command *command, const struct frame *frame);
int command_resize(struct command *command, const struct frame *frame);

// Signal its process group, once it has one; 1 to 64.
void command_deliver(struct command *command, uint32_t number);

// The main process was collected.
void command_ended(struct command *command, int status);

// Whether it is known that its program runs; if not, it is told of without delay. Not one that failed to start: it ends by itself.
bool command_settle(struct command *command);
// Close all that it has, and say nothing of it.
void command_drop(struct command *command);
// Another host speaks from here on: its outputs have their first credit again, and what input is queued is the last.
void command_change_host(struct command *command);

#endif
