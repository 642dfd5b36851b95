"""Turns a copy into a tar stream (POSIX pax), and a tar stream into a copy: files and directories, nothing else."""

import io
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Final, override

from mvmnix.errors import UsageError
from mvmnix.launch.copy.pack import Pack
from mvmnix.launch.copy.records import DEPTH, CopyKind, copy_refusal, is_name, record_head

_CHUNK: Final = 65536
#: Bytes of headers between the contents of two files: tarfile takes long names and maps of sparse files into memory.
_HEADERS: Final = 256 << 10


class TarWriter:
    """A receiver of a copy that writes it as a tar stream, in which `name` is what was asked for itself."""

    def __init__(self, write: Callable[[bytes], object], name: bytes) -> None:
        self._write = write
        self._root = name
        self._path: list[bytes] = []
        self._padding = 0

    def file(self, name: bytes, mode: int, size: int) -> None:
        """A header."""
        self._head(name, tarfile.REGTYPE, mode, size)
        self._padding = -size % tarfile.BLOCKSIZE

    def data(self, data: bytes) -> None:
        """As it is."""
        self._write(data)

    def file_end(self) -> None:
        """Up to a whole block."""
        self._write(bytes(self._padding))

    def enter(self, name: bytes, mode: int) -> None:
        """A header; what follows has its name in front."""
        self._head(name, tarfile.DIRTYPE, mode, 0)
        self._path.append(name or self._root)

    def leave(self) -> None:
        """Back to the directory above."""
        self._path.pop()

    def commit(self) -> None:
        """Two empty blocks end a tar stream."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))

    def _head(self, name: bytes, kind: bytes, mode: int, size: int) -> None:
        entry = tarfile.TarInfo(b"/".join([*self._path, name or self._root]).decode("utf-8", "surrogateescape"))
        entry.type, entry.mode, entry.size = kind, mode, size
        self._write(entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))


class _BoundedReader(io.BufferedIOBase):
    """A stream of which tarfile may read `left` bytes more."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.left = _HEADERS

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        """Read on. Raises RefusedError [copy-refused]."""
        data = self._stream.read(-1 if size is None else size)
        self.left -= len(data)
        if self.left < 0:
            raise copy_refusal(
                "standard input", f"more than {_HEADERS} bytes of headers, or a sparse file, in one place"
            )
        return data


def chunks(stream: IO[bytes], pack: Pack) -> Iterator[bytes]:
    """The records of a directory with what is in a tar stream, in whose order every directory comes once.

    Raises UsageError for what is no tar stream, RefusedError [copy-refused] for what is in none of ours.
    """
    path: tuple[bytes, ...] = ()
    yield record_head(CopyKind.DIRECTORY, mode=0o755)
    bounded = _BoundedReader(stream)
    try:
        with tarfile.open(fileobj=bounded, mode="r|") as archive:
            archive.stream = True  # entries that were read are not kept
            for entry in archive:
                bounded.left = _HEADERS
                names = _names(entry.name)
                if not names or not _is_wanted(entry, pack):
                    continue
                inside = names if entry.isdir() else names[:-1]
                yield from _moved(path, inside, pack, entry)
                path = inside
                if entry.isreg():
                    bounded.left += entry.size
                    yield from _file(archive, entry, names[-1], pack)
                    bounded.left = _HEADERS
    except (tarfile.TarError, IndexError, ValueError) as error:
        raise UsageError(f"standard input is not a tar stream: {error}", hint="an uncompressed one") from error
    yield from (record_head(CopyKind.LEAVE) for _ in path)
    yield record_head(CopyKind.LEAVE)
    yield record_head(CopyKind.END)


def _names(text: str) -> tuple[bytes, ...]:
    parts = [part for part in text.encode("utf-8", "surrogateescape").split(b"/") if part not in {b"", b"."}]
    if text.startswith("/") or not all(map(is_name, parts)) or len(parts) > DEPTH:
        raise copy_refusal(text, "it leads elsewhere than beneath the archive, or has a name that can't be one")
    return tuple(parts)


def _is_wanted(entry: tarfile.TarInfo, pack: Pack) -> bool:
    if (entry.isreg() and not entry.issparse()) or entry.isdir():
        return True
    if not pack.limits.leaves_out:
        raise copy_refusal(entry.name, "it is neither a file nor a directory; --leave-out goes on without them")
    pack.count(entry.name, 0)
    pack.skipped.append(entry.name)
    return False


def _moved(old: tuple[bytes, ...], new: tuple[bytes, ...], pack: Pack, entry: tarfile.TarInfo) -> Iterator[bytes]:
    """From one directory into another one, that has to be new."""
    common = next((n for n, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), None)
    common = min(len(old), len(new)) if common is None else common
    yield from (record_head(CopyKind.LEAVE) for _ in old[common:])
    for number, name in enumerate(new[common:], common + 1):
        pack.count(entry.name, 0)
        mode = entry.mode if entry.isdir() and number == len(new) else 0o755
        yield record_head(CopyKind.DIRECTORY, name, mode=mode & 0o777)


def _file(archive: tarfile.TarFile, entry: tarfile.TarInfo, name: bytes, pack: Pack) -> Iterator[bytes]:
    pack.count(entry.name, entry.size)
    yield record_head(CopyKind.FILE, name, mode=entry.mode & 0o777, size=entry.size)
    content = archive.extractfile(entry)
    left = entry.size
    while content is not None and left:
        data = content.read(min(left, _CHUNK))
        if not data:
            raise copy_refusal(entry.name, "the archive ends within it")
        left -= len(data)
        yield data
