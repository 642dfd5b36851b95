"""What a taken-over mvm of root's tries, once it has given root's rights up; a program that test_give_up.py runs.

Its arguments are a directory that the command line named and files that it didn't name. For each way it prints a line:
the way's name, and `held` or what it got.
"""

import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from mvmnix.privileges import client, idmap, ids
from mvmnix.privileges.client import Broker
from mvmnix.privileges.control_groups import Controller, GroupLimits
from mvmnix.privileges.descriptors import PACKET
from mvmnix.privileges.entry import NamespaceEntry, attach, become_private, paths
from mvmnix.privileges.give_up import give_up_root
from mvmnix.privileges.tree import ServedDirectory

type Way = Callable[[], object]

LIMITS = GroupLimits(64 << 20, 16)
READER = ids.FIRST_OF_POOL + 7
GROUP = "mvmnix-1-0123abcd"
libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def opened(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def read_by_tree(broker: Broker, path: str, served: ServedDirectory | None = None) -> str:
    """What is in a file that the broker was asked to mount for a uid of the pool, read as that uid."""
    source = opened(path)
    tree = broker.tree(source, READER, served)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        with suppress(OSError):
            entry = NamespaceEntry(broker.namespace_of(READER), READER, (tree,))
            entry.enter()
            os.write(writing, Path(entry.paths[0]).read_bytes()[:100] or b"empty")
            status = 0
        os._exit(status)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    said = os.read(reading, 1000)
    if status:
        raise PermissionError(13, "it could not be read")
    return said.decode(errors="replace")


def written_by_tree(broker: Broker, path: str, owner: int = READER) -> str:
    """A file made in a directory that may be read alone, by a mount without its flags; `owner` has it there."""
    tree = broker.tree(opened(path), READER, None)
    said, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            NamespaceEntry(broker.namespace_of(READER), READER).enter()
            become_private()
            flags = idmap._MountAttr(attr_clr=1 | 2 | 4)
            if libc.mount_setattr(tree, b"", 0x1000 | 0x8000, ctypes.byref(flags), ctypes.sizeof(flags)):
                os.write(told, f"mount_setattr: {os.strerror(ctypes.get_errno())}; ".encode())
            attach((tree,))
            where = paths((tree,))[0]
            os.write(told, f"uid {os.stat(where).st_uid}; ".encode())
            Path(where, "evil").write_text("x")
            Path(where, "evil").chmod(0o4755)
            Path(where, "evil").unlink()
        except OSError as error:
            os.write(told, str(error).encode())
            os._exit(1)
        os._exit(0)
    os.close(told)
    _, status = os.waitpid(child, 0)
    what = os.read(said, 1000).decode()
    os.close(said)
    if status == 0 or f"uid {owner}; " not in what:  # else it wasn't tried
        return what
    raise PermissionError(13, what)


def the_system(secret: str) -> Iterator[tuple[str, Way]]:
    """What needs a right of root's."""
    yield "setuid", lambda: os.setuid(0)
    yield "setgid", lambda: os.setgid(0)
    yield "setgroups", lambda: os.setgroups([0])
    yield "read shadow", lambda: Path("/etc/shadow").read_text()
    yield "read a file that was not named", lambda: Path(secret).read_text()
    yield "list a directory that was not named", lambda: os.listdir(os.path.dirname(secret))
    yield "write to /etc", lambda: Path("/etc/mvmnix-taken-over").write_text("x")
    yield "write to this program", lambda: Path(client.__file__).with_name("former_root.py").write_text("x")
    yield "core_pattern", lambda: Path("/proc/sys/kernel/core_pattern").write_text("|/bin/sh")
    yield "mount", lambda: checked(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None))
    yield "uncover", lambda: checked(libc.umount2(os.path.dirname(secret).encode(), 2))
    yield "mknod", lambda: os.mknod("/tmp/mvmnix-device", 0o20666, os.makedev(1, 1))
    yield "chroot", lambda: os.chroot("/")
    yield "kill process 1", lambda: os.kill(1, signal.SIGKILL)
    yield "another user's namespace", lambda: os.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)


def the_broker_s_process(pid: int) -> Iterator[tuple[str, Way]]:
    """The process that has root's rights."""
    yield "kill the broker", lambda: os.kill(pid, signal.SIGKILL)
    yield "its memory", lambda: Path(f"/proc/{pid}/mem").open("rb").read(1)
    yield "its descriptors", lambda: os.listdir(f"/proc/{pid}/fd")
    yield "its namespace", lambda: os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    yield "trace it", lambda: checked(libc.ptrace(16, pid, 0, 0))


def the_requests(broker: Broker, named: str, secret: str, other: str) -> Iterator[tuple[str, Way]]:
    """What the broker might do for it."""
    for uid in (0, 1000, 65534, ids.MVM, ids.FIRST_OF_POOL + ids.POOL_COUNT, 2**31, 2**32):
        yield f"the uid {uid}", partial(broker.namespace_of, uid)
        yield f"a tree for the uid {uid}", partial(broker.tree, opened(named), uid, None)
    yield "shadow by a tree", partial(read_by_tree, broker, "/etc/shadow")
    yield "another user's file by a tree", partial(read_by_tree, broker, other)
    yield "write to this program by a tree", partial(written_by_tree, broker, os.path.dirname(client.__file__))
    library = os.path.dirname(json.__file__)  # isn't granted: it is another user's there, as root is everywhere
    yield "write to the Python library", partial(written_by_tree, broker, library, owner=65534)
    served = ServedDirectory(writable=True, lowest_group=0)
    for what in ("/", "/etc", "/root", "/proc", os.path.dirname(other), named):
        yield f"{what} to write, for a guest", partial(broker.tree, opened(what), READER, served)
    yield "a descriptor that is none", partial(broker.tree, socket.socket().fileno(), READER, served)
    for process in (1, os.getppid()):
        yield f"the io of process {process}", partial(broker.io, process)
    for what in ("self/ns/net", "self/ns/user", "self/ns/mnt"):
        yield f"a device in this host's {what}", partial(broker.tun, os.open(f"/proc/{what}", os.O_RDONLY))
    yield "a device in no namespace", partial(broker.tun, opened(named))
    both = frozenset(Controller)
    for name in ("", "x", "..", "../x", "mvmnix-0-00000000/../../x", "mvmnix-0-0000000g", "mvmnix-0-00000000\n"):
        yield f"a group called {name!r}", partial(broker.make_group, name, LIMITS, both)
    parents = [parent.path for parent in broker.parents()]
    for parent in parents:
        yield f"remove {parent}", partial(broker.remove_group, parent)
        yield f"remove beside {parent}", partial(broker.remove_group, f"{parent}/../{os.path.basename(parent)}")
    broker.make_group(GROUP, LIMITS, both)
    for process in (1, os.getppid()):
        for parent in parents:
            path = f"{parent}/{GROUP}"
            yield f"process {process} into a group", partial(broker.add_to_group, path, process)
            yield f"a group in {path}", partial(os.mkdir, f"{path}/nested")
            yield f"process {process} by hand", partial(Path(path, "cgroup.procs").write_text, str(process))
            yield "more memory", partial(Path(path, "memory.limit_in_bytes").write_text, "-1")
        yield f"process {process} elsewhere", partial(broker.add_to_group, parents[0], process)


def rubbish(broker: Broker) -> None:
    """Packets that are none: the broker lives on."""
    for number in range(300):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        data = (b"", b"{", b"[" * 5000, b"\0" * PACKET, b"x" * (2 * PACKET), json.dumps({"request": number}).encode())
        descriptors = [theirs.fileno()] * (number % 9)
        with ours, theirs, suppress(OSError):
            socket.send_fds(broker.socket, [data[number % 6] or b" "], descriptors)


def main() -> None:
    named, secret, other = sys.argv[1:]
    give_up_root([named], os.environ)
    broker = client.current()
    assert isinstance(broker, Broker)
    assert Path(named, "file").read_text() == "named"
    Path(named, "new").write_text("new")
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    pid = int(children[0])
    ways = [*the_system(secret), *the_broker_s_process(pid), *the_requests(broker, named, secret, other)]
    rubbish(broker)
    for name, way in ways:
        try:
            got = way()
        except (OSError, ValueError) as error:
            print(f"{name}: held: {error}")
        else:
            print(f"{name}: got {got!r}")
    os.close(broker.namespace_of(READER))
    for parent in broker.parents():
        assert broker.remove_group(f"{parent.path}/{GROUP}")
    print("alive")


if __name__ == "__main__":
    main()
