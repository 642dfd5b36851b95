// Fed by libFuzzer: whatever a host says, in whatever order, the agent starts nothing unless it said READY, and nothing
// that is said after an end of the conversation has an effect. Nothing goes on that was frozen unless it was renewed.
// The bits of the first byte say which step of the configuration, of a FREEZE or a THAW fails; the rest is what the host says,
// all at once but for what follows the first FREEZE: that comes once commands stand, or won't.
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent_state.h"
#include "clock.h"
#include "confine.h"
#include "conversation.h"
#include "errors.h"
#include "generation.h"
#include "keeper.h"
#include "protocol.h"
#include "pty.h"
#include "sessions.h"
#include "spawn.h"
#include "streams.h"
#include "tasks.h"

#define APPLY_FAILS 1u
#define CONFINE_FAILS 2u
#define STREAMS_FAIL 4u
#define FREEZE_FAILS 8u
#define FREEZE_STALLS 16u
#define RENEWAL_FAILS 32u
#define HOST_BUFFER (1 << 22)

static uint8_t fails;
static bool configured;
static bool stands;
static bool renewed;
static int host = -1;
static int changes = -1;
static const uint8_t *rest;
static size_t rest_length;

// What stands for the machine, its processes and its connections. Each is only for a guest that is ready.
static void require_ready(void)
{
    if (!configured)
        abort();
}

static int apply(const struct config *config)
{
    (void)config;
    return (fails & APPLY_FAILS) == 0 ? 0 : error_set("the machine can't be made");
}

int confine(void)
{
    return (fails & CONFINE_FAILS) == 0 ? 0 : error_set("privileges can't be given up");
}

int streams_open(const struct config *config)
{
    (void)config;
    configured = (fails & STREAMS_FAIL) == 0;
    return configured ? 0 : error_set("a port is taken");
}

void streams_close(void)
{
    require_ready();
}

pid_t keeper_process(void)
{
    require_ready();
    return 0;
}

static void say_rest(void)
{
    if (rest == NULL)
        return;
    if (write(host, rest, rest_length) != (ssize_t)rest_length)
        abort();
    (void)shutdown(host, SHUT_WR);
    rest = NULL;
}

int tasks_freeze(void)
{
    require_ready();
    if (stands)
        abort();
    renewed = false;
    if ((fails & FREEZE_FAILS) == 0)
        return 0;
    say_rest();
    return error_set("the group can't be frozen");
}

bool tasks_frozen(void)
{
    stands = (fails & FREEZE_STALLS) == 0;
    say_rest();
    return stands;
}

int tasks_changes(void)
{
    return changes;
}

int tasks_thaw(void)
{
    if (stands && !renewed)
        abort();
    stands = false;
    return 0;
}

int keeper_renew(const struct renewal *renewal)
{
    if (!stands || renewal->time_ns > INT64_MAX || renewal->hostname[MAX_HOSTNAME] != '\0')
        abort();
    renewed = (fails & RENEWAL_FAILS) == 0;
    return renewed ? 0 : error_set("the clock can't be set");
}

static void require_renewed(void)
{
    if (!stands || !renewed)
        abort();
}

int generation_renew(void)
{
    require_renewed();
    return 0;
}

void clock_restart(uint64_t time_ns)
{
    require_renewed();
    (void)time_ns;
}

void streams_change_host(void)
{
    require_renewed();
}

int tasks_signal(int number)
{
    require_renewed();
    (void)number;
    return 0;
}

void clock_take(uint64_t time_ns)
{
    require_ready();
    if (time_ns > INT64_MAX)
        abort();
}

uint64_t tasks_oom_kills(void)
{
    require_ready();
    return 0;
}

int streams_frame(const struct frame *frame)
{
    require_ready();
    return error_set("a frame for stream %u, which is not open", frame->stream);
}

pid_t spawn(const struct request *request, struct spawned *ours)
{
    require_ready();
    if (request->directory[0] != '/')
        abort();
    *ours = (struct spawned){-1, -1, -1, -1, -1, NULL};
    errno = EAGAIN;
    return -1;
}

void child_release(struct launch *launch)
{
    if (launch != NULL)
        abort();
}

bool orphans_exist(bool (*known)(pid_t pid))
{
    (void)known;
    return false;
}

void session_kill(pid_t session)
{
    (void)session;
    abort();  // no command ever runs here
}

int pty_resize(int master, uint16_t rows, uint16_t columns)
{
    (void)master;
    (void)rows;
    (void)columns;
    return -1;
}

bool pty_has_bytes(int master)
{
    (void)master;
    return false;
}

// memcpy(3) would be looked at by the sanitizer, which forbids what lies between variables.
static void copy_words(void *to, const void *from, size_t words)
{
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
}

struct part {
    char *begin;
    const char *end;
    uint64_t *kept;
};

static struct part parts[] = {{state_data_begin, state_data_end, NULL}, {state_bss_begin, state_bss_end, NULL}};

static void restore_state(void)
{
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        struct part *part = &parts[i];
        if (part->begin >= part->end)
            abort();
        size_t words = (size_t)(part->end - part->begin) / sizeof(uint64_t);
        if (part->kept != NULL) {
            copy_words(part->begin, part->kept, words);
            continue;
        }
        part->kept = calloc(words, sizeof(uint64_t));
        if (part->kept == NULL)
            abort();
        copy_words(part->kept, part->begin, words);
    }
}

static uint32_t number_at(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

// HELLO is first, FAILED and BYE are last, and only a guest that said READY says anything else than PONG in between. Behind
// FROZEN comes THAWED or one of the last.
static void check_said(const uint8_t *said, size_t length)
{
    bool ready = false;
    bool over = false;
    bool frozen = false;
    for (size_t at = 0; length - at >= HEADER_BYTES;) {
        uint8_t type = said[at];
        if (over || (at == 0) != (type == FRAME_HELLO) || (type == FRAME_READY && ready))
            abort();
        if (type == FRAME_READY && !configured)
            abort();
        if (type == FRAME_FAILED && ready && !frozen)
            abort();
        ready = ready || type == FRAME_READY;
        over = type == FRAME_FAILED || type == FRAME_BYE;
        if (!ready && !over && type != FRAME_HELLO && type != FRAME_PONG)
            abort();
        if (!over && frozen != (type == FRAME_THAWED))
            abort();
        frozen = type == FRAME_FROZEN;
        size_t frame = HEADER_BYTES + number_at(said + at + 8);
        if (frame > length - at)
            return;  // the host hung up in the middle of it
        at += frame;
    }
}

static void hear_all(void)
{
    static uint8_t said[HOST_BUFFER];
    size_t length = 0;
    ssize_t count;
    while (length < sizeof said && (count = read(host, said + length, sizeof said - length)) > 0)
        length += (size_t)count;
    check_said(said, length);
}

// How much is said at once: all, or up to the first FREEZE with it.
static size_t first_part(const uint8_t *data, size_t length)
{
    for (size_t at = 0; length - at >= HEADER_BYTES;) {
        size_t frame = HEADER_BYTES + number_at(data + at + 8);
        if (frame > length - at)
            break;
        at += frame;
        if (data[at - frame] == FRAME_FREEZE)
            return at;
    }
    return length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    int pair[2];
    const int buffer = HOST_BUFFER;
    if (length == 0)
        return 0;
    restore_state();
    fails = data[0];
    configured = stands = renewed = false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        abort();
    host = pair[0];
    changes = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    for (size_t i = 0; i < 2; i++)
        (void)setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    size_t first = first_part(data + 1, length - 1);
    if (write(host, data + 1, first) != (ssize_t)first)
        abort();
    rest = data + 1 + first;
    rest_length = length - 1 - first;
    if (rest_length == 0)
        say_rest();
    if (conversation_begin(pair[1], apply) != 0)
        abort();
    conversation_run();
    hear_all();
    (void)close_range((unsigned)host, ~0u, 0);  // the agent closes nothing when it ends: the machine restarts
    return 0;
}
