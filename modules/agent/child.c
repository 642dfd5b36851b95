// What happens between fork and exec: a process of its own session without privileges, then another program.
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REPORT_FD 3
#define OPEN_FILES_SOFT 1024
#define OPEN_FILES_HARD 524288
#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

static _Noreturn void give_up(int report_fd, enum step step)
{
    struct child_report report = {(int32_t)step, (int32_t)errno};
    ssize_t count = write(report_fd, &report, sizeof report);
    _exit(count == (ssize_t)sizeof report ? 127 : 126);
}

// Move four descriptors to 0…3, though they may lie there already in another order, and close all others.
static int place(const struct child_fds *fds)
{
    const int from[4] = {fds->input, fds->output, fds->error, fds->report};
    int high[4];
    for (int i = 0; i < 4; i++) {
        high[i] = fcntl(from[i], F_DUPFD, 10);
        if (high[i] < 0)
            return -1;
    }
    for (int i = 0; i < 4; i++)
        if (dup2(high[i], i) < 0)
            return -1;
    if (syscall(SYS_close_range, REPORT_FD + 1, ~0u, 0) != 0)
        return -1;
    return fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
}

static void default_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int number = 1; number <= 64; number++)
        (void)sigaction(number, &action, NULL);  // KILL, STOP and the library's own refuse: they are at their default
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

// The agent itself is exempt from the kernel's out-of-memory killer; its children are not.
static void be_killable(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t count = write(fd, "0", 1);
        (void)count;  // as a plain user (in tests) this can't be lowered, nor need it
        (void)close(fd);
    }
}

static int limit(void)
{
    const struct rlimit no_core = {0, 0};
    const struct rlimit files = {OPEN_FILES_SOFT, OPEN_FILES_HARD};
    (void)umask(022);
    (void)setrlimit(RLIMIT_NOFILE, &files);  // more than the kernel's default, where the agent may give it (not in tests)
    return setrlimit(RLIMIT_CORE, &no_core);
}

static int drop_bounding_set(void)
{
    for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0)
            return -1;
    return 0;
}

// Whatever uid 0 meant by itself, it means no more, and can't again; a nested user namespace begins afresh.
static int lock_securebits(void)
{
    const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED |
                               SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                               SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    return prctl(PR_SET_SECUREBITS, bits, 0, 0, 0);
}

static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];
    memset(none, 0, sizeof none);
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return -1;
    return (int)syscall(SYS_capset, &header, none);
}

static int become(const struct request *request)
{
    if (geteuid() == 0) {
        if (drop_bounding_set() != 0 || lock_securebits() != 0 || setgroups(0, NULL) != 0)
            return -1;
        if (setresgid(request->gid, request->gid, request->gid) != 0)
            return -1;
        if (setresuid(request->uid, request->uid, request->uid) != 0)
            return -1;
    }
    if (drop_capabilities() != 0)
        return -1;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static const char *search_path(char *const *envp)
{
    for (; *envp != NULL; envp++)
        if (strncmp(*envp, "PATH=", 5) == 0)
            return *envp + 5;
    return DEFAULT_PATH;
}

// As execvpe(3), but never by way of a shell, and with the child's own PATH.
static void execute(const struct request *request)
{
    const char *name = request->argv[0];
    if (strchr(name, '/') != NULL) {
        (void)execve(name, request->argv, request->envp);
        return;
    }
    bool denied = false;
    const char *path = search_path(request->envp);
    errno = ENOENT;
    for (const char *end = path; end != NULL; path = end + 1) {
        end = strchr(path, ':');
        size_t length = end == NULL ? strlen(path) : (size_t)(end - path);
        char file[MAX_PATH];
        int size = snprintf(file, sizeof file, "%.*s/%s", (int)length, path, name);
        if (length == 0 || path[0] != '/' || size < 0 || (size_t)size >= sizeof file) {
            errno = ENOENT;  // no program is taken from the working directory
        } else {
            (void)execve(file, request->argv, request->envp);
        }
        if (errno == EACCES)
            denied = true;
        else if (errno != ENOENT && errno != ENOTDIR)
            return;
        if (end == NULL)
            break;
    }
    errno = denied ? EACCES : ENOENT;
}

static _Noreturn void child_main(const struct request *request, const struct child_fds *fds)
{
    (void)setsid();
    if (place(fds) != 0)
        give_up(fds->report, STEP_PREPARE);
    default_signals();
    be_killable();
    if (limit() != 0)
        give_up(REPORT_FD, STEP_PREPARE);
    if (become(request) != 0)
        give_up(REPORT_FD, STEP_IDENTITY);
#ifdef AGENT_TEST_MODE
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
#endif
    if (chdir(request->directory) != 0)
        give_up(REPORT_FD, STEP_DIRECTORY);
    execute(request);
    give_up(REPORT_FD, STEP_EXECUTE);
}

pid_t child_start(const struct request *request, const struct child_fds *fds)
{
    pid_t pid = fork();
    if (pid == 0)
        child_main(request, fds);
    return pid;
}
