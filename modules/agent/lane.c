// One lane of output: how much the host has room for, and how much is left once the main process has ended.
#include "lane.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "cached_pages.h"
#include "channel.h"
#include "handover.h"
#include "protocol.h"
#include "pty.h"

// As many as can be handed over at once.
#define FRAMES_AT_ONCE 7
#define PAGE_BYTES 4096u
// How many bytes tell where they came from, and after how many more that is looked at again.
#define LOOK_BYTES 262144u
#define LOOK_AGAIN_BYTES 16777216u

struct lane lane_of(uint8_t type, uint32_t stream, void (*ready)(struct watch *watch, uint32_t events))
{
    return (struct lane){.watch = {-1, 0, ready}, .type = type, .stream = stream, .credit = OUTPUT_WINDOW};
}

void lane_settle(struct lane *lane)
{
    if (lane->watch.fd < 0)
        return;
    if (lane->last_bytes && lane->left == 0)
        loop_close(SET_STREAMS, &lane->watch);
    else
        (void)loop_watch(SET_STREAMS, &lane->watch, lane->credit > 0 ? (uint32_t)EPOLLIN : 0);
}

// Send one frame; whether there may be another one.
static bool read_frame(struct lane *lane, size_t *handed)
{
    size_t limit = lane->credit;
    if (lane->last_bytes && lane->left < limit)
        limit = lane->left;
    bool copy = lane->is_terminal || lane->copies;
    ssize_t count = (copy ? channel_forward : channel_hand_over)(lane->type, lane->stream, lane->watch.fd, limit);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (count <= 0) {  // a terminal ends with EIO
        loop_close(SET_STREAMS, &lane->watch);
        return false;
    }
    *handed += copy ? 0 : (size_t)count;
    lane->credit -= (uint32_t)count;
    if (lane->last_bytes)
        lane->left = lane->is_terminal && !pty_has_bytes(lane->watch.fd) ? 0 : lane->left - (size_t)count;
    return lane->credit > 0 && (!lane->last_bytes || lane->left > 0) && channel_has_room();
}

// What sendfile(2) puts into a pipe are the pages of a file. Handed on, they are taken out of the kernel's cache, and have to be
// read and verified anew; or they can't be taken, and are copied in a slow way. Then it is better to copy them here. Whether
// the cache has become smaller costs something to know, so that is looked at now and then.
static void push(struct lane *lane, size_t handed)
{
    bool look = handed >= LOOK_BYTES && lane->until_look <= handed;
    size_t before = look ? cached_pages() : 0;
    channel_push();
    size_t after = look ? cached_pages() : 0;
    lane->copies |= handed >= LOOK_BYTES && handover_in_parts();
    lane->copies |= before > after && before - after > handed / PAGE_BYTES / 16;
    lane->until_look = look ? LOOK_AGAIN_BYTES : lane->until_look - (handed < lane->until_look ? handed : lane->until_look);
}

void lane_read(struct lane *lane)
{
    size_t handed = 0;
    for (int frames = 0; frames < FRAMES_AT_ONCE && read_frame(lane, &handed); frames++)
        ;
    push(lane, handed);
    lane_settle(lane);
}

// A pipe says how much lies in it; a terminal says only whether something does, so that what it may still say is bounded.
static size_t lying_there(const struct lane *lane)
{
    int left = 0;
    if (lane->is_terminal)
        return pty_has_bytes(lane->watch.fd) ? INITIAL_WINDOW : 0;
    return ioctl(lane->watch.fd, FIONREAD, &left) == 0 && left > 0 ? (size_t)left : 0;
}

void lane_expect_last_bytes(struct lane *lane)
{
    if (lane->watch.fd < 0)
        return;
    lane->last_bytes = true;
    lane->left = lying_there(lane);
}
