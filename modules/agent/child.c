// What happens between clone and exec: a process of its own session without privileges, then another program.
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "copy.h"
#include "file_operations.h"
#include "pty.h"
#include "syscalls.h"
#include "tasks.h"

#define REPORT_FD 3
#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"
#define STACK_BYTES 32768
#define MAX_LAUNCHES 4

// A child that starts, from clone to exec in the agent's own memory, on a stack of its own: that costs neither a copy of
// the page tables nor of the pages that both write. It is not vfork(2): the agent does not wait for a process that has
// the workload's user already, and which the workload could stop. So both run at once, and the child writes nothing
// but its stack; not even errno, hence raw.h. The workload can't get at this memory by way of the child, since the
// agent's memory is not dumpable (PR_SET_DUMPABLE), and another user's now.
struct launch {
    _Alignas(16) uint8_t stack[STACK_BYTES];
    struct request request;
    struct child_fds fds;
    bool in_use;
};

static struct launch launches[MAX_LAUNCHES];

static _Noreturn void exit_now(int status)
{
    for (;;)
        (void)raw_syscall(SYS_exit_group, status, 0, 0, 0);
}

static _Noreturn void report_failure(int report_fd, enum step step, long failure)
{
    const struct child_report report = {(int32_t)step, (int32_t)-failure};
    long count = raw_syscall(SYS_write, report_fd, (long)&report, sizeof report, 0);
    exit_now(count == (long)sizeof report ? 127 : 126);
}

// Move four descriptors to 0…3, though they may lie there already in another order, and close all others.
static long place_fds(const struct child_fds *fds)
{
    const int from[4] = {fds->input, fds->output, fds->error, fds->report};
    long high[4];
    for (int i = 0; i < 4; i++) {
        high[i] = from[i] > REPORT_FD ? from[i] : raw_syscall(SYS_fcntl, from[i], F_DUPFD, REPORT_FD + 1, 0);
        if (high[i] < 0)
            return high[i];
    }
    for (int i = 0; i < 4; i++) {
        long result = raw_syscall(SYS_dup2, high[i], i, 0, 0);
        if (result < 0)
            return result;
    }
    long result = raw_syscall(SYS_close_range, REPORT_FD + 1, ~0u, 0, 0);
    return result != 0 ? result : raw_syscall(SYS_fcntl, REPORT_FD, F_SETFD, FD_CLOEXEC, 0);
}

// What the agent ignores or holds back; all else is at its default (confine.c).
static void default_signals(void)
{
    const uint64_t default_action[4] = {0};  // the kernel's struct: handler, flags, restorer, mask
    const uint64_t none = 0;
    (void)raw_syscall(SYS_rt_sigaction, SIGPIPE, (long)default_action, 0, sizeof none);
    (void)raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, sizeof none);
}

// The rest has been given up by the agent already (confine.c).
static long drop_privileges(const struct request *request)
{
    const struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    long result = 0;
    if (raw_syscall(SYS_geteuid, 0, 0, 0, 0) == 0) {
        result = raw_syscall(SYS_setresgid, request->gid, request->gid, request->gid, 0);
        if (result == 0)
            result = raw_syscall(SYS_setresuid, request->uid, request->uid, request->uid, 0);
    }
    return result != 0 ? result : raw_syscall(SYS_capset, (long)&header, (long)none, 0, 0);
}

static const char *search_path(char *const *envp)
{
    for (; *envp != NULL; envp++)
        if (strncmp(*envp, "PATH=", 5) == 0)
            return *envp + 5;
    return DEFAULT_PATH;
}

// One directory of a PATH, of which no program is taken from the working directory.
static long execute_in(const char *directory, size_t length, const struct request *request)
{
    char file[MAX_PATH];
    size_t name = strlen(request->argv[0]) + 1;
    if (length == 0 || directory[0] != '/' || length + 1 + name > sizeof file)
        return -ENOENT;
    memcpy(file, directory, length);
    file[length] = '/';
    memcpy(file + length + 1, request->argv[0], name);
    return raw_syscall(SYS_execve, (long)file, (long)request->argv, (long)request->envp, 0);
}

// As execvpe(3), but never by way of a shell, and with the child's own PATH.
static long execute(const struct request *request)
{
    const char *name = request->argv[0];
    if (name == NULL)
        return pty_execute_shell(request->envp);
    if (strchr(name, '/') != NULL)
        return raw_syscall(SYS_execve, (long)name, (long)request->argv, (long)request->envp, 0);
    bool denied = false;
    const char *path = search_path(request->envp);
    for (const char *end = path; end != NULL; path = end + 1) {
        end = strchr(path, ':');
        long result = execute_in(path, end == NULL ? strlen(path) : (size_t)(end - path), request);
        if (result == -EACCES)
            denied = true;
        else if (result != -ENOENT && result != -ENOTDIR)
            return result;
        if (end == NULL)
            break;
    }
    return denied ? -EACCES : -ENOENT;
}

// Copies and operations on files are the agent's own code.
static bool has_program(const struct request *request)
{
    return request->copy == COPY_NOTHING && request->files == FILES_NOTHING;
}

static _Noreturn void child_main(const struct request *request, const struct child_fds *fds)
{
    (void)raw_syscall(SYS_setsid, 0, 0, 0, 0);
    long result = tasks_join();
    if (result == 0)
        result = place_fds(fds);
    if (result != 0)
        report_failure(fds->report, STEP_PREPARE, result);
    if (fds->is_terminal && (result = pty_take()) != 0)
        report_failure(REPORT_FD, STEP_PREPARE, result);
    default_signals();
    if ((result = drop_privileges(request)) != 0)
        report_failure(REPORT_FD, STEP_IDENTITY, result);
#ifdef AGENT_TEST_MODE
    (void)raw_syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
#endif
    if ((result = raw_syscall(SYS_chdir, (long)request->directory, 0, 0, 0)) != 0)
        report_failure(REPORT_FD, STEP_DIRECTORY, result);
    if (!has_program(request)) {
        (void)raw_syscall(SYS_close, REPORT_FD, 0, 0, 0);  // without a word: it has begun
        _exit(request->copy != COPY_NOTHING ? copy(request) : operate_on_files(request));
    }
    report_failure(REPORT_FD, STEP_EXECUTE, execute(request));
}

static int launched(void *argument)
{
    const struct launch *launch = argument;
    child_main(&launch->request, &launch->fds);
}

static struct launch *free_launch(void)
{
    for (size_t i = 0; i < MAX_LAUNCHES; i++)
        if (!launches[i].in_use)
            return &launches[i];
    return NULL;
}

void child_release(struct launch *launch)
{
    if (launch != NULL)
        launch->in_use = false;
}

pid_t child_start(const struct request *request, const struct child_fds *fds, struct launch **launch)
{
    // Without a program it needs memory of its own.
    *launch = has_program(request) ? free_launch() : NULL;
    if (*launch == NULL) {
        pid_t pid = fork();
        if (pid == 0)
            child_main(request, fds);
        return pid;
    }
    (*launch)->request = *request;
    (*launch)->fds = *fds;
    pid_t pid = clone(launched, (*launch)->stack + STACK_BYTES, CLONE_VM | SIGCHLD, *launch);
    (*launch)->in_use = pid >= 0;
    if (pid < 0)
        *launch = NULL;
    return pid;
}
