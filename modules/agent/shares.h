// Takes the shares of a CONFIG apart: which file system of the host goes where; pure but for malloc.
#ifndef AGENT_SHARES_H
#define AGENT_SHARES_H

#include <stdbool.h>
#include <stddef.h>

#include "bytes.h"
#include "protocol.h"

struct share {
    char tag[MAX_SHARE_TAG + 1];
    char path[MAX_PATH + 1];
    enum share_kind kind;
    bool read_only;
};

struct shares {
    size_t count;
    struct share *list;
};

// Takes the list at `reader` apart, which becomes `bad` when there is anything wrong with it.
void shares_read(struct reader *reader, struct shares *shares);
void shares_free(struct shares *shares);

#endif
