// Takes the secrets of a CONFIG apart into memory of their own, and overwrites them there; pure but for malloc.
#include "secrets.h"

#include <stdlib.h>
#include <string.h>

// A name that can't lead out of its directory.
static bool is_plain(const uint8_t *name, size_t length)
{
    if (length == 0 || length > MAX_SECRET_NAME || name[0] == '.' || name[0] == '-')
        return false;
    for (size_t i = 0; i < length; i++) {
        bool letter = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z');
        bool digit = name[i] >= '0' && name[i] <= '9';
        if (!letter && !digit && name[i] != '.' && name[i] != '_' && name[i] != '-')
            return false;
    }
    return true;
}

static void read_one(struct reader *reader, struct secret *secret)
{
    size_t length = 0;
    const uint8_t *name = get_string(reader, MAX_SECRET_NAME, &length);
    size_t size = (size_t)get_number(reader, 4);
    if (size > MAX_SECRET)
        reader->bad = true;
    const uint8_t *value = get_raw(reader, size);
    if (name == NULL || value == NULL || !is_plain(name, length)) {
        reader->bad = true;
        return;
    }
    memcpy(secret->name, name, length);
    memcpy(secret->value, value, size);
    secret->length = size;
}

void secrets_read(struct reader *reader, struct secrets *secrets)
{
    size_t count = (size_t)get_number(reader, 4);
    if (count == 0 || count > MAX_SECRETS)
        reader->bad = true;
    if (reader->bad)
        return;
    secrets->list = calloc(count, sizeof *secrets->list);
    if (secrets->list == NULL) {
        reader->bad = true;
        return;
    }
    secrets->count = count;
    for (size_t i = 0; i < count && !reader->bad; i++)
        read_one(reader, &secrets->list[i]);
}

void secrets_wipe(struct secrets *secrets)
{
    if (secrets->list != NULL)
        explicit_bzero(secrets->list, secrets->count * sizeof *secrets->list);
    free(secrets->list);
    *secrets = (struct secrets){0};
}
