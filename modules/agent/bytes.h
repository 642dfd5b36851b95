// Reads and writes big-endian integers in memory, and checks bounds while doing so.
#ifndef AGENT_BYTES_H
#define AGENT_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A payload that is being taken apart; once `bad`, every further read gives zero.
struct reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};

uint64_t get_number(struct reader *reader, size_t width);
const uint8_t *get_raw(struct reader *reader, size_t length);
// A string with its 32-bit length in front, without NUL; NULL when it doesn't fit.
const uint8_t *get_string(struct reader *reader, size_t limit, size_t *length);

void put_number(uint8_t *out, size_t width, uint64_t value);

#endif
