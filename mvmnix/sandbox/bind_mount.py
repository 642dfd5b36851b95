"""Brings files that are held by descriptors to where bubblewrap, as another user, finds them by a short name.

bubblewrap takes a descriptor (--bind-fd), and then looks for the path that leads to it: a user who may not pass the
directories above, as in another user's home, has none. Root mounts it elsewhere, in a mount namespace that only the
child sees.
"""

import ctypes
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mvmnix.sandbox import idmap
from mvmnix.sandbox.idmap import checked, move

#: Directories that no program needs which makes a sandbox (hier(7)).
_PLACES: Final = ("/mnt", "/media", "/srv", "/opt")
_CAP_SYS_ADMIN: Final = 21
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000


def place() -> str | None:
    """Where this process can mount a file or directory: None without root's right to mount."""
    if os.geteuid() != 0 or not _may_mount():
        return None
    return next((where for where in _PLACES if Path(where).is_dir() and not Path(where).is_symlink()), None)


def bringing(directory: int, where: str, tree: int | None) -> Callable[[], None]:
    """What the child does between fork and exec, as root: a mount namespace of its own, and in it the directory.

    `tree` is a detached mount of it (idmap.py), where there is one. What is mounted elsewhere later is not mounted
    there. What is called raises OSError.
    """
    mount = ctypes.CDLL(None, use_errno=True).mount
    target, top = where.encode(), b"/"

    def bring() -> None:
        os.fchdir(directory)  # a descriptor stays in the old namespace, the working directory goes along
        os.unshare(os.CLONE_NEWNS)
        checked(mount(None, top, None, _MS_REC | _MS_PRIVATE, None), where)
        if tree is None:
            checked(mount(b".", target, None, _MS_REC | _MS_BIND, None), where)
        else:
            move(tree, target)
        os.chdir("/")

    return bring


def attach(trees: Sequence[int], where: str) -> tuple[str, ...]:
    """Give the calling thread a mount namespace of its own and attach detached mounts beneath `where` in it.

    Answers where each of them is. Only for a thread that ends afterwards: it sees, and its children see, what other
    threads don't. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    os.unshare(os.CLONE_NEWNS)
    checked(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "/")
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    checked(libc.mount(b"tmpfs", where.encode(), b"tmpfs", flags, b"mode=0755,size=1m"), where)
    paths = tuple(f"{where}/{number}" for number in range(len(trees)))
    for tree, path in zip(trees, paths, strict=True):
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            Path(path).mkdir()
        else:
            Path(path).touch()
        move(tree, path.encode())
    return paths


@dataclass(frozen=True, slots=True)
class Bound:
    """bubblewrap's words that bind files, and the descriptors that they name."""

    words: tuple[str, ...]
    descriptors: tuple[int, ...]


@contextmanager
def bound(files: Mapping[str, Path | int], reader: int | None) -> Iterator[Bound]:
    """Have bubblewrap show files and directories, each at its path inside, read-only.

    `reader` is the uid and gid that it runs with as root, None where it runs as the caller. With one, the calling
    thread gets a mount namespace of its own (`attach`). Raises OSError.
    """
    with ExitStack() as stack:
        held: dict[str, int] = {}
        for inside, path in files.items():
            held[inside] = os.dup(path) if isinstance(path, int) else os.open(path, os.O_PATH | os.O_CLOEXEC)
            stack.callback(os.close, held[inside])
        where = None if reader is None or not held else place()
        if reader is None or where is None:
            words = (("--ro-bind-fd", str(fd), inside) for inside, fd in held.items())
            yield Bound(tuple(word for three in words for word in three), tuple(held.values()))
            return
        readable = stack.enter_context(_Readable(reader))
        trees = [readable.tree(fd) for fd in held.values()]
        words = (("--ro-bind", source, inside) for source, inside in zip(attach(trees, where), held, strict=True))
        yield Bound(tuple(word for three in words for word in three), ())


class _Readable:
    """Detached mounts for one uid and gid, who may read there what a file's owner may; closed with it."""

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self._namespaces: dict[tuple[int, int], int] = {}
        self._trees: list[int] = []

    def tree(self, source: int) -> int:
        """The mount of a file or directory; where it can't be ID-mapped, the reader sees what all may read."""
        status = os.fstat(source)
        tree = None
        if not (stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH):
            with suppress(OSError):
                tree = idmap.mapped(source, self._namespace(status.st_uid, status.st_gid))
        if tree is None:
            tree = idmap.detached(source)
        if tree is None:
            raise PermissionError("it can't be mounted")
        self._trees.append(tree)
        idmap.make_read_only(tree)
        return tree

    def _namespace(self, uid: int, gid: int) -> int:
        if (uid, gid) not in self._namespaces:
            self._namespaces[uid, gid] = idmap.exchange((uid, self._reader), (gid, self._reader))
        return self._namespaces[uid, gid]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (*self._trees, *self._namespaces.values()):
            os.close(fd)


def _may_mount() -> bool:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    effective = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAP_SYS_ADMIN & 1)
