// Which system calls a tier of the workload's filter answers itself, row by row; data alone.
#ifndef AGENT_FILTER_TABLE_H
#define AGENT_FILTER_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

// Which calls of one number a row is about. Arguments are compared by their low half, as the kernel does for these.
enum test { ANY_CALL, ARGUMENT_IS, ARGUMENT_HAS };

// The first row that is about a call decides: `answer` is an errno, or 0, which lets it through.
struct rule {
    uint32_t number;
    uint8_t tiers;  // a bit 1 << enum tier for each that has the row
    uint8_t test;
    uint8_t argument;
    uint8_t answer;
    uint32_t value;
};

extern const struct rule filter_rules[];
extern const size_t filter_rule_count;

#endif
