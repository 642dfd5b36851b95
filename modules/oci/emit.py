"""Writes a merged tree as one tar archive, sorted and without times, for mkfs.erofs; the same tree, the same bytes."""

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Final

from modules.oci.merge import Directory, File, Node, Symlink, nodes
from modules.oci.tarball import BLOCK, Kind

_CHUNK: Final = 1 << 20
#: What fits into ustar's fields; the rest goes into pax records.
_SHORT: Final = 99
_SMALL_ID: Final = 0o7777777


def emit(root: Directory, spools: Sequence[BinaryIO], write: Callable[[bytes], object]) -> None:
    """Write the archive of a tree. The second and later names of one file become hard links to its first."""
    first: dict[int, bytes] = {}
    for path, node in nodes(root):
        name = b"/".join(path) or b"."
        if isinstance(node, File) and id(node) in first:
            write(_header(name, Kind.HARD_LINK, node, link=first[id(node)]))
            continue
        match node:
            case Directory():
                write(_header(name, Kind.DIRECTORY, node))
            case Symlink():
                write(_header(name, Kind.SYMLINK, node, link=node.target))
            case File():
                first[id(node)] = name
                write(_header(name, Kind.FILE, node, size=node.size))
                for chunk in contents(node, spools):
                    write(chunk)
                write(bytes(-node.size % BLOCK))
    write(bytes(2 * BLOCK))


def contents(file: File, spools: Sequence[BinaryIO]) -> Iterator[bytes]:
    """The bytes of a file, in chunks."""
    spool, left = spools[file.spool], file.size
    spool.seek(file.offset)
    while left:
        chunk = spool.read(min(left, _CHUNK))
        if not chunk:
            raise OSError("a spool is shorter than it was")
        left -= len(chunk)
        yield chunk


def _header(name: bytes, kind: Kind, node: Node, *, link: bytes = b"", size: int = 0) -> bytes:
    mode = 0o777 if isinstance(node, Symlink) else node.mode
    records = [
        _record(key, value)
        for key, value, fits in (
            (b"path", name, len(name) <= _SHORT),
            (b"linkpath", link, len(link) <= _SHORT),
            (b"uid", b"%d" % node.uid, node.uid <= _SMALL_ID),
            (b"gid", b"%d" % node.gid, node.gid <= _SMALL_ID),
        )
        if not fits
    ]
    uid, gid = (value if value <= _SMALL_ID else 0 for value in (node.uid, node.gid))
    block = _block(name[:_SHORT], kind.value, size=size, mode=mode, uid=uid, gid=gid, link=link[:_SHORT])
    if not records:
        return block
    data = b"".join(records)
    return _block(b"pax", b"x", size=len(data)) + data + bytes(-len(data) % BLOCK) + block


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE` and a newline; the length counts itself (POSIX, pax)."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + len(b"%d" % len(rest))
    if len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d%s" % (length, rest)


def _block(
    name: bytes, flag: bytes, *, size: int, mode: int = 0o644, uid: int = 0, gid: int = 0, link: bytes = b""
) -> bytes:
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, 0)
    tail = b"%s%s%s" % (flag, link.ljust(100, b"\0"), b"ustar\x0000".ljust(BLOCK - 257, b"\0"))
    total = sum(head) + 8 * 0x20 + sum(tail)
    return head + b"%06o\0 " % total + tail
