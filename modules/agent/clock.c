// Estimates how far the host's clock is before the guest's own.
#include "clock.h"

#include "keeper.h"

#define WINDOW 8u

static struct clock_estimate estimated;

bool clock_estimate(struct clock_estimate *estimate, int64_t offset, int64_t now)
{
    int64_t best = offset;
    if (estimate->is_known && offset <= estimate->offset) {
        if (now - estimate->last < SECOND)
            return false;  // held up together with the one before
        if (estimate->count == 0 || offset > estimate->greatest)
            estimate->greatest = offset;
        estimate->last = now;
        estimate->count++;
        if (estimate->count < WINDOW)
            return false;
        best = estimate->greatest;
    }
    const bool has_changed = !estimate->is_known || best != estimate->offset;
    *estimate = (struct clock_estimate){.offset = best, .last = now, .is_known = true};
    return has_changed;
}

void clock_restart(uint64_t time_ns)
{
    const int64_t now = keeper_read_clock(CLOCK_MONOTONIC);
    estimated = (struct clock_estimate){.offset = (int64_t)time_ns - now, .last = now, .is_known = true};
}

void clock_take(uint64_t time_ns)
{
    const int64_t now = keeper_read_clock(CLOCK_MONOTONIC);
    if (clock_estimate(&estimated, (int64_t)time_ns - now, now))
        keeper_set_clock(estimated.offset);
}
