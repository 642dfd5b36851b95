// What a host may ask for once a guest is ready, each by a verb of its own: the verb's bit, and how it is taken apart.
#include "verbs.h"

#include "errors.h"
#include "protocol.h"
#include "records.h"

bool parse_size(struct reader *reader, uint16_t *rows, uint16_t *columns)
{
    *rows = (uint16_t)get_number(reader, 2);
    *columns = (uint16_t)get_number(reader, 2);
    return *rows > 0 && *rows <= MAX_TERMINAL && *columns > 0 && *columns <= MAX_TERMINAL;
}

int parse_shell(const uint8_t *payload, size_t length, struct request *request)
{
    struct reader reader = {.at = payload, .left = length};
    *request = (struct request){0};
    if (!parse_size(&reader, &request->rows, &request->columns))
        return error_set("a terminal of %u rows and %u columns", request->rows, request->columns);
    return parse_command(reader, request);
}

// Out: a path. In: a path, and a name, which counts if there is a directory of that path.
static bool is_copy(const struct request *request)
{
    char **argv = request->argv;
    if (argv[1] == NULL)
        return true;
    return request->copy == COPY_IN && is_name(argv[1]) && argv[2] == NULL;
}

int parse_copy(const uint8_t *payload, size_t length, struct request *request)
{
    struct reader reader = {.at = payload, .left = length};
    *request = (struct request){0};
    uint64_t way = get_number(&reader, 1);
    uint64_t options = get_number(&reader, 1);
    uint64_t zero = get_number(&reader, 2);
    if ((way != COPY_OUT && way != COPY_IN) || (options & ~(uint64_t)COPY_REPLACES) != 0 || zero != 0)
        return error_set("unknown copy direction or option");
    request->copy = (enum copy_direction)way;
    request->replaces = options != 0;
    if (parse_command(reader, request) != 0)
        return -1;
    if (is_copy(request))
        return 0;
    free_request(request);
    return error_set("a copy without a path, or with too much");
}

// The flags that an operation knows.
static uint64_t flags_of(uint64_t operation)
{
    return operation == FILES_REMOVE ? FILES_RECURSIVE : operation == FILES_MKDIR ? FILES_PARENTS : 0;
}

static bool is_file_operation(const struct request *request)
{
    char **argv = request->argv;
    if (request->files == FILES_RENAME)
        return argv[1] != NULL && argv[1][0] != '\0' && argv[2] == NULL;
    return argv[1] == NULL;
}

int parse_files(const uint8_t *payload, size_t length, struct request *request)
{
    struct reader reader = {.at = payload, .left = length};
    *request = (struct request){0};
    uint64_t operation = get_number(&reader, 1);
    uint64_t flags = get_number(&reader, 1);
    if (operation < FILES_LIST || operation > FILES_MKDIR || (flags & ~flags_of(operation)) != 0)
        return error_set("unknown operation on files, or a flag of another one");
    request->files = (enum file_operation)operation;
    request->recursive = (flags & FILES_RECURSIVE) != 0;
    request->parents = (flags & FILES_PARENTS) != 0;
    if (parse_command(reader, request) != 0)
        return -1;
    if (is_file_operation(request))
        return 0;
    free_request(request);
    return error_set("an operation on files with too few paths, or too many");
}

static const struct verb VERBS[] = {
    {FRAME_EXEC, VERB_EXEC, parse_request},
    {FRAME_SHELL, VERB_SHELL, parse_shell},
    {FRAME_COPY, VERB_COPY, parse_copy},
    {FRAME_FILES, VERB_COPY, parse_files},
};

const struct verb *verb_of(uint8_t type)
{
    for (size_t i = 0; i < sizeof VERBS / sizeof VERBS[0]; i++)
        if (VERBS[i].type == type)
            return &VERBS[i];
    return NULL;
}
