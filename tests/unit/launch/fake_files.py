"""File operations of the fake guest, on a directory of this host that it takes for its root; and entry records."""

import os
import shutil
import stat
import struct
from pathlib import Path

from mvmnix.launch.agent.operations import FileOperation
from mvmnix.launch.agent.requests import FilesRequest

_MOST = 65_536


def record(kind: int, name: bytes = b"", *, mode: int = 0, size: int = 0, mtime_ns: int = 0, zero: int = 0) -> bytes:
    """An entry record of uid 1 and gid 2, as docs/reference/channel.md has it, whether that can be or not."""
    return struct.pack(">BBHIQqII", kind, zero, mode, len(name), size, mtime_ns, 1, 2) + name


def end_record(count: int) -> bytes:
    """The last record."""
    return struct.pack(">BBHIQqII", 0, 0, 0, 0, count, 0, 0, 0)


class FakeFiles:
    """Does what the agent does, with what Python has for it: output, error output and exit status of each operation."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, request: FilesRequest) -> tuple[bytes, bytes, int]:
        path, *rest = (self._place(word, request.workload.directory) for word in request.workload.argv)
        try:
            return self._run(request, path, *rest), b"", 0
        except OSError as error:
            assert error.errno is not None
            return b"", os.fsencode(f"{request.workload.argv[0]}: {os.strerror(error.errno)}\n"), error.errno

    def _place(self, word: str, directory: str) -> Path:
        return self.root / os.path.normpath(os.path.join(directory, word)).lstrip("/")  # noqa: PTH118 - surrogates

    def _run(self, request: FilesRequest, path: Path, *target: Path) -> bytes:
        match request.operation:
            case FileOperation.LIST:
                names = sorted(map(os.fsencode, os.listdir(path)))  # noqa: PTH208 - in bytes
                if len(names) > _MOST:
                    raise OSError(75, "too many entries")
                return b"".join(_described(path, name) for name in names) + end_record(len(names))
            case FileOperation.STAT:
                return _described(path, b"") + end_record(1)
            case FileOperation.REMOVE if path.is_dir() and not path.is_symlink():
                (shutil.rmtree if request.recursive else os.rmdir)(path)
            case FileOperation.REMOVE:
                path.unlink()
            case FileOperation.RENAME:
                path.rename(*target)
            case FileOperation.MKDIR:
                path.mkdir(parents=request.parents, exist_ok=request.parents)
        return b""


def _described(path: Path, name: bytes) -> bytes:
    found = (path / os.fsdecode(name)).lstat()
    head = struct.pack(
        ">BBHIQqII",
        stat.S_IFMT(found.st_mode) >> 12,
        0,
        stat.S_IMODE(found.st_mode),
        len(name),
        found.st_size,
        found.st_mtime_ns,
        found.st_uid,
        found.st_gid,
    )
    return head + name
