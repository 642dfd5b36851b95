// The order of the conversation with the host: HELLO, CONFIG, READY, then commands and streams, also FREEZE and THAW, then
// SHUTDOWN and BYE.
#include "conversation.h"

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bytes.h"
#include "channel.h"
#include "clock.h"
#include "commands.h"
#include "confine.h"
#include "errors.h"
#include "filter.h"
#include "freeze.h"
#include "loop.h"
#include "protocol.h"
#include "secrets.h"
#include "streams.h"
#include "verbs.h"

// How long the last frames may take to the host, and how long it may take to hang up after them.
#define FLUSH_MS 2000
#define HANGUP_MS 250
// How long killed commands may take to be collected.
#define KILL_WAIT_MS 1000

// STOPPED and FAILED are ends: none of them follows the other, and no frame is handled in them.
static enum { EXPECT_CONFIG, READY, STOPPING, STOPPED, FAILED } phase;
static struct config config;
static apply_config apply;
static struct watch signals;
static struct timer grace_timer;
static struct timer collector;
static bool killed;

static void stop_if_idle(void)
{
    if (phase == STOPPING && commands_running() == 0)
        phase = STOPPED;
}

static void on_grace_end(struct timer *timer)
{
    if (killed) {
        phase = STOPPED;
        return;
    }
    killed = true;
    commands_kill();
    timer_set(timer, KILL_WAIT_MS);
}

// A workload may leave children faster than they can be collected: the host is heard in between.
static void collect(struct timer *timer)
{
    if (commands_reap())
        timer_set(timer, 0);
}

static void on_signal(struct watch *watch, uint32_t events)
{
    (void)events;
    struct signalfd_siginfo info;
    ssize_t count = read(watch->fd, &info, sizeof info);  // there is never more than one: it is not queued (signal(7))
    (void)count;
    collect(&collector);
}

static int watch_children(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return error_set_errno("sigprocmask");
    signals = (struct watch){.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), .ready = on_signal};
    if (signals.fd < 0)
        return error_set_errno("signalfd");
    return loop_watch(SET_ALWAYS, &signals, (uint32_t)EPOLLIN);
}

// While the workload stands, nothing is told of children that have ended.
static int hold_children(bool hold)
{
    if (hold)
        timer_clear(&collector);
    else
        timer_set(&collector, 0);
    return loop_watch(SET_ALWAYS, &signals, hold ? 0 : (uint32_t)EPOLLIN);
}

static int on_config(const struct frame *frame)
{
    if (parse_config(frame->payload, frame->length, &config) != 0 || filter_make(config.tier) != 0 || apply(&config) != 0 ||
        confine() != 0 || streams_open(&config) != 0) {
        conversation_failed();
        return 0;
    }
    secrets_wipe(&config.secrets);
    phase = READY;
    channel_send(FRAME_READY, 0, NULL, 0);
    return 0;
}

static int on_time(const struct frame *frame)
{
    struct reader reader = {.at = frame->payload, .left = frame->length};
    uint64_t time_ns = get_number(&reader, 8);
    if (time_ns > INT64_MAX)
        return error_set("a time beyond 2^63 ns");
    clock_take(time_ns);
    return 0;
}

static int on_shutdown(const struct frame *frame)
{
    struct reader reader = {.at = frame->payload, .left = frame->length};
    uint64_t grace_ms = get_number(&reader, 4);
    phase = STOPPING;
    streams_close();
    if (grace_ms > 0)
        commands_terminate();
    timer_set(&grace_timer, grace_ms);
    return 0;
}

static int on_stream_frame(const struct frame *frame)
{
    return frame->stream % 2 == 1 ? commands_frame(&config, frame) : streams_frame(frame);
}

// The host has no more to say then but that the workload is to go on, or that it won't: SHUTDOWN ends it as it stands.
static int on_frame_while_frozen(const struct frame *frame)
{
    if (frame->type == FRAME_SHUTDOWN) {
        phase = STOPPED;
        return 0;
    }
    if (frame->type != FRAME_THAW)
        return error_set("a frame of type %u between FREEZE and THAW", frame->type);
    int thawed = freeze_thaw(frame);
    if (thawed == 0)
        conversation_failed();
    return thawed < 0 ? -1 : 0;
}

static bool starts_command(const struct frame *frame)
{
    return frame->type == FRAME_RUN || verb_of(frame->type) != NULL;
}

static int on_frame_when_ready(const struct frame *frame)
{
    if (frame->type == FRAME_SHUTDOWN)
        return on_shutdown(frame);
    return frame->type == FRAME_FREEZE ? freeze_start(frame, hold_children) : on_stream_frame(frame);
}

// Each phase names what it handles. What the host had already sent when the conversation ended is dropped, and breaks
// nothing: what the agent said last is still on its way.
static int on_frame(const struct frame *frame)
{
    if (phase == STOPPED || phase == FAILED)
        return 0;
    if (freeze_is_on())
        return on_frame_while_frozen(frame);
    if (frame->type == FRAME_PING) {
        channel_send(FRAME_PONG, 0, frame->payload, frame->length);
        return 0;
    }
    if (phase == EXPECT_CONFIG) {
        if (frame->type == FRAME_CONFIG)
            return on_config(frame);
        if (frame->type != FRAME_SHUTDOWN)
            return error_set("a frame of type %u before CONFIG", frame->type);
        phase = STOPPED;  // nothing runs that would have to end first
        return 0;
    }
    if (frame->type == FRAME_CONFIG)
        return error_set("a second CONFIG");
    if (frame->type == FRAME_TIME)
        return on_time(frame);
    if (frame->type == FRAME_THAW)
        return error_set("THAW without FREEZE");
    if (phase == READY)
        return on_frame_when_ready(frame);
    if (frame->type == FRAME_SHUTDOWN)
        return error_set("a second SHUTDOWN");
    if (starts_command(frame) || frame->type == FRAME_FREEZE)
        return error_set("a frame of type %u after SHUTDOWN", frame->type);
    return on_stream_frame(frame);
}

static void say_hello(void)
{
    struct utsname name;
    const char *release = uname(&name) == 0 ? name.release : "";
    uint8_t payload[4 + 4 + sizeof AGENT_VERSION + 4 + sizeof name.release];
    size_t version_length = strlen(AGENT_VERSION);
    size_t release_length = strlen(release);
    uint8_t *at = payload;
    put_number(at, 4, PROTOCOL_VERSION);
    put_number(at + 4, 4, version_length);
    memcpy(at + 8, AGENT_VERSION, version_length);
    at += 8 + version_length;
    put_number(at, 4, release_length);
    memcpy(at + 4, release, release_length);
    channel_send(FRAME_HELLO, 0, payload, (size_t)(at - payload) + 4 + release_length);
}

int conversation_begin(int fd, apply_config how)
{
    apply = how;
    grace_timer.fire = on_grace_end;
    collector.fire = collect;
    if (loop_open() != 0 || watch_children() != 0 || channel_open(fd, on_frame) != 0)
        return -1;
    say_hello();
    return 0;
}

void conversation_failed(void)
{
    const char *text = error_text();
    size_t length = strlen(text);
    uint8_t payload[4 + MAX_TEXT];
    put_number(payload, 4, error_failure());
    memcpy(payload + 4, text, length);
    log_error(text);
    channel_send(FRAME_FAILED, 0, payload, 4 + length);
    phase = FAILED;
}

void conversation_run(void)
{
    while (phase < STOPPED && !channel_ended()) {
        if (loop_turn() != 0 || (phase == READY && freeze_step() != 0)) {
            log_error(error_text());
            break;
        }
        stop_if_idle();
    }
    commands_kill();
    if (phase == STOPPED)
        channel_send(FRAME_BYE, 0, NULL, 0);
    channel_flush(FLUSH_MS);
    if (phase >= STOPPED)
        channel_await_hangup(HANGUP_MS);
    free_config(&config);
}
