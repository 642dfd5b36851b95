// The guest's first process: boots the machine, serves the host's requests, restarts the machine when that is over.
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot.h"
#include "clock.h"
#include "conversation.h"
#include "errors.h"
#include "ext4.h"
#include "filter.h"
#include "generation.h"
#include "keeper.h"
#include "link.h"
#include "memory.h"
#include "mount_points.h"
#include "name_files.h"
#include "root.h"
#include "sysctls.h"
#include "tasks.h"

static void serve_machine(void)
{
    if (boot_prepare() != 0 || keeper_start() != 0) {
        log_error(error_text());
        return;
    }
    int port = boot_open_port();
    if (port < 0 || conversation_begin(port, root_configure) != 0) {
        log_error(error_text());
        return;
    }
    if (root_mount() != 0)
        conversation_failed();
    conversation_run();
}

// reboot(2) is denied to the agent too once it is under the filter of its commands; this file is as good, and root's
// (Documentation/admin-guide/sysrq.rst, b).
static void reset(void)
{
    int fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
    ssize_t count = fd < 0 ? -1 : write(fd, "b", 1);
    (void)count;
}

static _Noreturn void restart(void)
{
    (void)kill(-1, SIGKILL);
    sync();
    (void)reboot(RB_AUTOBOOT);
    reset();
    _exit(1);  // a kernel without that file restarts when its first process ends (panic=-1)
}

#ifdef AGENT_TEST_MODE
static const char *groups;
static const char *test_root;

static int accept_anything(const struct config *config)
{
    uint64_t available = 0;
    if (test_root != NULL)
        generation_make(test_root);
    return memory_available(&available) == 0 ? tasks_bound(config->tasks, memory_for_commands(available), groups) : -1;
}

// `agent --filter TIER >FILE`: the program that commands of that tier run under.
// `agent --format BYTES >FILE`: an empty file system, for whoever checks those.
// `agent --memory BYTES`: what commands may have of so many that are available, and what files may have of that.
static int print_memory(const char *available)
{
    uint64_t commands = memory_for_commands(strtoull(available, NULL, 10));
    return printf("%" PRIu64 " %" PRIu64 "\n", commands, memory_for_files(commands)) > 0 ? 0 : 1;
}

// `agent --network NAME ROOT <FILE`: the link set up that this network namespace has, by a network of CONFIG's, and the two
// files mounted below ROOT.
static int set_up_network(const char *hostname, const char *root)
{
    uint8_t payload[64];
    struct network network;
    ssize_t length = read(STDIN_FILENO, payload, sizeof payload);
    struct reader reader = {.at = payload, .left = length < 0 ? 0 : (size_t)length};
    network_read(&reader, &network);
    if (!reader.bad && sysctls_set_network() == 0 && link_set_up(&network) == 0 && name_files_mount(&network, hostname, root) == 0)
        return 0;
    log_error(reader.bad ? "no network" : error_text());
    return 1;
}

// `agent --clock OFFSET NOW ...`: what those readings come to, one after another.
static int print_estimates(char **words)
{
    struct clock_estimate estimate = {0};
    for (; words[0] != NULL && words[1] != NULL; words += 2) {
        (void)clock_estimate(&estimate, strtoll(words[0], NULL, 10), strtoll(words[1], NULL, 10));
        (void)printf("%" PRId64 "\n", estimate.offset);
    }
    return 0;
}

// `agent --mount-points ROOT <FILE`: the directories made below ROOT that a CONFIG's payload names.
static int make_mount_points(const char *root)
{
    static uint8_t payload[MAX_PAYLOAD];
    static struct config config;
    ssize_t length = read(STDIN_FILENO, payload, sizeof payload);
    if (length >= 0 && parse_config(payload, (size_t)length, &config) == 0 && mount_points_make(&config, root) == 0)
        return 0;
    log_error(error_text());
    return error_failure() == FAILURE_MOUNT_POINT ? 2 : 1;
}

// `agent --serve FD [GROUPS [KEEPER ROOT]]`: the conversation alone, over an inherited socket, on the machine of whoever tests
// it, with what stands for control groups in that directory, another socket to who stands for the keeper, and what stands for the
// workload's root. `agent --keep FD`: the keeper itself. `agent --keeper-filter >FILE`: the program that it runs under.
static int serve_test(char **words)
{
    const char *number = words[0];
    groups = words[1];
    if (groups != NULL && words[2] != NULL) {
        keeper_adopt(atoi(words[2]));
        test_root = words[3];
    }
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);  // as PID 1, the parent of all orphans
    if (conversation_begin(atoi(number), accept_anything) != 0) {
        log_error(error_text());
        return 1;
    }
    conversation_run();
    return 0;
}
#endif

int main(int argc, char **argv)
{
#ifdef AGENT_TEST_MODE
    if (argc >= 3 && strcmp(argv[1], "--serve") == 0)
        return serve_test(argv + 2);
    if (argc == 2 && strcmp(argv[1], "--keeper-filter") == 0)
        return keeper_write_filter(STDOUT_FILENO) == 0 ? 0 : 1;
    if (argc == 3 && strcmp(argv[1], "--keep") == 0)
        keeper_serve(atoi(argv[2]));
    if (argc == 4 && strcmp(argv[1], "--network") == 0)
        return set_up_network(argv[2], argv[3]);
    if (argc >= 3 && strcmp(argv[1], "--clock") == 0)
        return print_estimates(argv + 2);
    if (argc == 3 && strcmp(argv[1], "--mount-points") == 0)
        return make_mount_points(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--memory") == 0)
        return print_memory(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--filter") == 0)
        return filter_make((enum tier)atoi(argv[2])) == 0 && filter_write(STDOUT_FILENO) == 0 ? 0 : 1;
    if (argc == 3 && strcmp(argv[1], "--format") == 0)
        return ext4_format(STDOUT_FILENO, strtoull(argv[2], NULL, 10)) == 0 ? 0 : 1;
#endif
    (void)argc;
    (void)argv;
    if (getpid() != 1) {
        (void)fprintf(stderr, "this is the first process of a virtual machine and nothing else\n");
        return 1;
    }
    (void)umask(022);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    serve_machine();
    restart();
}
