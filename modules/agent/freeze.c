// Stops the workload at the host's word, so that the machine can be saved, and has it go on, renewed before it does.
#include "freeze.h"

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bytes.h"
#include "channel.h"
#include "clock.h"
#include "commands.h"
#include "errors.h"
#include "generation.h"
#include "keeper.h"
#include "loop.h"
#include "protocol.h"
#include "streams.h"
#include "tasks.h"

struct thaw {
    uint32_t flags;
    struct renewal renewal;
};

// SETTLING: until it is known of each command that its program runs, so that none is in the middle of its start in what is saved.
static enum { OFF, SETTLING, FREEZING, FROZEN } state;
static struct timer deadline;
static struct watch changes = {.fd = -1};
static hold_others hold;

bool freeze_is_on(void)
{
    return state != OFF;
}

static int hold_all(bool held)
{
    channel_hold_streams(held);
    return hold(held);
}

// As if nothing had been said; what can't be undone ends the conversation.
static int give_up(const char *why)
{
    char text[MAX_TEXT];
    size_t length = strnlen(why, sizeof text);
    memcpy(text, why, length);
    const bool began = state == FREEZING;
    state = OFF;
    timer_clear(&deadline);
    (void)loop_watch(SET_ALWAYS, &changes, 0);
    if (began && (tasks_thaw() != 0 || hold_all(false) != 0))
        return -1;
    channel_send(FRAME_NOT_FROZEN, 0, (const uint8_t *)text, length);
    return 0;
}

static void on_deadline(struct timer *timer)
{
    (void)timer;  // what is over by then, freeze_step() sees
}

static void on_changes(struct watch *watch, uint32_t events)
{
    uint8_t unread[4096];
    (void)events;
    while (read(watch->fd, unread, sizeof unread) > 0)
        ;
}

int freeze_start(const struct frame *frame, hold_others others)
{
    struct reader reader = {.at = frame->payload, .left = frame->length};
    hold = others;
    state = SETTLING;
    deadline.fire = on_deadline;
    timer_set(&deadline, get_number(&reader, 4));
    return 0;
}

static int begin(void)
{
    state = FREEZING;
    if (hold_all(true) != 0)
        return -1;
    if (tasks_freeze() != 0)
        return give_up(error_text());
    changes = (struct watch){.fd = tasks_changes(), .ready = on_changes};
    return loop_watch(SET_ALWAYS, &changes, (uint32_t)EPOLLIN);
}

int freeze_step(void)
{
    if (state == SETTLING && commands_settle() && begin() != 0)
        return -1;
    if (state == FREEZING && tasks_frozen()) {
        state = FROZEN;
        timer_clear(&deadline);
        (void)loop_watch(SET_ALWAYS, &changes, 0);
        channel_send(FRAME_FROZEN, 0, NULL, 0);
    }
    if ((state == SETTLING || state == FREEZING) && !deadline.armed)
        return give_up(state == SETTLING ? "a command did not start in time" : "a process did not stop in time");
    return 0;
}

static int parse_thaw(const struct frame *frame, struct thaw *thaw)
{
    struct reader reader = {.at = frame->payload, .left = frame->length};
    size_t length = 0;
    memset(thaw, 0, sizeof *thaw);
    thaw->flags = (uint32_t)get_number(&reader, 4);
    thaw->renewal.time_ns = get_number(&reader, 8);
    const uint8_t *entropy = get_raw(&reader, ENTROPY_BYTES);
    const uint8_t *hostname = get_string(&reader, MAX_HOSTNAME, &length);
    if (entropy == NULL || hostname == NULL || reader.bad || reader.left > 0)
        return error_set("a THAW of %u bytes that it isn't", frame->length);
    if ((thaw->flags & ~THAW_RENEWED) != 0 || thaw->renewal.time_ns > INT64_MAX)
        return error_set("a THAW with unknown flags or a time beyond 2^63 ns");
    memcpy(thaw->renewal.entropy, entropy, ENTROPY_BYTES);
    memcpy(thaw->renewal.hostname, hostname, length);
    return 0;
}

// All that has to be so before a process of the workload goes on.
static int renew(const struct thaw *thaw)
{
    if (keeper_renew(&thaw->renewal) != 0)
        return -1;
    clock_restart(thaw->renewal.time_ns);
    if ((thaw->flags & THAW_RENEWED) == 0)
        return 0;
    if (generation_renew() != 0)
        return -1;
    commands_change_host();
    streams_change_host();
    return tasks_signal(SIGURG);
}

int freeze_thaw(const struct frame *frame)
{
    struct thaw thaw;
    if (state != FROZEN)
        return error_set("THAW before FROZEN");
    if (parse_thaw(frame, &thaw) != 0)
        return -1;
    int renewed = renew(&thaw);
    explicit_bzero(&thaw, sizeof thaw);
    if (renewed != 0)
        return 0;
    uint8_t payload[4];
    put_number(payload, sizeof payload, commands_run_goes_on() ? THAWED_RUNS : 0);
    channel_send(FRAME_THAWED, 0, payload, sizeof payload);
    state = OFF;
    return tasks_thaw() != 0 || hold_all(false) != 0 ? -1 : 1;
}
