"""Finds out as whom an image means to run, in the image's own /etc/passwd and /etc/group; never as root.

passwd(5), group(5). Where the image says root, or nothing, which means root, the workload gets the unprivileged number.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from modules.oci.tarball import LayerError

#: Who runs what an image means to run as root: user and group alike.
UNPRIVILEGED: Final = 1000
#: Larger account files are refused, in bytes.
LIMIT: Final = 1 << 20

_SPEC: Final = re.compile(r"([A-Za-z0-9._][A-Za-z0-9._-]{0,63})?(?::([A-Za-z0-9._][A-Za-z0-9._-]{0,63}))?")
_MOST: Final = 2**32 - 2

type Read = Callable[[str], bytes]


def account(spec: str, read: Read) -> tuple[int, int]:
    """User and group for what `User` says in an image's configuration; `read` gives a file's bytes, b"" for none.

    Raises LayerError for a name that the image does not know.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise LayerError(f"the image's user is neither a name nor a number: {spec[:80]!r}")
    uid, gid = _user(match[1] or "0", read)
    if match[2]:
        gid = _group(match[2], read)
    return uid or UNPRIVILEGED, gid or UNPRIVILEGED


def _user(text: str, read: Read) -> tuple[int, int]:
    number = _number(text)
    for fields in _lines(read("etc/passwd"), 4):
        known = _number(fields[2]), _number(fields[3])
        if None not in known and (fields[0] == text if number is None else known[0] == number):
            return known[0] or 0, known[1] or 0
    if number is None:
        raise LayerError(f"the image's /etc/passwd has no user {text!r}")
    return number, 0


def _group(text: str, read: Read) -> int:
    number = _number(text)
    if number is not None:
        return number
    for fields in _lines(read("etc/group"), 3):
        found = _number(fields[2])
        if fields[0] == text and found is not None:
            return found
    raise LayerError(f"the image's /etc/group has no group {text!r}")


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text) and int(text) <= _MOST else None


def _lines(data: bytes, fields: int) -> Iterator[list[str]]:
    for line in data.decode(errors="replace").split("\n"):
        parts = line.split(":")
        if len(parts) >= fields:
            yield parts
