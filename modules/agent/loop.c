// Waits for descriptors and timers and calls what is behind them, one at a time.
#include "loop.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "errors.h"

// The second set lies in the first one, so that a single call takes all streams out of it.
static int sets[2] = {-1, -1};
static bool streams_paused = true;
static struct timer *timers;

uint64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

int loop_open(void)
{
    for (int i = 0; i < 2; i++) {
        sets[i] = epoll_create1(EPOLL_CLOEXEC);
        if (sets[i] < 0)
            return error_set_errno("epoll_create1");
    }
    return loop_pause_streams(false);
}

int loop_pause_streams(bool paused)
{
    if (paused == streams_paused)
        return 0;
    streams_paused = paused;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(sets[SET_ALWAYS], paused ? EPOLL_CTL_DEL : EPOLL_CTL_ADD, sets[SET_STREAMS], &event) != 0)
        return error_set_errno("epoll_ctl for streams");
    return 0;
}

int loop_watch(enum set set, struct watch *watch, uint32_t events)
{
    if (events == watch->events)
        return 0;
    int operation = events == 0 ? EPOLL_CTL_DEL : watch->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(sets[set], operation, watch->fd, &event) != 0)
        return error_set_errno("epoll_ctl for descriptor %d", watch->fd);
    watch->events = events;
    return 0;
}

void loop_close(enum set set, struct watch *watch)
{
    if (watch->fd < 0)
        return;
    (void)loop_watch(set, watch, 0);
    (void)close(watch->fd);
    watch->fd = -1;
}

void timer_clear(struct timer *timer)
{
    for (struct timer **link = &timers; *link != NULL; link = &(*link)->next)
        if (*link == timer) {
            *link = timer->next;
            break;
        }
    timer->armed = false;
}

void timer_set(struct timer *timer, uint64_t milliseconds)
{
    timer_clear(timer);
    uint64_t now = now_ms();
    timer->due = milliseconds > UINT64_MAX - now ? UINT64_MAX : now + milliseconds;
    timer->armed = true;
    timer->next = timers;
    timers = timer;
}

static void fire_timers(void)
{
    uint64_t now = now_ms();
    for (bool fired = true; fired;) {
        fired = false;
        for (struct timer *timer = timers; timer != NULL; timer = timer->next)
            if (timer->due <= now) {
                timer_clear(timer);
                timer->fire(timer);
                fired = true;  // the list may have changed: begin anew
                break;
            }
    }
}

static int until_next_timer(void)
{
    uint64_t first = UINT64_MAX;
    for (const struct timer *timer = timers; timer != NULL; timer = timer->next)
        if (timer->due < first)
            first = timer->due;
    uint64_t now = now_ms();
    if (first == UINT64_MAX)
        return -1;
    if (first <= now)
        return 0;
    return first - now > INT_MAX ? INT_MAX : (int)(first - now);
}

// One event at a time: a callback may free the object that a second one would belong to.
static int next_event(int set, int timeout, struct epoll_event *event)
{
    int count = epoll_wait(set, event, 1, timeout);
    if (count < 0 && errno != EINTR)
        return error_set_errno("epoll_wait");
    return count > 0 ? 1 : 0;
}

int loop_turn(void)
{
    struct epoll_event event;
    int count = next_event(sets[SET_ALWAYS], until_next_timer(), &event);
    if (count > 0 && event.data.ptr == NULL)
        count = next_event(sets[SET_STREAMS], 0, &event);
    if (count < 0)
        return -1;
    if (count > 0) {
        struct watch *watch = event.data.ptr;
        watch->ready(watch, event.events);
    }
    fire_timers();
    return 0;
}
