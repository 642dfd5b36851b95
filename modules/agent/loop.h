// Waits for descriptors and timers and calls what is behind them, one at a time.
#ifndef AGENT_LOOP_H
#define AGENT_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What a watch or a timer is a member of, when it calls.
#define CONTAINER(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

// A descriptor in one of two sets: the channel and signals are always served, streams only while the host keeps up.
struct watch {
    int fd;
    uint32_t events;
    void (*ready)(struct watch *watch, uint32_t events);
};

struct timer {
    uint64_t due;
    void (*fire)(struct timer *timer);
    struct timer *next;
    bool armed;
};

enum set { SET_ALWAYS, SET_STREAMS };

// All return 0, or -1 with error_set() called.
int loop_open(void);
// Wait for these epoll events; none of them: forget the descriptor, which is to be done before it is closed.
int loop_watch(enum set set, struct watch *watch, uint32_t events);
// Forget the descriptor and close it, if there is one.
void loop_close(enum set set, struct watch *watch);
// Serve streams or not.
int loop_pause_streams(bool paused);
int loop_turn(void);

void timer_set(struct timer *timer, uint64_t milliseconds);
void timer_clear(struct timer *timer);
// Milliseconds since boot.
uint64_t now_ms(void);

#endif
