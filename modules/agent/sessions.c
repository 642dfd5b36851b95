// Finds the processes of a session in /proc and kills them all.
#include "sessions.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// More passes than this a process can only need that forks faster than it is killed; its machine has a time limit.
#define MAX_PASSES 64
// Of numbers with up to seven digits and a space: more than there can be commands.
#define MAX_LIST 4096

// Whether a living process belongs to the session: proc_pid_stat(5), fields 3 and 6, behind the name in parentheses.
static bool in_session(int proc, const char *name, pid_t session)
{
    char path[300];
    char stat[512];
    (void)snprintf(path, sizeof path, "%s/stat", name);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t count = read(fd, stat, sizeof stat - 1);
    (void)close(fd);
    stat[count > 0 ? count : 0] = '\0';
    const char *behind = strrchr(stat, ')');
    char state = 0;
    int parent = 0;
    int group = 0;
    int found = 0;
    if (behind == NULL || sscanf(behind + 1, " %c %d %d %d", &state, &parent, &group, &found) != 4)
        return false;
    return found == session && state != 'Z' && state != 'X';
}

static int kill_pass(pid_t session)
{
    int killed = 0;
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return 0;
    for (struct dirent *entry = readdir(proc); entry != NULL; entry = readdir(proc)) {
        char *end = NULL;
        long pid = strtol(entry->d_name, &end, 10);
        if (pid > 1 && *end == '\0' && in_session(dirfd(proc), entry->d_name, session)) {
            (void)kill((pid_t)pid, SIGKILL);
            killed++;
        }
    }
    (void)closedir(proc);
    return killed;
}

// The file is opened once: to look its name up in /proc takes longer than to read it.
bool orphans_exist(bool (*known)(pid_t pid))
{
    static int children = -1;
    char list[MAX_LIST];
    if (children < 0)
        children = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    ssize_t count = children < 0 ? -1 : pread(children, list, sizeof list - 1, 0);
    if (count < 0 || count == (ssize_t)sizeof list - 1)
        return true;
    list[count] = '\0';
    char *end = list;
    for (const char *at = list; *at != '\0'; at = end) {
        long pid = strtol(at, &end, 10);
        if (end == at)
            break;  // the space behind the last one
        if (!known((pid_t)pid))
            return true;
    }
    return false;
}

void session_kill(pid_t session)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    if (session <= 1)
        return;
    (void)kill(session, SIGKILL);  // its first process, should it not have made the session yet
    (void)kill(-session, SIGKILL);
    for (int pass = 0; pass < MAX_PASSES && kill_pass(session) > 0; pass++)
        (void)nanosleep(&pause, NULL);
}
