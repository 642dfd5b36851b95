"""What a taken-over mvm of root's tries, once it has left root; a program that test_system_user.py runs as root.

Its arguments are the user that it becomes, and a closed directory of root's with a file `secret` in it, which is the
working directory too. For each way it prints a line: the way's name, and `held` or what it got.
"""

import ctypes
import fcntl
import os
import resource
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from mvmnix.system import prctl, system_user

type Way = Callable[[], object]

libc = ctypes.CDLL(None, use_errno=True)
#: keyctl(2), add_key(2) on x86_64; KEY_SPEC_SESSION_KEYRING; KEYCTL_READ, KEYCTL_SEARCH.
KEYCTL, ADD_KEY, SESSION, READ, SEARCH = 250, 248, -3, 11, 10
#: prctl(2): PR_SET_SECUREBITS, PR_SET_KEEPCAPS, PR_CAP_AMBIENT and to raise one; CAP_DAC_OVERRIDE.
SECUREBITS, KEEP, AMBIENT, RAISE, DAC_OVERRIDE = 28, 8, 47, 2, 1
TYPES, PASTES = 0x5412, 0x541C


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read(path: str) -> bytes:
    return Path(path).read_bytes()[:100]


def trace(pid: int) -> int:
    return checked(libc.ptrace(16, pid, 0, 0))  # PTRACE_ATTACH


def enter(pid: int) -> None:
    os.setns(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY), 0)


def rewrite(limit: Path) -> int:
    return limit.write_text(limit.read_text())


def of_root(secret: str) -> Iterator[tuple[str, Way]]:
    """Rights and files."""
    yield "setuid", lambda: os.setuid(0)
    yield "setgid", lambda: os.setgid(0)
    yield "setresuid", lambda: os.setresuid(0, 0, 0)
    yield "seteuid", lambda: os.seteuid(0)
    yield "setgroups", lambda: os.setgroups([0])
    yield "a capability", lambda: checked(libc.prctl(AMBIENT, RAISE, DAC_OVERRIDE, 0, 0))
    yield "secure bits", lambda: checked(libc.prctl(SECUREBITS, 0x10, 0, 0, 0))
    yield "shadow", lambda: read("/etc/shadow")
    yield "a closed file by its path", lambda: read(f"{secret}/secret")
    yield "a closed file from here", lambda: read("secret")
    yield "a closed file by /proc/self/cwd", lambda: read("/proc/self/cwd/secret")
    yield "list a closed directory", lambda: os.listdir(secret)
    yield "write into a closed directory", lambda: Path(secret, "planted").write_text("x")
    yield "list root's home", lambda: os.listdir("/root")
    yield "write to /etc", lambda: Path("/etc/mvmnix-taken-over").write_text("x")
    yield "write to this program", lambda: Path(system_user.__file__).with_name("planted.py").write_text("x")
    yield "core_pattern", lambda: Path("/proc/sys/kernel/core_pattern").write_text("|/bin/sh")
    yield "mount", lambda: checked(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None))
    yield "a device", lambda: os.mknod("/tmp/mvmnix-device", 0o20666, os.makedev(1, 1))
    yield "chroot", lambda: os.chroot("/")
    yield "a file given to root", lambda: os.chown("/tmp", 0, 0)
    yield "more processor time", lambda: os.setpriority(os.PRIO_PROCESS, 0, -20)
    yield "more descriptors", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 30, 1 << 30))


def of_processes(pid: int) -> Iterator[tuple[str, Way]]:
    """Root's process that started this one, and the first."""
    for it in (pid, 1):
        yield f"signal {it}", partial(os.kill, it, 0)
        yield f"trace {it}", partial(trace, it)
        for name in ("mem", "environ", "maps", "cwd/secret", "root/etc/shadow"):
            yield f"{name} of {it}", partial(read, f"/proc/{it}/{name}")
        yield f"descriptors of {it}", partial(os.listdir, f"/proc/{it}/fd")
        yield f"namespace of {it}", partial(enter, it)


def of_leftovers(key: int, inherited: int, group: Path | None) -> Iterator[tuple[str, Way]]:
    """What root's process had and this one could have kept: descriptors, keys, a terminal, a control group."""
    yield "an inherited descriptor", lambda: os.pread(inherited, 100, 0)
    for fd in range(3, 64):
        yield f"descriptor {fd}", partial(os.fstat, fd)
    yield "read root's key", lambda: checked(libc.syscall(KEYCTL, READ, key, ctypes.create_string_buffer(99), 99))
    yield "find root's key", lambda: checked(libc.syscall(KEYCTL, SEARCH, SESSION, b"user", b"mvmnix-root", 0))
    yield "type into the terminal", lambda: fcntl.ioctl(0, TYPES, b"x")
    yield "paste into the terminal", lambda: fcntl.ioctl(0, PASTES, b"\x02")
    if group is not None:
        yield "leave the control group", lambda: (group / "cgroup.procs").write_text("0")
        for limit in (*group.glob("*.max"), *group.glob("*.limit_in_bytes"), *group.glob("cpu.shares")):
            yield f"change {limit.name} above", partial(rewrite, limit)


def own_group() -> Path | None:
    """The group of memory, as it was before."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if "memory" in names.split(","):
            return next(
                (it for it in (Path(f"/sys/fs/cgroup/memory{path}"), Path("/sys/fs/cgroup/memory")) if it.is_dir()),
                None,
            )
    return None


def main() -> None:
    user, secret = sys.argv[1:]
    checked(libc.syscall(KEYCTL, 1, None))  # a session keyring of root's own
    key = checked(libc.syscall(ADD_KEY, b"user", b"mvmnix-root", b"root's", 6, SESSION))
    libc.prctl(KEEP, 1, 0, 0, 0)
    inherited, group, parent = os.open(f"{secret}/secret", os.O_RDONLY), own_group(), os.getppid()
    os.set_inheritable(inherited, True)
    system_user.become(user)
    ways = [*of_root(secret), *of_processes(parent), *of_leftovers(key, inherited, group)]
    for name, way in ways:
        try:
            got = way()
        except (OSError, ValueError) as error:
            print(f"{name}: held: {error}")
        else:
            print(f"{name}: got {got!r}")
    prctl.forbid_new_privileges()
    print("alive")


if __name__ == "__main__":
    main()
