// Takes the secrets of a CONFIG apart into memory of their own, and overwrites them there; pure but for malloc.
#ifndef AGENT_SECRETS_H
#define AGENT_SECRETS_H

#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "protocol.h"

struct secret {
    char name[MAX_SECRET_NAME + 1];
    uint8_t value[MAX_SECRET];
    size_t length;
};

struct secrets {
    size_t count;
    struct secret *list;
};

// Takes the list at `reader` apart, which becomes `bad` when there is anything wrong with it.
void secrets_read(struct reader *reader, struct secrets *secrets);
// Overwrite and free them.
void secrets_wipe(struct secrets *secrets);

#endif
