// Takes the shares of a CONFIG apart: which file system of the host goes where; pure but for malloc.
#include "shares.h"

#include <stdlib.h>
#include <string.h>

// A tag that is a virtio-fs device's or a disk's serial number, and no path.
static bool is_tag(const uint8_t *tag, size_t length)
{
    if (tag == NULL || length == 0 || length > MAX_SHARE_TAG)
        return false;
    for (size_t i = 0; i < length; i++)
        if ((tag[i] < 'a' || tag[i] > 'z') && (tag[i] < '0' || tag[i] > '9'))
            return false;
    return true;
}

static void read_one(struct reader *reader, struct share *share)
{
    size_t tag_length = 0;
    size_t path_length = 0;
    const uint8_t *tag = get_string(reader, MAX_SHARE_TAG, &tag_length);
    const uint8_t *path = get_string(reader, MAX_PATH, &path_length);
    uint64_t kind = get_number(reader, 1);
    uint64_t read_only = get_number(reader, 1);
    bool known = kind == SHARE_VIRTIOFS || kind == SHARE_EROFS;
    bool placed = path != NULL && path_length >= 2 && path[0] == '/';
    if (reader->bad || !is_tag(tag, tag_length) || !placed || !known || read_only > 1) {
        reader->bad = true;
        return;
    }
    memcpy(share->tag, tag, tag_length);
    memcpy(share->path, path, path_length);
    share->kind = (enum share_kind)kind;
    share->read_only = read_only == 1;
}

void shares_read(struct reader *reader, struct shares *shares)
{
    size_t count = (size_t)get_number(reader, 4);
    if (count == 0 || count > MAX_SHARES)
        reader->bad = true;
    if (reader->bad)
        return;
    shares->list = calloc(count, sizeof *shares->list);
    if (shares->list == NULL) {
        reader->bad = true;
        return;
    }
    shares->count = count;
    for (size_t i = 0; i < count && !reader->bad; i++)
        read_one(reader, &shares->list[i]);
}

void shares_free(struct shares *shares)
{
    free(shares->list);
    *shares = (struct shares){0};
}
