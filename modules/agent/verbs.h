// What a host may ask for once a guest is ready, each by a verb of its own: the verb's bit, and how it is taken apart.
#ifndef AGENT_VERBS_H
#define AGENT_VERBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "requests.h"

struct verb {
    uint8_t type;
    uint32_t bit;
    // 0, or -1 with error_set() called; on 0 the result is to be freed by free_request().
    int (*parse)(const uint8_t *payload, size_t length, struct request *request);
};

// The verb that such a frame asks by; NULL when it asks for nothing.
const struct verb *verb_of(uint8_t type);

// A command in a terminal: its size, and then as in EXEC; no arguments at all stand for the image's shell.
int parse_shell(const uint8_t *payload, size_t length, struct request *request);
// A copy: its way and options, and then as in EXEC, with a path for the arguments and perhaps a name.
int parse_copy(const uint8_t *payload, size_t length, struct request *request);
// An operation on files: which one and its flags, and then as in EXEC, with a path for the arguments, to be renamed with two.
int parse_files(const uint8_t *payload, size_t length, struct request *request);
// Rows and columns; false when a terminal can't have so many.
bool parse_size(struct reader *reader, uint16_t *rows, uint16_t *columns);

#endif
