// One command: its pipes, or its terminal, and their credit, its signals, its time limit and its end.
#include "command.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bytes.h"
#include "channel.h"
#include "errors.h"
#include "exit_report.h"
#include "pty.h"
#include "sessions.h"
#include "spawn.h"
#include "tasks.h"
#include "verbs.h"

// So long a program may run before the host hears of it, unless it says something or ends. To hear of it at once would take
// the processor from it in the middle of its start, which a short command would pay for more than for anything else.
#define REPORT_DELAY_MS 20

void command_release(struct command *command)
{
    child_release(command->launch);
    command->launch = NULL;
    free_request(&command->request);
}

static void close_all(struct command *command)
{
    struct watch *watches[] = {
        &command->input, &command->report, &command->terminal, &command->output[0].watch, &command->output[1].watch,
    };
    for (size_t i = 0; i < sizeof watches / sizeof *watches; i++)
        loop_close(SET_STREAMS, watches[i]);
    queue_free(&command->queue);
    timer_clear(&command->timer);
    timer_clear(&command->report_delay);
}

// Of a command that was collected, or was never a program.
static void send_end(const struct command *command)
{
    const uint32_t stream = command->stream;
    if (command->failed) {
        send_exit(stream, END_NOT_STARTED, (enum step)command->failure.step, 0, (uint32_t)command->failure.number);
        return;
    }
    const bool succeeded = command->status == 0 && !command->timed_out;
    const uint16_t flags = !succeeded && tasks_oom_kills() > command->oom_kills ? EXIT_OUT_OF_MEMORY : 0;
    if (command->timed_out)
        send_exit(stream, END_TIMED_OUT, STEP_NONE, flags, 0);
    else if (WIFSIGNALED(command->status))
        send_exit(stream, END_SIGNALED, STEP_NONE, flags, (uint32_t)WTERMSIG(command->status));
    else
        send_exit(stream, END_EXITED, STEP_NONE, flags, (uint32_t)WEXITSTATUS(command->status));
}

// When the main process is gone and its last output is on its way, so is the command.
static void finish_if_done(struct command *command)
{
    bool silent = command->output[0].watch.fd < 0 && command->output[1].watch.fd < 0;
    if (!command->reaped || command->report.fd >= 0 || !silent)
        return;
    send_end(command);
    close_all(command);
    command->finished(command);
}

static void input_consumed(struct command *command, size_t count)
{
    command->input_consumed += (uint32_t)count;
    if (command->input_ends || command->input_consumed < WINDOW_PORTION)
        return;
    channel_send_window(command->stream, FRAME_STDIN, command->input_consumed);
    command->input_allowed += command->input_consumed;
    command->input_consumed = 0;
}

static void update_input_watch(struct command *command)
{
    if (command->input.fd < 0)
        return;
    if (command->queue.length > 0)
        (void)loop_watch(SET_STREAMS, &command->input, (uint32_t)EPOLLOUT);
    else if (command->input_ends)
        loop_close(SET_STREAMS, &command->input);
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
        loop_close(SET_STREAMS, &command->input);
    }
    update_input_watch(command);
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

// The report ends without a word when the program replaced the child, or tells why it didn't. While it does neither, it
// is watched, and the output waits.
static void read_report(struct command *command)
{
    if (command->report.fd < 0)
        return;
    ssize_t count = read(command->report.fd, &command->failure, sizeof command->failure);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        (void)loop_watch(SET_STREAMS, &command->report, (uint32_t)EPOLLIN);
        for (size_t i = 0; i < 2; i++)
            (void)loop_watch(SET_STREAMS, &command->output[i].watch, 0);
        return;
    }
    timer_clear(&command->report_delay);
    loop_close(SET_STREAMS, &command->report);
    command->failed = count > 0;
    if (command->failed) {
        loop_close(SET_STREAMS, &command->output[0].watch);
        loop_close(SET_STREAMS, &command->output[1].watch);
        return;
    }
    command->started = true;
    command_release(command);
    channel_send(FRAME_STARTED, command->stream, NULL, 0);
    output_stream_update_watch(&command->output[0]);
    output_stream_update_watch(&command->output[1]);
    update_input_watch(command);
    if (!command->reaped)
        deliver_signals(command);
}

static void on_report(struct watch *watch, uint32_t events)
{
    (void)events;
    struct command *command = CONTAINER(watch, struct command, report);
    read_report(command);
    finish_if_done(command);
}

static void on_report_delay(struct timer *timer)
{
    struct command *command = CONTAINER(timer, struct command, report_delay);
    (void)loop_watch(SET_STREAMS, &command->report, (uint32_t)EPOLLIN);
}

static void on_output(struct command *command, struct output_stream *output)
{
    read_report(command);
    if (command->started && output->watch.fd >= 0)
        output_stream_read(output);
    finish_if_done(command);
}

static void on_stdout(struct watch *watch, uint32_t events)
{
    (void)events;
    struct command *command = CONTAINER(watch, struct command, output[0].watch);
    on_output(command, &command->output[0]);
}

static void on_stderr(struct watch *watch, uint32_t events)
{
    (void)events;
    struct command *command = CONTAINER(watch, struct command, output[1].watch);
    on_output(command, &command->output[1]);
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
    command->request = *request;
    command->input_allowed = INITIAL_WINDOW;
    command->input = (struct watch){.fd = -1, .ready = on_stdin};
    command->report = (struct watch){.fd = -1, .ready = on_report};
    command->terminal = (struct watch){.fd = -1};
    command->output[0] = output_stream_new(FRAME_STDOUT, stream, on_stdout);
    command->output[1] = output_stream_new(FRAME_STDERR, stream, on_stderr);
    command->timer.fire = on_timeout;
    command->report_delay.fire = on_report_delay;
    command->oom_kills = tasks_oom_kills();
    struct spawned ours;
    command->pid = spawn(request, &ours);
    if (command->pid < 0) {
        send_exit(stream, END_NOT_STARTED, STEP_PREPARE, 0, (uint32_t)errno);
        return -1;
    }
    command->launch = ours.launch;
    command->input.fd = ours.input;
    command->terminal.fd = ours.terminal;
    command->output[0].is_terminal = ours.terminal >= 0;
    command->output[0].watch.fd = ours.output;
    command->output[1].watch.fd = ours.error;
    command->report.fd = ours.report;
    timer_set(&command->report_delay, REPORT_DELAY_MS);
    output_stream_update_watch(&command->output[0]);
    output_stream_update_watch(&command->output[1]);
    if (request->timeout_ms > 0)
        timer_set(&command->timer, request->timeout_ms);
    return 0;
}

int command_stdin(struct command *command, const struct frame *frame)
{
    if (command->input_ends || frame->length > command->input_allowed)
        return error_set("STDIN for stream %u after its end or beyond its window", frame->stream);
    command->input_allowed -= frame->length;
    command->input_ends = frame->length == 0;
    if (command->input.fd < 0)
        return 0;
    if (frame->length > 0 && queue_add(&command->queue, frame->payload, frame->length) != 0)
        return error_set_errno("STDIN for stream %u", frame->stream);
    if (frame->length > 0)
        write_input(command);
    else
        update_input_watch(command);
    return 0;
}

int command_signal(struct command *command, const struct frame *frame)
{
    struct reader reader = {.at = frame->payload, .left = frame->length};
    uint32_t number = (uint32_t)get_number(&reader, 4);
    if (number == 0 || number > 64)
        return error_set("there is no signal %u", number);
    command_deliver(command, number);
    return 0;
}

void command_deliver(struct command *command, uint32_t number)
{
    if (command->reaped)
        return;
    if (number != SIGKILL)
        read_report(command);
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
        struct output_stream *output = &command->output[i];
        if (output->type != type)
            continue;
        if (credit == 0 || credit > OUTPUT_WINDOW - output->credit)
            return error_set("a window of %u for stream %u", credit, frame->stream);
        output->credit += credit;
        if (command->started)
            output_stream_update_watch(output);
        return 0;
    }
    return error_set("a window for no flow of stream %u", frame->stream);
}

int command_resize(struct command *command, const struct frame *frame)
{
    struct reader reader = {.at = frame->payload, .left = frame->length};
    uint16_t rows = 0;
    uint16_t columns = 0;
    if (!parse_size(&reader, &rows, &columns) || !command->output[0].is_terminal)
        return error_set("%u rows and %u columns for stream %u", rows, columns, frame->stream);
    if (command->output[0].watch.fd >= 0)
        (void)pty_resize(command->output[0].watch.fd, rows, columns);
    return 0;
}

void command_ended(struct command *command, int status)
{
    command->reaped = true;
    command->status = status;
    timer_clear(&command->timer);
    loop_close(SET_STREAMS, &command->input);
    loop_close(SET_STREAMS, &command->terminal);
    queue_free(&command->queue);
    for (size_t i = 0; i < 2; i++)
        output_stream_expect_last_bytes(&command->output[i]);
    read_report(command);
    for (size_t i = 0; i < 2; i++)
        if (command->started || command->output[i].left == 0)
            output_stream_update_watch(&command->output[i]);
    finish_if_done(command);
}

bool command_settle(struct command *command)
{
    timer_clear(&command->report_delay);
    if (command->report.fd >= 0)
        (void)loop_watch(SET_STREAMS, &command->report, (uint32_t)EPOLLIN);
    return command->report.fd < 0 && !command->failed;
}

void command_drop(struct command *command)
{
    close_all(command);
}

void command_change_host(struct command *command)
{
    command->input_ends = true;
    update_input_watch(command);
    for (size_t i = 0; i < 2; i++) {
        command->output[i].credit = OUTPUT_WINDOW;
        output_stream_update_watch(&command->output[i]);
    }
}
