// Takes the payloads of CONFIG and EXEC apart into memory of their own; pure but for malloc.
#include "requests.h"

#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "errors.h"
#include "ext4.h"

// Where the strings of one request go: each costs four bytes of length on the wire and one byte of NUL here.
struct arena {
    char *at;
};

static char *copy(struct arena *arena, const uint8_t *text, size_t length)
{
    char *start = arena->at;
    memcpy(start, text, length);
    start[length] = '\0';
    arena->at += length + 1;
    return start;
}

// How many entries the list at `reader` has; each takes at least its length on the wire.
static size_t list_count(struct reader *reader)
{
    size_t count = (size_t)get_number(reader, 4);
    if (count > reader->left / 4)
        reader->bad = true;
    return reader->bad ? 0 : count;
}

static void read_list(struct reader *reader, struct arena *arena, char **list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t length = 0;
        const uint8_t *text = get_string(reader, MAX_PAYLOAD, &length);
        list[i] = text == NULL ? NULL : copy(arena, text, length);
    }
    list[count] = NULL;
}

// A first pass over both lists, for their sizes; the second one reads them.
static size_t skip_list(struct reader *reader)
{
    size_t count = list_count(reader);
    for (size_t i = 0; i < count; i++) {
        size_t length = 0;
        (void)get_string(reader, MAX_PAYLOAD, &length);
    }
    return count;
}

static bool is_valid(const struct request *request)
{
    const char *program = request->argv[0];
    if (program == NULL ? request->rows == 0 : program[0] == '\0')
        return false;
    if (request->directory[0] != '/')
        return false;
    for (char **entry = request->envp; *entry != NULL; entry++)
        if (strchr(*entry, '=') == NULL || **entry == '=')
            return false;
    return true;
}

int parse_command(struct reader reader, struct request *request)
{
    size_t length = reader.left;
    request->uid = (uid_t)get_number(&reader, 4);
    request->gid = (gid_t)get_number(&reader, 4);
    request->timeout_ms = get_number(&reader, 8);
    size_t directory_length = 0;
    const uint8_t *directory = get_string(&reader, MAX_PATH, &directory_length);
    struct reader again = reader;
    size_t argc = skip_list(&reader);
    size_t envc = skip_list(&reader);
    if (reader.bad || reader.left != 0 || directory == NULL)
        return error_set("a command that can't be taken apart");
    size_t pointers = (argc + envc + 2) * sizeof(char *);
    char **memory = calloc(1, pointers + length);
    if (memory == NULL)
        return error_set("no memory for a command");
    struct arena arena = {(char *)memory + pointers};
    request->memory = memory;
    request->argv = memory;
    request->envp = memory + argc + 1;
    request->directory = copy(&arena, directory, directory_length);
    (void)list_count(&again);
    read_list(&again, &arena, request->argv, argc);
    (void)list_count(&again);
    read_list(&again, &arena, request->envp, envc);
    if (is_valid(request))
        return 0;
    free_request(request);
    return error_set("a command without a program, directory or well-formed environment");
}

int parse_request(const uint8_t *payload, size_t length, struct request *request)
{
    *request = (struct request){0};
    return parse_command((struct reader){.at = payload, .left = length}, request);
}

void free_request(struct request *request)
{
    free(request->memory);
    *request = (struct request){0};
}

static void read_writable(struct reader *reader, struct config *config)
{
    size_t count = list_count(reader);
    if (count > MAX_WRITABLE)
        reader->bad = true;
    if (reader->bad || count == 0)
        return;
    config->writable = calloc(count, sizeof *config->writable);
    if (config->writable == NULL) {
        reader->bad = true;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        size_t length = 0;
        const uint8_t *text = get_string(reader, MAX_PATH, &length);
        if (text == NULL || length < 2 || text[0] != '/') {
            reader->bad = true;
            return;
        }
        memcpy(config->writable[i], text, length);
    }
    config->writable_count = count;
}

static void read_ports(struct reader *reader, struct config *config)
{
    size_t count = (size_t)get_number(reader, 4);
    if (count > MAX_PORTS)
        reader->bad = true;
    for (size_t i = 0; !reader->bad && i < count; i++) {
        config->ports[i] = (uint16_t)get_number(reader, 2);
        if (config->ports[i] == 0)
            reader->bad = true;
    }
    config->port_count = reader->bad ? 0 : count;
}

static void read_limits(struct reader *reader, struct config *config)
{
    uint64_t tier = get_number(reader, 4);
    config->tasks = (uint32_t)get_number(reader, 4);
    if (tier >= TIERS || config->tasks > MAX_TASKS)
        reader->bad = true;
    else
        config->tier = (enum tier)tier;
}

static void read_data(struct reader *reader, struct config *config)
{
    size_t length = 0;
    const uint8_t *path = get_string(reader, MAX_PATH, &length);
    if (path == NULL || length < 2 || path[0] != '/')
        reader->bad = true;
    else
        memcpy(config->data, path, length);
}

static void read_fixed(struct reader *reader, struct config *config)
{
    config->time_ns = get_number(reader, 8);
    config->scratch = get_number(reader, 8);
    const uint8_t *entropy = get_raw(reader, ENTROPY_BYTES);
    if (entropy != NULL)
        memcpy(config->entropy, entropy, ENTROPY_BYTES);
    config->uid = (uid_t)get_number(reader, 4);
    config->gid = (gid_t)get_number(reader, 4);
    uint32_t options = (uint32_t)get_number(reader, 4);
    config->verbs =
        options & ~(OPTION_REVERSED | OPTION_SECRETS | OPTION_SHARES | OPTION_LIMITS | OPTION_DATA | OPTION_NETWORK);
    config->has_secrets = (options & OPTION_SECRETS) != 0;
    config->has_shares = (options & OPTION_SHARES) != 0;
    config->has_limits = (options & OPTION_LIMITS) != 0;
    config->has_data = (options & OPTION_DATA) != 0;
    config->has_network = (options & OPTION_NETWORK) != 0;
    config->reverse_dirs = (options & OPTION_REVERSED) != 0;
    size_t length = 0;
    const uint8_t *hostname = get_string(reader, MAX_HOSTNAME, &length);
    if (hostname != NULL)
        memcpy(config->hostname, hostname, length);
}

static int check_config(const struct config *config)
{
    const struct request *request = &config->request;
    if ((config->verbs & ~VERB_ALL) != 0)
        return error_set("unknown verbs 0x%x", config->verbs);
    if (config->port_count > 0 && (config->verbs & VERB_STREAM) == 0)
        return error_set("ports are to be forwarded, but the verb stream is not granted");
    if (config->writable_count > 0 && config->scratch < 4096)
        return error_set("writable paths without scratch space");
    if (config->reverse_dirs && (config->scratch < EXT4_GROUP_BYTES || config->scratch > EXT4_MOST_GROUPS * EXT4_GROUP_BYTES))
        return error_set("reversed directories need 128 MiB to 1 TiB of scratch space");
    if (config->uid == 0 || config->gid == 0 || config->uid == (uid_t)-1 || config->gid == (gid_t)-1)
        return error_set("writable paths can't belong to %u:%u", config->uid, config->gid);
    if (config->has_request && (request->uid == 0 || request->gid == 0))
        return error_set("the workload would run as root");
    return 0;
}

int parse_config(const uint8_t *payload, size_t length, struct config *config)
{
    struct reader reader = {.at = payload, .left = length};
    *config = (struct config){0};
    read_fixed(&reader, config);
    read_writable(&reader, config);
    read_ports(&reader, config);
    if (config->has_secrets)
        secrets_read(&reader, &config->secrets);
    if (config->has_shares)
        shares_read(&reader, &config->shares);
    if (config->has_limits)
        read_limits(&reader, config);
    if (config->has_data)
        read_data(&reader, config);
    if (config->has_network)
        network_read(&reader, &config->network);
    int result = reader.bad ? error_set("a configuration that can't be taken apart") : 0;
    if (result == 0 && reader.left > 0) {
        config->has_request = true;
        result = parse_request(reader.at, reader.left, &config->request);
    }
    if (result == 0)
        result = check_config(config);
    if (result != 0)
        free_config(config);
    return result;
}

void free_config(struct config *config)
{
    free_request(&config->request);
    secrets_wipe(&config->secrets);
    shares_free(&config->shares);
    free(config->writable);
    *config = (struct config){0};
}
