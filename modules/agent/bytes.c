// Reads and writes big-endian integers in memory, and checks bounds while doing so.
#include "bytes.h"

#include <string.h>

const uint8_t *get_raw(struct reader *reader, size_t length)
{
    if (reader->bad || length > reader->left) {
        reader->bad = true;
        return NULL;
    }
    const uint8_t *start = reader->at;
    reader->at += length;
    reader->left -= length;
    return start;
}

uint64_t get_number(struct reader *reader, size_t width)
{
    const uint8_t *raw = get_raw(reader, width);
    uint64_t value = 0;
    if (raw != NULL)
        for (size_t i = 0; i < width; i++)
            value = value << 8 | raw[i];
    return value;
}

const uint8_t *get_string(struct reader *reader, size_t limit, size_t *length)
{
    size_t size = (size_t)get_number(reader, 4);
    if (size > limit)
        reader->bad = true;
    const uint8_t *text = get_raw(reader, size);
    if (text == NULL || memchr(text, 0, size) != NULL) {
        reader->bad = true;
        return NULL;
    }
    *length = size;
    return text;
}

void put_number(uint8_t *out, size_t width, uint64_t value)
{
    for (size_t i = width; i-- > 0; value >>= 8)
        out[i] = (uint8_t)(value & 0xff);
}
