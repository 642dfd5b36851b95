"""Compares what two file systems hold, and two files block by block; pure.

A listing maps a path to what is there, in words: a file is named by its mode and the digest of its contents, a
symbolic link by where it leads.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Final

#: The unit in which files without a listing are compared, in bytes.
BLOCK: Final = 4096
_KINDS: Final = {b"f": "a file", b"d": "a directory", b"l": "a link"}


def read(entries: bytes, hashes: bytes) -> dict[str, str]:
    r"""A listing from `find -printf '%y\0%m\0%l\0%p\0'` and `sha256sum --zero`. Raises ValueError for anything else.

    >>> read(b"l\x00777\x00busybox\x00./sh\0", b"")
    {'sh': 'a link to busybox'}
    """
    fields = entries.split(b"\0")
    if fields.pop() or len(fields) % 4:
        raise ValueError("a listing breaks off")
    digests = dict(_hashed(line) for line in hashes.split(b"\0") if line)
    listed: dict[str, str] = {}
    for kind, mode, target, path in zip(*(iter(fields),) * 4, strict=True):
        detail = f"to {_text(target)}" if kind == b"l" else f"of mode {_text(mode)}"
        if (kind == b"f") != (path in digests):
            raise ValueError("files and digests are not the same ones")
        contents = f", sha256:{digests[path]}" if kind == b"f" else ""
        listed[_text(path.removeprefix(b"./"))] = f"{_KINDS.get(kind, 'something else')} {detail}{contents}"
    return listed


def _hashed(line: bytes) -> tuple[bytes, str]:
    digest, found, path = line.partition(b"  ")
    if not found or len(digest) != 64:
        raise ValueError("malformed digest line")
    return path, digest.decode("ascii")


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[str, ...]:
    """What differs between two listings, a line for each path, sorted.

    >>> differences({"a": "a file of mode 644, sha256:1", "b": "x"}, {"a": "a file of mode 644, sha256:2", "c": "y"})
    ('/a: other contents', '/b: in the first alone', '/c: in the second alone')
    """
    return tuple(
        _difference(path, first.get(path), second.get(path))
        for path in sorted({*first, *second})
        if first.get(path) != second.get(path)
    )


def _difference(path: str, first: str | None, second: str | None) -> str:
    if first is None or second is None:
        return f"/{path}: in the {'second' if first is None else 'first'} alone"
    if first.partition(", sha256:")[0] == second.partition(", sha256:")[0]:
        return f"/{path}: other contents"
    return f"/{path}: {first.partition(',')[0]}, then {second.partition(',')[0]}"


def blocks(first: Iterable[bytes], second: Iterable[bytes]) -> str:
    """How many blocks of two files differ, and which is the first of them.

    >>> blocks([b"a" * 4096, b"b"], [b"a" * 4096 + b"c"])
    '1 of 2 blocks of 4096 bytes differ, the first at byte 4096'
    """
    different, where, total = 0, 0, 0
    for one, other in zip_longest(_cut(first), _cut(second)):
        if one != other:
            where = where if different else total * BLOCK
            different += 1
        total += 1
    return f"{different} of {total} blocks of {BLOCK} bytes differ, the first at byte {where}"


def _cut(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        whole = len(rest) // BLOCK * BLOCK
        for start in range(0, whole, BLOCK):
            yield rest[start : start + BLOCK]
        rest = rest[whole:]
    if rest:
        yield rest
