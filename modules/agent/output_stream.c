// One output stream of a command: how much the host has room for, and how much is left once the main process has ended.
#include "output_stream.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "cached_pages.h"
#include "channel.h"
#include "protocol.h"
#include "pty.h"
#include "splice.h"

// As many as can be spliced at once.
#define FRAMES_AT_ONCE 7
#define PAGE_BYTES 4096u
// How many bytes tell where they came from, and after how many more that is checked again.
#define CHECK_BYTES 262144u
#define RECHECK_BYTES 16777216u

struct output_stream output_stream_new(uint8_t type, uint32_t stream, void (*ready)(struct watch *watch, uint32_t events))
{
    return (struct output_stream){.watch = {-1, 0, ready}, .type = type, .stream = stream, .credit = OUTPUT_WINDOW};
}

void output_stream_update_watch(struct output_stream *output)
{
    if (output->watch.fd < 0)
        return;
    if (output->last_bytes && output->left == 0)
        loop_close(SET_STREAMS, &output->watch);
    else
        (void)loop_watch(SET_STREAMS, &output->watch, output->credit > 0 ? (uint32_t)EPOLLIN : 0);
}

// Send one frame; whether there may be another one.
static bool read_frame(struct output_stream *output, size_t *spliced)
{
    size_t limit = output->credit;
    if (output->last_bytes && output->left < limit)
        limit = output->left;
    bool copy = output->is_terminal || output->copies;
    ssize_t count = (copy ? channel_forward : channel_splice)(output->type, output->stream, output->watch.fd, limit);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (count <= 0) {  // a terminal ends with EIO
        loop_close(SET_STREAMS, &output->watch);
        return false;
    }
    *spliced += copy ? 0 : (size_t)count;
    output->credit -= (uint32_t)count;
    if (output->last_bytes)
        output->left = output->is_terminal && !pty_has_bytes(output->watch.fd) ? 0 : output->left - (size_t)count;
    return output->credit > 0 && (!output->last_bytes || output->left > 0) && channel_has_room();
}

// What sendfile(2) puts into a pipe are the pages of a file. Handed on, they are taken out of the kernel's cache, and have to be
// read and verified anew; or they can't be taken, and are copied in a slow way. Then it is better to copy them here. Whether
// the cache has become smaller costs something to know, so that is looked at now and then.
static void push(struct output_stream *output, size_t spliced)
{
    bool check = spliced >= CHECK_BYTES && output->until_check <= spliced;
    size_t before = check ? cached_pages() : 0;
    channel_push();
    size_t after = check ? cached_pages() : 0;
    output->copies |= spliced >= CHECK_BYTES && splice_in_parts();
    output->copies |= before > after && before - after > spliced / PAGE_BYTES / 16;
    size_t counted = spliced < output->until_check ? spliced : output->until_check;
    output->until_check = check ? RECHECK_BYTES : output->until_check - counted;
}

void output_stream_read(struct output_stream *output)
{
    size_t spliced = 0;
    for (int frames = 0; frames < FRAMES_AT_ONCE && read_frame(output, &spliced); frames++)
        ;
    push(output, spliced);
    output_stream_update_watch(output);
}

// A pipe says how much lies in it; a terminal says only whether something does, so that what it may still say is bounded.
static size_t pending_bytes(const struct output_stream *output)
{
    int left = 0;
    if (output->is_terminal)
        return pty_has_bytes(output->watch.fd) ? INITIAL_WINDOW : 0;
    return ioctl(output->watch.fd, FIONREAD, &left) == 0 && left > 0 ? (size_t)left : 0;
}

void output_stream_expect_last_bytes(struct output_stream *output)
{
    if (output->watch.fd < 0)
        return;
    output->last_bytes = true;
    output->left = pending_bytes(output);
}
