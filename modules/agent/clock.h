// Estimates how far the host's clock is before the guest's own.
#ifndef AGENT_CLOCK_H
#define AGENT_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

// What readings of the host's clock come to: how far it is before CLOCK_MONOTONIC, in nanoseconds. Begins with zeros.
struct clock_estimate {
    int64_t offset;
    // The greatest of the last `count` readings, none of which was greater than `offset`.
    int64_t greatest;
    unsigned count;
    // When the last reading that counts was taken.
    int64_t last;
    bool is_known;
};

// It is this time now, by the host's clock: Unix time in nanoseconds, less than 2^63. The guest's is set if need be.
void clock_take(uint64_t time_ns);
// The clock was set to this time, whatever readings before came to: the machine was stopped meanwhile.
void clock_restart(uint64_t time_ns);
// Take a reading at `now` by CLOCK_MONOTONIC, pure; whether `offset` has changed. A reading is late by as long as it was
// under way, and never early: a greater one counts at once, and smaller ones, a second apart, when there were eight, by
// the greatest of them.
bool clock_estimate(struct clock_estimate *estimate, int64_t offset, int64_t now);

#endif
