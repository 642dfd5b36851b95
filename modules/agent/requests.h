// Takes the payloads of CONFIG and EXEC apart into memory of their own; pure but for malloc.
#ifndef AGENT_REQUESTS_H
#define AGENT_REQUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bytes.h"
#include "network.h"
#include "protocol.h"
#include "secrets.h"
#include "shares.h"

enum copy_direction { COPY_NOTHING, COPY_OUT, COPY_IN };
// What FILES does with a path.
enum file_operation { FILES_NOTHING, FILES_LIST, FILES_STAT, FILES_REMOVE, FILES_RENAME, FILES_MKDIR };

// A command to run, in a terminal of this size unless it has no rows; or what is to be copied which way: the arguments are
// a path then, and perhaps a name. Or an operation on files, whose arguments are one path or two. All pointers lead into
// `memory`.
struct request {
    uint16_t rows;
    uint16_t columns;
    enum copy_direction copy;
    bool replaces;
    enum file_operation files;
    bool recursive;
    bool parents;
    uid_t uid;
    gid_t gid;
    uint64_t timeout_ms;
    char *directory;
    char **argv;
    char **envp;
    void *memory;
};

struct config {
    uint64_t time_ns;
    uint64_t scratch;
    uint8_t entropy[ENTROPY_BYTES];
    uid_t uid;
    gid_t gid;
    uint32_t verbs;
    bool reverse_dirs;
    char hostname[MAX_HOSTNAME + 1];
    size_t writable_count;
    char (*writable)[MAX_PATH + 1];
    size_t port_count;
    uint16_t ports[MAX_PORTS];
    bool has_secrets;
    struct secrets secrets;
    bool has_shares;
    struct shares shares;
    bool has_limits;
    enum tier tier;
    uint32_t tasks;
    bool has_data;
    // Where the data disk goes.
    char data[MAX_PATH + 1];
    bool has_network;
    struct network network;
    bool has_request;
    struct request request;
};

// All return 0, or -1 with error_set() called; on 0 the result is to be freed by its own function.
int parse_request(const uint8_t *payload, size_t length, struct request *request);
// What is left at `reader` as a command, into a request whose other fields are set.
int parse_command(struct reader reader, struct request *request);
int parse_config(const uint8_t *payload, size_t length, struct config *config);
void free_request(struct request *request);
void free_config(struct config *config);

#endif
