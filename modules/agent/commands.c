// The table of commands: which may start, to which one a frame or an ended child belongs.
#include "commands.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "command.h"
#include "errors.h"
#include "exit_report.h"
#include "keeper.h"
#include "protocol.h"
#include "sessions.h"
#include "verbs.h"

#define REAP_AT_ONCE 256

static struct command *commands[MAX_STREAMS];
static uint32_t last_stream;
static bool has_run;

size_t commands_running(void)
{
    size_t count = 0;
    for (size_t i = 0; i < MAX_STREAMS; i++)
        count += commands[i] != NULL;
    return count;
}

static struct command *find_stream(uint32_t stream)
{
    for (size_t i = 0; i < MAX_STREAMS; i++)
        if (commands[i] != NULL && commands[i]->stream == stream)
            return commands[i];
    return NULL;
}

static struct command *find_pid(pid_t pid)
{
    for (size_t i = 0; i < MAX_STREAMS; i++)
        if (commands[i] != NULL && commands[i]->pid == pid && !commands[i]->reaped)
            return commands[i];
    return NULL;
}

// Or the agent's own.
static bool is_main_process(pid_t pid)
{
    return pid == keeper_process() || find_pid(pid) != NULL;
}

static void remove_command(struct command *command)
{
    for (size_t i = 0; i < MAX_STREAMS; i++)
        if (commands[i] == command)
            commands[i] = NULL;
    command_release(command);
    free(command);
}

// The request becomes the command's, or is freed.
static void start(uint32_t stream, struct request *request)
{
    for (size_t i = 0; i < MAX_STREAMS; i++) {
        if (commands[i] != NULL)
            continue;
        struct command *command = calloc(1, sizeof *command);
        if (command == NULL)
            break;
        commands[i] = command;
        command->finished = remove_command;
        if (command_start(command, stream, request) != 0)
            remove_command(command);
        return;
    }
    free_request(request);
    send_exit(stream, END_REFUSED, STEP_NONE, 0, REFUSED_TOO_MANY);
}

static int on_run(const struct config *allowed)
{
    if (has_run || !allowed->has_request)
        return error_set("RUN without a command of the configuration, or twice");
    has_run = true;
    struct request request = allowed->request;
    request.memory = NULL;  // it stays the configuration's
    start(1, &request);
    return 0;
}

// Why it may not be, 0: it may.
static uint32_t refusal(const struct config *allowed, const struct verb *verb, const struct request *request)
{
    if ((allowed->verbs & verb->bit) == 0)
        return REFUSED_VERB;
    if (request->uid == 0 || request->gid == 0 || request->uid == (uid_t)-1 || request->gid == (gid_t)-1)
        return REFUSED_ROOT;
    return 0;
}

static int on_verb(const struct config *allowed, const struct verb *verb, const struct frame *frame)
{
    if (frame->stream <= last_stream || frame->stream == 1)
        return error_set("a command for stream %u after %u", frame->stream, last_stream);
    last_stream = frame->stream;
    struct request request;
    if (verb->parse(frame->payload, frame->length, &request) != 0)
        return -1;
    uint32_t why = refusal(allowed, verb, &request);
    if (why == 0) {
        start(frame->stream, &request);
        return 0;
    }
    free_request(&request);
    send_exit(frame->stream, END_REFUSED, STEP_NONE, 0, why);
    return 0;
}

int commands_frame(const struct config *allowed, const struct frame *frame)
{
    if (frame->type == FRAME_RUN)
        return on_run(allowed);
    const struct verb *verb = verb_of(frame->type);
    if (verb != NULL)
        return on_verb(allowed, verb, frame);
    struct command *command = find_stream(frame->stream);
    if (command == NULL) {
        bool known = frame->stream == 1 ? has_run : frame->stream <= last_stream;
        return known ? 0 : error_set("a frame for stream %u, which never was", frame->stream);
    }
    if (frame->type == FRAME_STDIN)
        return command_stdin(command, frame);
    if (frame->type == FRAME_SIGNAL)
        return command_signal(command, frame);
    if (frame->type == FRAME_RESIZE)
        return command_resize(command, frame);
    return command_window(command, frame);
}

static void reap(pid_t pid)
{
    struct command *command = find_pid(pid);
    // The number is ours until it is collected, so that its session can't be anybody else's meanwhile.
    if (command != NULL && orphans_exist(is_main_process))
        session_kill(command->pid);
    int status = 0;
    (void)waitpid(pid, &status, 0);
    if (command != NULL)
        command_ended(command, status);
}

bool commands_reap(void)
{
    for (int count = 0; count < REAP_AT_ONCE; count++) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0)
            return false;
        reap(info.si_pid);
    }
    return true;
}

void commands_terminate(void)
{
    for (size_t i = 0; i < MAX_STREAMS; i++)
        if (commands[i] != NULL)
            command_deliver(commands[i], SIGTERM);
}

void commands_kill(void)
{
    for (size_t i = 0; i < MAX_STREAMS; i++)
        if (commands[i] != NULL && !commands[i]->reaped)
            session_kill(commands[i]->pid);
}

bool commands_settle(void)
{
    bool settled = true;
    for (size_t i = 0; i < MAX_STREAMS; i++)
        if (commands[i] != NULL && !command_settle(commands[i]))
            settled = false;
    return settled;
}

bool commands_run_goes_on(void)
{
    return find_stream(1) != NULL;
}

void commands_change_host(void)
{
    for (size_t i = 0; i < MAX_STREAMS; i++) {
        struct command *command = commands[i];
        if (command == NULL)
            continue;
        if (command->stream == 1) {
            command_change_host(command);
            continue;
        }
        if (!command->reaped)
            session_kill(command->pid);
        command_drop(command);
        remove_command(command);
    }
    last_stream = 0;
}
