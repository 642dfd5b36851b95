// Opens a disk through dm-verity by ioctl, from the words of the kernel command line.
#include "verity.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dm-ioctl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "errors.h"

#define PARAMETER "mvm.verity="
#define BLOCK 4096u
#define SECTOR 512u
#define TABLE_BYTES 2048u

static bool take_hex(const char **at, char *out, size_t least, size_t most)
{
    size_t length = strspn(*at, "0123456789abcdef");
    if (length < least || length > most || length % 2 != 0 || (*at)[length] != ':')
        return false;
    memcpy(out, *at, length);
    out[length] = '\0';
    *at += length + 1;
    return true;
}

static bool take_number(const char **at, const char *ends, uint64_t *value)
{
    size_t length = strspn(*at, "0123456789");
    char end = (*at)[length];
    if (length == 0 || length > 15 || (end != '\0' && strchr(ends, end) == NULL) || (end == '\0' && *ends == ':'))
        return false;
    *value = strtoull(*at, NULL, 10);
    *at += length + (end != '\0');
    return *value > 0;
}

static const char *find_parameter(const char *command_line)
{
    const char *found = NULL;
    for (const char *at = command_line; (at = strstr(at, PARAMETER)) != NULL; at += strlen(PARAMETER)) {
        if (at != command_line && at[-1] != ' ')
            continue;
        if (found != NULL)
            return NULL;
        found = at + strlen(PARAMETER);
    }
    return found;
}

int verity_parse(const char *command_line, struct verity *verity)
{
    *verity = (struct verity){0};
    const char *at = find_parameter(command_line);
    if (at == NULL)
        return error_set("the kernel command line does not name exactly one " PARAMETER);
    bool good = take_hex(&at, verity->root, 64, 64);
    if (good && at[0] == '-' && at[1] == ':') {
        verity->salt[0] = '-';
        at += 2;
    } else {
        good = good && take_hex(&at, verity->salt, 2, 2 * VERITY_MAX_SALT);
    }
    good = good && take_number(&at, ":", &verity->data_blocks) && take_number(&at, " \n", &verity->hash_start);
    if (!good || verity->hash_start < verity->data_blocks)
        return error_set("the kernel command line's " PARAMETER " is malformed");
    return 0;
}

static int dm_call(int control, unsigned long request, const char *what, struct dm_ioctl *io, size_t size, uint32_t flags)
{
    memset(io, 0, sizeof *io);
    io->version[0] = DM_VERSION_MAJOR;
    io->data_size = (uint32_t)size;
    io->data_start = sizeof *io;
    io->flags = flags;
    (void)snprintf(io->name, sizeof io->name, "root");
    if (request == DM_TABLE_LOAD)
        io->target_count = 1;
    if (syscall(SYS_ioctl, control, request, io) != 0)  // whose number is an int in musl and unsigned in glibc
        return error_set_errno("%s for the root file system", what);
    return 0;
}

struct table {
    struct dm_ioctl io;
    struct dm_target_spec spec;
    char parameters[TABLE_BYTES];
};

// kernel: Documentation/admin-guide/device-mapper/verity.rst. A block that fails its hash ends the machine.
static int load(int control, const char *disk, const struct verity *verity)
{
    static struct table table;
    table.spec = (struct dm_target_spec){.length = verity->data_blocks * (BLOCK / SECTOR)};
    (void)snprintf(table.spec.target_type, sizeof table.spec.target_type, "verity");
    int length = snprintf(table.parameters, sizeof table.parameters,
                          "1 %s %s %u %u %" PRIu64 " %" PRIu64 " sha256 %s %s 1 panic_on_corruption", disk, disk, BLOCK,
                          BLOCK, verity->data_blocks, verity->hash_start, verity->root, verity->salt);
    if (length < 0 || (size_t)length >= sizeof table.parameters)
        return error_set("the verity table is too long");
    return dm_call(control, DM_TABLE_LOAD, "DM_TABLE_LOAD", &table.io, sizeof table, DM_READONLY_FLAG);
}

static int map(int control, const char *disk, const struct verity *verity, unsigned *minor)
{
    struct dm_ioctl io;
    if (dm_call(control, DM_DEV_CREATE, "DM_DEV_CREATE", &io, sizeof io, 0) != 0)
        return -1;
    // The low 8 and the high 12 bits of the minor number, as the kernel's huge_encode_dev() lays them out.
    *minor = (unsigned)((io.dev & 0xff) | ((io.dev >> 12) & 0xfff00));
    if (load(control, disk, verity) != 0)
        return -1;
    return dm_call(control, DM_DEV_SUSPEND, "DM_DEV_SUSPEND", &io, sizeof io, 0);  // without its flag: resume
}

int verity_open(const char *disk, const struct verity *verity, char *mapped, unsigned long size)
{
    int control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        return error_set_errno("/dev/mapper/control");
    unsigned minor = 0;
    int result = map(control, disk, verity, &minor);
    (void)close(control);
    (void)snprintf(mapped, size, "/dev/dm-%u", minor);
    return result;
}
