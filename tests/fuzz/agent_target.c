// Fed by libFuzzer: whatever the host says, the agent's parsers read no byte beyond it, and what they accept is whole.
// The first byte says whom the rest is for: 0 parse_frame, 1 parse_config, 2 parse_request, 3 parse_shell, 4 parse_copy,
// 5 parse_files.
#include <stdlib.h>
#include <string.h>

#include "errors.h"
#include "frames.h"
#include "records.h"
#include "requests.h"
#include "verbs.h"

#ifdef PLANTED_BUG
// Proof that the harness finds something: one byte too many is read of each frame of one kind.
static void trip(const struct frame *frame)
{
    volatile uint8_t last = frame->payload[frame->length];
    (void)last;
}
#endif

static void frames(const uint8_t *data, size_t length)
{
    while (length > 0) {
        struct frame frame;
        size_t used = 0;
        if (parse_frame(data, length, &frame, &used) != PARSE_FRAME)
            return;
        if (used > length || frame.payload + frame.length != data + used)
            abort();
#ifdef PLANTED_BUG
        if (frame.type == 18 && used == length)
            trip(&frame);
#endif
        data += used;
        length -= used;
    }
}

static void check_request(const struct request *request)
{
    if ((request->argv[0] == NULL && request->rows == 0) || request->directory[0] != '/')
        abort();
    if (request->rows > MAX_TERMINAL || request->columns > MAX_TERMINAL)
        abort();
    size_t bytes = strlen(request->directory);
    for (char **entry = request->argv; *entry != NULL; entry++)
        bytes += strlen(*entry);
    for (char **entry = request->envp; *entry != NULL; entry++)
        bytes += strlen(*entry);
    if (bytes > MAX_PAYLOAD)
        abort();
}

static void configuration(const uint8_t *data, size_t length)
{
    struct config config;
    if (parse_config(data, length, &config) != 0)
        return;
    if (config.uid == 0 || config.gid == 0 || config.port_count > MAX_PORTS || config.writable_count > MAX_WRITABLE)
        abort();
    for (size_t i = 0; i < config.writable_count; i++)
        if (config.writable[i][0] != '/' || strlen(config.writable[i]) > MAX_PATH)
            abort();
    if (config.has_network && (config.network.prefix > MOST_PREFIX || config.network.address == config.network.gateway))
        abort();
    if (config.has_request)
        check_request(&config.request);
    free_config(&config);
}

static void command(const uint8_t *data, size_t length)
{
    struct request request;
    if (parse_request(data, length, &request) != 0)
        return;
    check_request(&request);
    free_request(&request);
}

static void shell(const uint8_t *data, size_t length)
{
    struct request request;
    if (parse_shell(data, length, &request) != 0)
        return;
    if (request.rows == 0 || request.columns == 0)
        abort();
    check_request(&request);
    free_request(&request);
}

static void copying(const uint8_t *data, size_t length)
{
    struct request request;
    if (parse_copy(data, length, &request) != 0)
        return;
    if (request.copy != COPY_OUT && request.copy != COPY_IN)
        abort();
    if (request.argv[1] != NULL && (request.copy == COPY_OUT || !is_name(request.argv[1]) || request.argv[2] != NULL))
        abort();
    check_request(&request);
    free_request(&request);
}

static void files(const uint8_t *data, size_t length)
{
    struct request request;
    if (parse_files(data, length, &request) != 0)
        return;
    if (request.copy != COPY_NOTHING || request.files < FILES_LIST || request.files > FILES_MKDIR)
        abort();
    if ((request.recursive && request.files != FILES_REMOVE) || (request.parents && request.files != FILES_MKDIR))
        abort();
    if ((request.argv[1] != NULL) != (request.files == FILES_RENAME) || (request.argv[1] != NULL && request.argv[2] != NULL))
        abort();
    check_request(&request);
    free_request(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    if (length == 0)
        return 0;
    // a copy of exactly this size, so that the sanitizer sees one byte too many
    uint8_t *copy = malloc(length - 1 > 0 ? length - 1 : 1);
    if (copy == NULL)
        return 0;
    memcpy(copy, data + 1, length - 1);
    switch (data[0] % 6) {
    case 0:
        frames(copy, length - 1);
        break;
    case 1:
        configuration(copy, length - 1);
        break;
    case 2:
        command(copy, length - 1);
        break;
    case 3:
        shell(copy, length - 1);
        break;
    case 4:
        copying(copy, length - 1);
        break;
    default:
        files(copy, length - 1);
    }
    free(copy);
    return 0;
}
