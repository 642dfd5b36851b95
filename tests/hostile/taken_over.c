// A hypervisor that a guest has taken over: does what it is told to, and says on a descriptor what came of each.
//
//   taken_over CONSOLE DISK [ATTACK[=ARGUMENT]]...
//
// One line for each: its name and the errno, 0 when it succeeded. Whatever succeeds is undone where that matters, so
// that the same list can be run outside of the jail.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int console, disk;

static int ended(long result) { return result < 0 ? errno : 0; }

static int closed(long fd) {
  if (fd < 0) return errno;
  close((int)fd);
  return 0;
}

static int child(long pid) {
  if (pid < 0) return errno;
  if (pid == 0) _exit(0);
  return ended(waitpid((pid_t)pid, NULL, __WALL));
}

static int reading(const char *path) { return closed(open(path, O_RDONLY)); }

static int creating(const char *path) {
  int failed = closed(open(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
  unlink(path);
  return failed;
}

static int changing(const char *path) { return closed(open(path, O_RDWR)); }

// Processes besides itself and the first, which is there in every namespace.
static int others(const char *unused) {
  (void)unused;
  DIR *all = opendir("/proc");
  if (!all) return errno;
  int seen = 0;
  for (struct dirent *one; (one = readdir(all));) seen += atoi(one->d_name) > 1 && atoi(one->d_name) != getpid();
  closedir(all);
  return seen ? 0 : ESRCH;
}

static int signalling(const char *pid) { return ended(kill(atoi(pid), 0)); }
static int signalling_all(const char *unused) { return (void)unused, ended(kill(-1, 0)); }
static int tracing(const char *pid) { return ended(ptrace(PTRACE_SEIZE, atoi(pid), 0, 0)); }

static int limiting(const char *pid) { return ended(prlimit(atoi(pid), RLIMIT_CPU, NULL, &(struct rlimit){0})); }

static int stealing(const char *pid) {
  long process = syscall(SYS_pidfd_open, atoi(pid), 0);
  if (process < 0) return errno;
  return closed(syscall(SYS_pidfd_getfd, process, 0, 0));
}

static int opening(int family, int type, int protocol) { return closed(socket(family, type, protocol)); }
static int inet(const char *unused) { return (void)unused, opening(AF_INET, SOCK_STREAM, 0); }
static int inet6(const char *unused) { return (void)unused, opening(AF_INET6, SOCK_DGRAM, 0); }
static int netlink(const char *unused) { return (void)unused, opening(AF_NETLINK, SOCK_RAW, 0); }
static int packet(const char *unused) { return (void)unused, opening(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)); }

static int connecting(const char *name, int abstract) {
  struct sockaddr_un there = {.sun_family = AF_UNIX};
  snprintf(there.sun_path + abstract, sizeof there.sun_path - 1, "%s", name);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) return errno;
  socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + abstract + strlen(name));
  int failed = ended(connect(fd, (struct sockaddr *)&there, length));
  close(fd);
  return failed;
}
static int named(const char *path) { return connecting(path, 0); }
static int nameless(const char *name) { return connecting(name, 1); }

static int forking(const char *unused) { return (void)unused, child(syscall(SYS_fork)); }
static int cloning(const char *unused) { return (void)unused, child(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }
static int cloning3(const char *unused) {
  struct clone_args how = {.exit_signal = SIGCHLD};
  return (void)unused, child(syscall(SYS_clone3, &how, sizeof how));
}
static void *nothing(void *unused) { return unused; }
static int threading(const char *unused) {
  pthread_t thread;
  (void)unused;
  int failed = pthread_create(&thread, NULL, nothing, NULL);
  return failed ? failed : pthread_join(thread, NULL);
}
static int executing(const char *program) {
  dup2(console, 9);  // a shell knows no descriptor of two digits
  execl(program, program, "-c", "echo exec 0 >&9", NULL);
  return errno;
}

static int node(const char *path) {
  int failed = ended(mknod(path, S_IFCHR | 0600, 0x101));
  unlink(path);
  return failed;
}
static int mounting(const char *path) {
  if (mount("none", path, "tmpfs", 0, NULL)) return errno;
  return ended(umount2(path, MNT_DETACH));
}
static int file_system(const char *unused) { return (void)unused, closed(syscall(SYS_fsopen, "tmpfs", 0)); }
static int root(const char *path) { return ended(chroot(path)); }
static int user_namespace(const char *unused) { return (void)unused, ended(unshare(CLONE_NEWUSER)); }
static int network_namespace(const char *unused) { return (void)unused, ended(unshare(CLONE_NEWNET)); }
static int becoming_root(const char *unused) { return (void)unused, ended(syscall(SYS_setresuid, 0, 0, 0)); }
static int naming_host(const char *unused) {
  char name[65];
  (void)unused;
  gethostname(name, sizeof name);
  return ended(sethostname(name, strlen(name)));
}
static int handle(const char *path) {
  struct {
    struct file_handle head;
    char room[128];
  } it = {.head = {.handle_bytes = 128}};
  int mount_id;
  return ended(name_to_handle_at(AT_FDCWD, path, &it.head, &mount_id, 0));
}

static int rewriting(const char *unused) {
  char path[32];
  (void)unused;
  snprintf(path, sizeof path, "/proc/self/fd/%d", disk);
  return closed(open(path, O_RDWR));
}
static int unlocking(const char *unused) { return (void)unused, ended(fchmod(disk, 0666)); }

static int programming(const char *unused) {
  union bpf_attr how = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
  return (void)unused, closed(syscall(SYS_bpf, BPF_MAP_CREATE, &how, sizeof how));
}
static int counting(const char *unused) {
  struct perf_event_attr how = {.type = PERF_TYPE_SOFTWARE, .size = sizeof how, .config = PERF_COUNT_SW_DUMMY};
  return (void)unused, closed(syscall(SYS_perf_event_open, &how, 0, -1, -1, 0));
}
static int ring(const char *unused) {
  char how[120] = {0};
  return (void)unused, closed(syscall(SYS_io_uring_setup, 1, how));
}
static int keyring(const char *unused) { return (void)unused, ended(syscall(SYS_keyctl, 0, -3, 1)); }
static int segment(const char *unused) {
  (void)unused;
  int id = shmget(IPC_PRIVATE, 4096, 0600);
  return id < 0 ? errno : ended(shmctl(id, IPC_RMID, NULL));
}
static int priority(const char *unused) {
  (void)unused;
  int failed = ended(setpriority(PRIO_PROCESS, 0, -5));
  if (!failed) setpriority(PRIO_PROCESS, 0, 0);
  return failed;
}
static int room(const char *gibibytes) {
  size_t size = (size_t)atoi(gibibytes) << 30;
  void *there = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (there == MAP_FAILED) return errno;
  return ended(munmap(there, size));
}
static int growing(const char *unused) {
  (void)unused;
  int fd = memfd_create("grown", 0);
  if (fd < 0) return errno;
  int failed = write(fd, "x", 1) == 1 ? 0 : errno;
  close(fd);
  return failed;
}
static int touching(const char *mebibytes) {
  size_t size = (size_t)atoi(mebibytes) << 20;
  char *there = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (there == MAP_FAILED) return errno;
  for (size_t at = 0; at < size; at += 4096) there[at] = 1;
  return ended(munmap(there, size));
}
static void *waiting(void *unused) { return poll(NULL, 0, -1), unused; }
static int crowding(const char *count) {
  int failed = 0;
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 65536);
  for (int made = 0; !failed && made < atoi(count); made++) {
    pthread_t thread;
    failed = pthread_create(&thread, &small, waiting, NULL);
  }
  return failed;
}
static void *spinning(void *unused) {
  for (volatile unsigned long turns = 0;; turns++)
    ;
  return unused;
}
static int running_away(const char *count) {
  pthread_t thread;
  int failed = 0;
  for (int i = 0; i < atoi(count) && !failed; i++) failed = pthread_create(&thread, NULL, spinning, NULL);
  return failed;
}
// All that a process may do so that neither its parent's end nor the first process ends it; for the inside alone.
static int surviving(const char *unused) {
  (void)unused;
  for (int number = 1; number < NSIG; number++) signal(number, SIG_IGN);
  for (int i = 0; i < 2; i++) syscall(SYS_tgkill, 1, 1, i ? SIGKILL : SIGSTOP);
  if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)) return errno;
  int asked = -1;
  if (prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0) || prctl(PR_GET_PDEATHSIG, &asked, 0, 0, 0)) return errno;
  return asked;
}
static int new_attributes(const char *path) {
  struct {
    unsigned long value;
    unsigned size, flags;
  } it = {(unsigned long)"x", 1, 0};
  return ended(syscall(463, AT_FDCWD, path, 0, "user.mvmnix", &it, sizeof it));  // setxattrat(2), Linux 6.13
}
static int new_flags(const char *path) {
  char none[24] = {0};
  return ended(syscall(469, AT_FDCWD, path, none, sizeof none, 0));  // file_setattr(2), Linux 6.17
}
static int holding(const char *unused) { return (void)unused, poll(NULL, 0, -1); }

static const struct {
  const char *name;
  int (*attack)(const char *argument);
} known[] = {
    {"read", reading}, {"create", creating}, {"others", others}, {"signal", signalling},
    {"signal-all", signalling_all}, {"trace", tracing}, {"steal", stealing}, {"inet", inet}, {"inet6", inet6},
    {"netlink", netlink}, {"packet", packet}, {"named", named}, {"abstract", nameless}, {"fork", forking},
    {"clone", cloning}, {"clone3", cloning3}, {"thread", threading}, {"exec", executing}, {"mknod", node},
    {"mount", mounting}, {"fsopen", file_system}, {"chroot", root}, {"userns", user_namespace},
    {"netns", network_namespace}, {"setuid", becoming_root}, {"hostname", naming_host}, {"handle", handle},
    {"rewrite", rewriting}, {"fchmod", unlocking}, {"bpf", programming}, {"perf", counting}, {"io_uring", ring},
    {"keyring", keyring}, {"shm", segment}, {"priority", priority}, {"room", room},
    {"change", changing}, {"limit", limiting}, {"survive", surviving}, {"setxattrat", new_attributes},
    {"file_setattr", new_flags}, {"grow", growing}, {"touch", touching}, {"crowd", crowding}, {"spin", running_away}, {"hold", holding},
};

int main(int count, char **words) {
  console = atoi(words[1]);
  disk = atoi(words[2]);
  for (int at = 3; at < count; at++) {
    char *argument = strchr(words[at], '=');
    if (argument) *argument++ = 0;
    int failed = -1;
    for (size_t one = 0; one < sizeof known / sizeof *known; one++)
      if (!strcmp(known[one].name, words[at])) {
        if (known[one].attack == holding) dprintf(console, "hold 0\n");
        failed = known[one].attack(argument ? argument : "");
      }
    dprintf(console, "%s %d\n", words[at], failed);
  }
  return 0;
}
