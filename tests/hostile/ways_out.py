"""A program that tries to get out of the sandbox it runs in: one line `name: held` or `name: BROKEN` for each way.

It takes no arguments and needs Python's own modules alone, so it stands in for any helper. Each way is tried in a child
of its own. None does harm where it succeeds: files are opened and not written, calls have arguments that the kernel
looks at after it has asked for the right. What a test puts outside beforehand is named here: `CANARY`, `PORT`.
"""

import ctypes
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

#: Outside: a key's description, an abstract unix socket, a variable's name, a file in /tmp, /run and home.
CANARY = "MVMNIX_CANARY"
#: Outside: a TCP port on 127.0.0.1, and a key of System V shared memory.
PORT = 27611  # outside of the range that the kernel gives to outgoing connections
SHM_KEY = 0x6D766D63
_SECONDS = 10
_libc = ctypes.CDLL(None, use_errno=True)
_DENIED = {errno.EPERM, errno.ENOSYS, errno.EACCES}

type Way = Callable[[], bool]


def call(number: int, *arguments: object) -> int:
    """A system call of x86-64 by its number: 0, or its errno."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return ctypes.get_errno() if _libc.syscall(ctypes.c_long(number), *words) < 0 else 0


def passes(number: int, *arguments: object) -> Way:
    """The kernel did more with a call than refuse it."""
    return lambda: call(number, *arguments) not in _DENIED


def succeeds(number: int, *arguments: object) -> Way:
    return lambda: call(number, *arguments) == 0


def opens(path: str, flags: int) -> Way:
    return lambda: _opened(path, flags)


def _opened(path: str, flags: int) -> bool:
    try:
        os.close(os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def works(action: Callable[[], object]) -> Way:
    """An action that raises nothing."""

    def way() -> bool:
        try:
            action()
        except (OSError, ValueError):
            return False
        return True

    return way


def status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split("\t")[1] for line in lines if line.startswith(f"{name}:"))


def holds(question: Way) -> Way:
    """A question whose answer is no where it can't be asked."""

    def way() -> bool:
        try:
            return question()
        except (OSError, ValueError):
            return False

    return way


def connects(family: int, kind: int, address: "tuple[str, int] | str") -> Way:
    def way() -> None:
        with socket.socket(family, kind) as one:
            one.settimeout(2)
            one.connect(address)
            if kind == socket.SOCK_DGRAM:
                one.send(b"x")

    return works(way)


def makes_socket(family: int, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> Way:
    return works(lambda: socket.socket(family, kind, protocol).close())


def interfaces() -> bool:
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    return any(line.split(":")[0].strip() != "lo" for line in lines)


def other_processes() -> bool:
    """Any that isn't an ancestor or descendant of ours, by its parents up to process 1."""
    ours = {os.getpid(), os.getppid(), 1}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(directory.name) not in ours and int(words[1]) not in ours:
            return True
    return len(list(Path("/proc").glob("[0-9]*"))) > 8


def found_key(ring: int) -> Way:
    """KEYCTL_SEARCH for the key that the caller has in its session keyring."""

    def way() -> bool:
        found = _libc.syscall(250, 10, ctypes.c_int(ring), b"user", CANARY.encode(), 0)
        return int(found) > 0

    return way


def listed_keys() -> bool:
    return CANARY in Path("/proc/keys").read_text()


def mounted(what: bytes, kind: bytes | None, flags: int) -> Way:
    def way() -> bool:
        Path("mountpoint").mkdir(exist_ok=True)
        if _libc.mount(what, b"mountpoint", kind, ctypes.c_ulong(flags), None) < 0:
            return False
        _libc.umount2(b"mountpoint", 2)
        return True

    return way


def made_set_id(bits: int) -> Way:
    def way() -> bool:
        Path("set-id").write_bytes(b"")
        Path("set-id").chmod(0o755 | bits)
        return bool(Path("set-id").stat().st_mode & bits)

    return holds(way)


def elsewhere(*names: str) -> Way:
    """A file that belongs to the host's root directory lies here."""
    return lambda: any(os.path.lexists(name) for name in names)


def set_capabilities() -> bool:
    header, data = struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *([0xFFFFFFFF] * 2), 0, *([0x1FF] * 2), 0)
    return call(126, header, data) == 0 and int(status("CapEff"), 16) != 0


def foreign_descriptors() -> bool:
    """Beside standard input, output and error, and the one that lists them."""
    return len(list(Path("/proc/self/fd").iterdir())) > 4


def is_terminal() -> bool:
    return any(os.isatty(fd) for fd in (0, 1, 2))


def pushed_to_terminal() -> bool:
    fcntl.ioctl(os.open("/dev/tty", os.O_RDWR), 0x5412, b"x")  # TIOCSTI
    return True


def raised(which: int) -> Way:
    """A hard limit goes up, or there is none."""

    def way() -> bool:
        hard = resource.getrlimit(which)[1]
        if hard == resource.RLIM_INFINITY:
            return True
        resource.setrlimit(which, (hard, hard + 1))
        return True

    return holds(way)


def shared_memory() -> bool:
    return int(_libc.shmget(ctypes.c_int(SHM_KEY), ctypes.c_size_t(0), 0)) >= 0


def devices() -> bool:
    usual = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}
    here = Path("/dev").iterdir()
    kinds = {path.name for path in here if stat.S_IFMT(path.stat().st_mode) in {stat.S_IFCHR, stat.S_IFBLK}}
    return bool(kinds - usual)


def environment() -> bool:
    words = ("LD_", "PYTHON", "PERL", "SSH_", "SUDO_", "XDG_", "DBUS_", "MVMNIX_", CANARY)
    return any(name.startswith(words) for name in os.environ)


def strange_path() -> bool:
    usual = {"/usr/bin", "/bin", "/usr/sbin", "/sbin", "/run/current-system/sw/bin"}
    return not set(os.environ.get("PATH", ".").split(":")) <= usual


def working_directory() -> bool:
    return not Path.cwd().is_relative_to("/work") or not os.environ.get("HOME", "").startswith("/work")


def set_own_id_map() -> bool:
    Path("/proc/self/uid_map").write_text("0 0 1")
    return True


def linked_from_system() -> bool:
    os.link("/usr/bin/env", "linked")
    return True


def wrote_over_init() -> bool:
    with Path("/proc/1/mem").open("r+b", buffering=0):
        return True


def strange_init() -> bool:
    """The first process isn't bubblewrap's, so it is the host's, or the program itself."""
    return Path("/proc/1/comm").read_text() != "bwrap\n"


CLONE = {"user": 0x10000000, "mount": 0x20000, "pid": 0x20000000, "net": 0x40000000}
CLONE |= {"ipc": 0x08000000, "uts": 0x04000000, "cgroup": 0x02000000, "time": 0x80}
_X32 = 0x40000000
_TREE = ctypes.create_string_buffer(256)
#: Never there, since nothing can be made in /proc: where these ways lead out, acct(2) must not find a file to write to.
_ABSENT = b"/proc/nowhere"

WAYS: dict[str, Way] = {
    # who it is
    "uid 0": lambda: 0 in (os.getuid(), os.geteuid()),
    "gid 0": lambda: 0 in (os.getgid(), os.getegid(), *os.getgroups()),
    "every uid": lambda: Path("/proc/self/uid_map").read_text().split()[2] != "1",
    "becoming uid 0": works(lambda: os.setuid(0)),
    "becoming gid 0": works(lambda: os.setgid(0)),
    "taking a group": works(lambda: os.setgroups([0])),
    "effective capabilities": lambda: int(status("CapEff"), 16) != 0,
    "capability bounding set": lambda: int(status("CapBnd"), 16) != 0,
    "setting capabilities": set_capabilities,
    "new privileges by exec": lambda: status("NoNewPrivs") != "1",
    "no filter of system calls": lambda: status("Seccomp") != "2",
    "another map of uids": holds(set_own_id_map),
    # namespaces
    **{f"unshare {name}": succeeds(272, flag) for name, flag in CLONE.items()},
    "clone3": passes(435, struct.pack("11Q", CLONE["user"], *([0] * 10)), 88),
    "setns": passes(308, -1, 0),
    "hostname of the host": lambda: os.uname().nodename != "jail",
    "sethostname": succeeds(170, b"jail", 4),
    # mounts
    "mount tmpfs": mounted(b"none", b"tmpfs", 0),
    "bind mount": mounted(b"/usr", None, 0x1000),
    "remount / writable": succeeds(165, b"none", b"/", 0, 0x1020, 0),
    "pivot_root": passes(155, _ABSENT, _ABSENT),
    "chroot": succeeds(161, b"/"),
    "fsopen": succeeds(430, b"tmpfs", 0),
    "open_tree": succeeds(428, -100, b"/", 1),
    "umount": passes(166, b"/proc", 4),
    # /proc and /sys
    "kernel.core_pattern": opens("/proc/sys/kernel/core_pattern", os.O_WRONLY),
    "kernel.modprobe": opens("/proc/sys/kernel/modprobe", os.O_WRONLY),
    "kernel.hostname": opens("/proc/sys/kernel/hostname", os.O_WRONLY),
    "vm.drop_caches": opens("/proc/sys/vm/drop_caches", os.O_WRONLY),
    "sysrq": opens("/proc/sysrq-trigger", os.O_WRONLY),
    "irq": elsewhere("/proc/irq/0/smp_affinity_list"),
    "own memory through /proc": opens("/proc/self/mem", os.O_RDWR),
    "own oom_score_adj": opens("/proc/self/oom_score_adj", os.O_WRONLY),
    "kernel memory": opens("/proc/kcore", os.O_RDONLY),
    "sysfs": elsewhere("/sys/kernel", "/sys/fs/cgroup"),
    "uevent helper": opens("/sys/kernel/uevent_helper", os.O_WRONLY),
    # other processes
    "other processes": other_processes,
    "another process 1": strange_init,
    "memory of process 1": holds(wrote_over_init),
    "ptrace": passes(101, 16, 1, 0, 0),
    "process_vm_readv": passes(310, 1, _TREE, 0, _TREE, 0, 0),
    "process_vm_writev": passes(311, 1, _TREE, 0, _TREE, 0, 0),
    "pidfd_getfd": passes(438, -1, 0, 0),
    "kcmp": passes(312, 1, 1, 0, 0, 0),
    "root of process 1": elsewhere("/proc/1/root/root", "/proc/1/root/home", "/proc/1/root/var"),
    "working directory of process 1": elsewhere("/proc/1/cwd/root", "/proc/1/cwd/home", "/proc/1/cwd/var"),
    # keys
    "session keyring": found_key(-3),
    "user keyring": found_key(-4),
    "user session keyring": found_key(-5),
    "keys of the host": holds(listed_keys),
    "add_key": passes(248, b"user", b"x", b"x", 1, -2),
    "request_key": passes(249, b"user", CANARY.encode(), 0, 0),
    # files of the host
    "/etc/shadow": opens("/etc/shadow", os.O_RDONLY),
    "/etc/passwd": opens("/etc/passwd", os.O_RDONLY),
    "/root": elsewhere("/root"),
    "/home": elsewhere("/home"),
    "/var": elsewhere("/var"),
    "/tmp": elsewhere("/tmp"),
    "/run": elsewhere("/run/mvmnix", "/run/lock", "/run/user"),
    "/boot": elsewhere("/boot"),
    "writing /": opens("/written", os.O_WRONLY | os.O_CREAT),
    "writing /usr": opens("/usr/bin/written", os.O_WRONLY | os.O_CREAT),
    "writing /etc": opens("/etc/written", os.O_WRONLY | os.O_CREAT),
    "writing /dev/shm": opens("/dev/shm/written", os.O_WRONLY | os.O_CREAT),
    "changing a program": opens("/usr/bin/env", os.O_WRONLY),
    "hard link of a program": holds(linked_from_system),
    "open_by_handle_at": passes(304, -1, _TREE, 0),
    "devices": holds(devices),
    "block device node": works(lambda: os.mknod("block", 0o600 | stat.S_IFBLK, os.makedev(7, 0))),
    "character device node": works(lambda: os.mknod("character", 0o600 | stat.S_IFCHR, os.makedev(1, 1))),
    "set-user-ID file": made_set_id(stat.S_ISUID),
    "set-group-ID file": made_set_id(stat.S_ISGID),
    "capabilities of a file": works(lambda: os.setxattr("set-id", "security.capability", bytes(20))),
    "file of root's": works(lambda: os.chown("set-id", 0, 0)),
    # the network
    "interfaces": interfaces,
    "TCP to the host's loopback": connects(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", PORT)),
    "TCP to the metadata service": connects(socket.AF_INET, socket.SOCK_STREAM, ("169.254.169.254", 80)),
    "UDP to a private network": connects(socket.AF_INET, socket.SOCK_DGRAM, ("10.0.0.1", 53)),
    "abstract unix socket": connects(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{CANARY}"),
    "raw socket": makes_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "packet socket": makes_socket(socket.AF_PACKET),
    "netlink socket": makes_socket(socket.AF_NETLINK),
    "vsock": makes_socket(40, socket.SOCK_STREAM),
    "AF_ALG": makes_socket(38, socket.SOCK_SEQPACKET),
    # what it was left
    "inherited descriptors": foreign_descriptors,
    "a terminal": is_terminal,
    "pushing to a terminal": holds(pushed_to_terminal),
    "variables of the caller": environment,
    "programs by the caller's PATH": strange_path,
    "the caller's directory": working_directory,
    "System V shared memory": shared_memory,
    "core files": raised(resource.RLIMIT_CORE),
    "more processes": raised(resource.RLIMIT_NPROC),
    "more descriptors": raised(resource.RLIMIT_NOFILE),
    "larger files": raised(resource.RLIMIT_FSIZE),
    "more memory": raised(resource.RLIMIT_AS),
    # the kernel
    "bpf": passes(321, 0, _TREE, 128),
    "perf_event_open": passes(298, _TREE, 0, -1, -1, 0),
    "userfaultfd": passes(323, 0),
    "io_uring_setup": passes(425, 1, _TREE),
    "io_setup": passes(206, 1, _TREE),
    "init_module": passes(175, _TREE, 0, b""),
    "finit_module": passes(313, -1, b"", 0),
    "delete_module": passes(176, b"none", 0o4000),
    "kexec_load": passes(246, 0, 0, 0, 0xFF),
    "reboot": passes(169, 0, 0, 0, 0),
    "swapon": passes(167, _ABSENT, 0),
    "acct": passes(163, _ABSENT),
    "syslog": passes(103, 10, 0, 0),
    "iopl": passes(172, 0),
    "fanotify_init": passes(300, 0, 0),
    "quotactl": passes(179, 0xFFFF, _ABSENT, 0, 0),
    "personality": passes(135, 0x0400000),
    "move_pages": passes(279, 1, 0, 0, 0, 0, 0),
    "x32 system call": passes(_X32 | 39),
}


def tried(way: Way) -> bool:
    """Whether it got out, in a child of its own; one that is killed or never ends did not."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        broken = 1
        try:
            broken = 2 if way() else 1
        finally:
            os._exit(broken)
    pidfd = os.pidfd_open(child)
    if not select.select([pidfd], [], [], _SECONDS)[0]:
        os.kill(child, signal.SIGKILL)
    os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2


def main() -> None:
    for name, way in WAYS.items():
        sys.stdout.write(f"{name}: {'BROKEN' if tried(way) else 'held'}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
