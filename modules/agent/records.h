// The records that a copy is made of: written to and read from descriptors that block, each bounded.
#ifndef AGENT_RECORDS_H
#define AGENT_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum record_kind { RECORD_FILE = 1, RECORD_DIRECTORY, RECORD_LEAVE, RECORD_LEFT_OUT, RECORD_END };

// `name` is empty for what was asked for itself; `size` counts the bytes that follow a file.
struct record {
    enum record_kind kind;
    uint16_t mode;
    uint64_t size;
    char name[256];
};

// Whether it can be the name of something in a directory.
bool is_name(const char *name);
// Write a line about what went wrong, with errno's words if there is one; returns -1.
int record_error(const char *what, int number);
// The same; returns the number.
int record_failure(const char *what, int number);
// Each returns 0, or -1 when a line was written about it.
int record_put(const struct record *record);
int record_get(struct record *record);
int bytes_put(const void *data, size_t length);
int bytes_get(void *data, size_t length);
// Nothing more comes.
int bytes_end(void);

#endif
