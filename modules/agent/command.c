// One command: its pipes and their credit, its signals, its time limit and its end.
#include "command.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bytes.h"
#include "channel.h"
#include "fault.h"
#include "sessions.h"
#include "spawn.h"

static void close_watch(struct watch *watch)
{
    if (watch->fd < 0)
        return;
    (void)loop_watch(SET_STREAMS, watch, 0);
    (void)close(watch->fd);
    watch->fd = -1;
}

void send_exit(uint32_t stream, enum end end, enum step step, uint32_t code)
{
    uint8_t payload[8] = {(uint8_t)end, (uint8_t)step};
    put_number(payload + 4, 4, code);
    channel_send(FRAME_EXIT, stream, payload, sizeof payload);
}

static void close_all(struct command *command)
{
    struct watch *watches[] = {&command->input, &command->report, &command->output[0].watch, &command->output[1].watch};
    for (size_t i = 0; i < sizeof watches / sizeof *watches; i++)
        close_watch(watches[i]);
    queue_free(&command->queue);
    timer_clear(&command->timer);
}

static void report_end(struct command *command)
{
    if (command->failed)
        send_exit(command->stream, END_NOT_STARTED, (enum step)command->failure.step, (uint32_t)command->failure.number);
    else if (command->timed_out)
        send_exit(command->stream, END_TIMED_OUT, STEP_NONE, 0);
    else if (WIFSIGNALED(command->status))
        send_exit(command->stream, END_SIGNALED, STEP_NONE, (uint32_t)WTERMSIG(command->status));
    else
        send_exit(command->stream, END_EXITED, STEP_NONE, (uint32_t)WEXITSTATUS(command->status));
}

// When the main process is gone and its last output is on its way, so is the command.
static void settle(struct command *command)
{
    bool silent = command->output[0].watch.fd < 0 && command->output[1].watch.fd < 0;
    if (!command->reaped || command->report.fd >= 0 || !silent)
        return;
    report_end(command);
    close_all(command);
    command->finished(command);
}

// Watch an output pipe while the host has room for its bytes.
static void settle_lane(struct lane *lane)
{
    if (lane->watch.fd < 0)
        return;
    if (lane->last_bytes && lane->left == 0)
        close_watch(&lane->watch);
    else
        (void)loop_watch(SET_STREAMS, &lane->watch, lane->credit > 0 ? (uint32_t)EPOLLIN : 0);
}

static void read_output(struct lane *lane)
{
    size_t limit = lane->credit;
    if (lane->last_bytes && lane->left < limit)
        limit = lane->left;
    ssize_t count = channel_forward(lane->type, lane->stream, lane->watch.fd, limit);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count <= 0) {
        close_watch(&lane->watch);
        return;
    }
    lane->credit -= (uint32_t)count;
    if (lane->last_bytes)
        lane->left -= (size_t)count;
    settle_lane(lane);
}

static void on_stdout(struct watch *watch, uint32_t events)
{
    (void)events;
    struct command *command = CONTAINER(watch, struct command, output[0].watch);
    read_output(&command->output[0]);
    settle(command);
}

static void on_stderr(struct watch *watch, uint32_t events)
{
    (void)events;
    struct command *command = CONTAINER(watch, struct command, output[1].watch);
    read_output(&command->output[1]);
    settle(command);
}

static void input_consumed(struct command *command, size_t count)
{
    command->input_consumed += (uint32_t)count;
    if (command->input_consumed < WINDOW_PORTION)
        return;
    channel_send_window(command->stream, FRAME_STDIN, command->input_consumed);
    command->input_allowed += command->input_consumed;
    command->input_consumed = 0;
}

static void settle_input(struct command *command)
{
    if (command->input.fd < 0)
        return;
    if (command->queue.length > 0)
        (void)loop_watch(SET_STREAMS, &command->input, (uint32_t)EPOLLOUT);
    else if (command->input_ends)
        close_watch(&command->input);
    else
        (void)loop_watch(SET_STREAMS, &command->input, 0);
}

// Write what is queued; a reader that left gets nothing more, and the host no more credit.
static void write_input(struct command *command)
{
    ssize_t count = queue_write(&command->queue, command->input.fd);
    if (count > 0)
        input_consumed(command, (size_t)count);
    if (count < 0 && errno != EAGAIN && errno != EINTR) {
        queue_free(&command->queue);
        close_watch(&command->input);
    }
    settle_input(command);
}

static void on_stdin(struct watch *watch, uint32_t events)
{
    (void)events;
    write_input(CONTAINER(watch, struct command, input));
}

static void deliver_signals(struct command *command)
{
    for (int number = 1; number <= 64; number++)
        if ((command->pending_signals >> (number - 1) & 1u) != 0)
            (void)kill(-command->pid, number);
    command->pending_signals = 0;
}

// The report ends without a word when the program replaced the child, or tells why it didn't.
static void on_report(struct watch *watch, uint32_t events)
{
    (void)events;
    struct command *command = CONTAINER(watch, struct command, report);
    ssize_t count = read(watch->fd, &command->failure, sizeof command->failure);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    close_watch(watch);
    command->failed = count > 0;
    if (command->failed) {
        close_watch(&command->output[0].watch);
        close_watch(&command->output[1].watch);
    } else {
        command->started = true;
        channel_send(FRAME_STARTED, command->stream, NULL, 0);
        settle_lane(&command->output[0]);
        settle_lane(&command->output[1]);
        settle_input(command);
        if (!command->reaped)
            deliver_signals(command);
    }
    settle(command);
}

static void on_timeout(struct timer *timer)
{
    struct command *command = CONTAINER(timer, struct command, timer);
    if (command->reaped)
        return;
    command->timed_out = true;
    session_kill(command->pid);
}

int command_start(struct command *command, uint32_t stream, const struct request *request)
{
    command->stream = stream;
    command->input_allowed = INITIAL_WINDOW;
    command->input = (struct watch){.fd = -1, .ready = on_stdin};
    command->report = (struct watch){.fd = -1, .ready = on_report};
    command->output[0] = (struct lane){{-1, 0, on_stdout}, FRAME_STDOUT, stream, INITIAL_WINDOW, false, 0};
    command->output[1] = (struct lane){{-1, 0, on_stderr}, FRAME_STDERR, stream, INITIAL_WINDOW, false, 0};
    command->timer.fire = on_timeout;
    struct spawned ours;
    command->pid = spawn(request, &ours);
    if (command->pid < 0) {
        send_exit(stream, END_NOT_STARTED, STEP_PREPARE, (uint32_t)errno);
        return -1;
    }
    command->input.fd = ours.input;
    command->output[0].watch.fd = ours.output;
    command->output[1].watch.fd = ours.error;
    command->report.fd = ours.report;
    (void)loop_watch(SET_STREAMS, &command->report, (uint32_t)EPOLLIN);
    if (request->timeout_ms > 0)
        timer_set(&command->timer, request->timeout_ms);
    return 0;
}

int command_stdin(struct command *command, const struct frame *frame)
{
    if (command->input_ends || frame->length > command->input_allowed)
        return fault("STDIN for stream %u after its end or beyond its window", frame->stream);
    command->input_allowed -= frame->length;
    command->input_ends = frame->length == 0;
    if (command->input.fd < 0)
        return 0;
    if (frame->length > 0 && queue_add(&command->queue, frame->payload, frame->length) != 0)
        return fault_errno("STDIN for stream %u", frame->stream);
    if (frame->length > 0)
        write_input(command);
    else
        settle_input(command);
    return 0;
}

int command_signal(struct command *command, const struct frame *frame)
{
    struct reader reader = {.at = frame->payload, .left = frame->length};
    uint32_t number = (uint32_t)get_number(&reader, 4);
    if (number == 0 || number > 64)
        return fault("there is no signal %u", number);
    command_deliver(command, number);
    return 0;
}

void command_deliver(struct command *command, uint32_t number)
{
    if (command->reaped)
        return;
    if (number == SIGKILL)
        session_kill(command->pid);
    else if (command->started) // it has a process group of its own
        (void)kill(-command->pid, (int)number);
    else
        command->pending_signals |= UINT64_C(1) << (number - 1);
}

int command_window(struct command *command, const struct frame *frame)
{
    struct reader reader = {.at = frame->payload, .left = frame->length};
    uint64_t type = get_number(&reader, 1);
    uint32_t credit = (uint32_t)get_number(&reader, 4);
    for (size_t i = 0; i < 2; i++) {
        struct lane *lane = &command->output[i];
        if (lane->type != type)
            continue;
        if (credit == 0 || credit > INITIAL_WINDOW - lane->credit)
            return fault("a window of %u for stream %u", credit, frame->stream);
        lane->credit += credit;
        if (command->started)
            settle_lane(lane);
        return 0;
    }
    return fault("a window for no lane of stream %u", frame->stream);
}

// Only what lies in the pipes now is the command's output; who else still holds them is none of it.
static void expect_last_bytes(struct lane *lane)
{
    if (lane->watch.fd < 0)
        return;
    int left = 0;
    lane->last_bytes = true;
    lane->left = ioctl(lane->watch.fd, FIONREAD, &left) == 0 && left > 0 ? (size_t)left : 0;
}

void command_ended(struct command *command, int status)
{
    command->reaped = true;
    command->status = status;
    timer_clear(&command->timer);
    close_watch(&command->input);
    queue_free(&command->queue);
    for (size_t i = 0; i < 2; i++) {
        expect_last_bytes(&command->output[i]);
        if (command->started || command->output[i].left == 0)
            settle_lane(&command->output[i]);
    }
    settle(command);
}
