// The records that a copy is made of: written to and read from descriptors that block, each bounded.
#include "records.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"

#define HEAD_BYTES 16u
#define MAX_NAME 255u

bool is_name(const char *name)
{
    size_t length = strlen(name);
    if (length == 0 || length > MAX_NAME || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    return strchr(name, '/') == NULL;
}

int record_error(const char *what, int number)
{
    char line[600];
    int length = snprintf(line, sizeof line, "%.500s%s%s\n", what, number == 0 ? "" : ": ", number == 0 ? "" : strerror(number));
    if (length > 0) {
        ssize_t count = write(STDERR_FILENO, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
        (void)count;
    }
    return -1;
}

int record_failure(const char *what, int number)
{
    (void)record_error(what, number);
    return number;
}

int bytes_put(const void *data, size_t length)
{
    const char *at = data;
    while (length > 0) {
        ssize_t count = write(STDOUT_FILENO, at, length);
        if (count < 0)  // a signal too: whoever hangs up sends one
            return record_error("nobody takes the records", errno);
        at += count;
        length -= (size_t)count;
    }
    return 0;
}

int bytes_get(void *data, size_t length)
{
    char *at = data;
    while (length > 0) {
        ssize_t count = read(STDIN_FILENO, at, length);
        if (count < 0)
            return record_error("the copy can't be read", errno);
        if (count == 0)
            return record_error("the copy was broken off", 0);
        at += count;
        length -= (size_t)count;
    }
    return 0;
}

int bytes_end(void)
{
    char more = 0;
    return read(STDIN_FILENO, &more, 1) == 0 ? 0 : record_error("something follows the end of the copy", 0);
}

int record_put(const struct record *record)
{
    uint8_t head[HEAD_BYTES];
    size_t length = strlen(record->name);
    put_number(head, 1, record->kind);
    put_number(head + 1, 1, 0);
    put_number(head + 2, 2, record->mode);
    put_number(head + 4, 4, length);
    put_number(head + 8, 8, record->size);
    return bytes_put(head, sizeof head) == 0 ? bytes_put(record->name, length) : -1;
}

static bool is_valid(const struct record *record, uint64_t zero)
{
    bool named = record->name[0] != '\0';
    bool placed = record->kind == RECORD_FILE || record->kind == RECORD_DIRECTORY;
    if (zero != 0 || record->kind < RECORD_FILE || record->kind > RECORD_END || record->kind == RECORD_LEFT_OUT)
        return false;
    if (record->mode > 0777 || (!placed && (named || record->mode != 0)) || (named && !is_name(record->name)))
        return false;
    return record->kind == RECORD_FILE ? record->size < UINT64_C(1) << 62 : record->size == 0;
}

int record_get(struct record *record)
{
    uint8_t head[HEAD_BYTES];
    if (bytes_get(head, sizeof head) != 0)
        return -1;
    struct reader reader = {.at = head, .left = sizeof head};
    *record = (struct record){.kind = (enum record_kind)get_number(&reader, 1)};
    uint64_t zero = get_number(&reader, 1);
    record->mode = (uint16_t)get_number(&reader, 2);
    size_t length = (size_t)get_number(&reader, 4);
    record->size = get_number(&reader, 8);
    if (length >= sizeof record->name)
        return record_error("a name in the copy is too long", 0);
    if (bytes_get(record->name, length) != 0)
        return -1;
    if (strlen(record->name) != length || !is_valid(record, zero))
        return record_error("the copy has a record that can't be", 0);
    return 0;
}
