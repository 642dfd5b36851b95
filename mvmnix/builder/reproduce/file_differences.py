"""Looks into two files that should be the same: what differs within them, by programs in the sandbox.

Where diffoscope is installed, its report goes to the log as well. A file that no program can take apart is compared by
its blocks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Final

from mvmnix.builder.reproduce.comparison import Difference
from mvmnix.errors import MvmnixError
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.sandbox.trusted_executables import Candidates, locate
from mvmnix.system.store import Store

#: The unit in which files without a listing are compared, in bytes.
BLOCK: Final = 4096
_KINDS: Final = {b"f": "a file", b"d": "a directory", b"l": "a link"}
DIFFOSCOPE: Final = Candidates("diffoscope", ("/usr/bin/diffoscope",), "apt-get install diffoscope")
#: How many differences are named; and the most of diffoscope's report and of a listing that is read, in bytes.
MOST_DIFFERENCES: Final = 20
_REPORT: Final = 256 << 10
_LISTING: Final = 64 << 20
_BOUNDS: Final = Bounds(seconds=300)

# Both say one thing on stdout, so that what a file is called can't look like what is said of the next one.
_UNPACK: Final = 'fsck.erofs --extract=/work/root "$1" >&2; cd /work/root; '
_ENTRIES: Final = _UNPACK + rf"find . -mindepth 1 -printf '%y\0%m\0%l\0%p\0' | head -c {_LISTING}"
_HASHES: Final = _UNPACK + f"find . -type f -exec sha256sum --zero {{}} + | head -c {_LISTING}"
_DIFFOSCOPE: Final = (
    'status=0; "$1" --no-progress --text /work/report "$2" "$3" >&2 || status=$?; [ "$status" -le 1 ]; '
    'head -c "$4" /work/report'
)

type Log = Callable[[bytes], None]


def differences(it: Difference, images: Store, log: Log) -> str:
    """In words: what differs within a file that two builds made, both of which are in `images`."""
    if report := _diffoscope(it, images):
        log(report)
    named = _named(it, images) if it.name == "rootfs" else ()
    if not named:
        return blocks(images.stream(it.first.digest), images.stream(it.second.digest))
    more = f" and {len(named) - MOST_DIFFERENCES} more" if len(named) > MOST_DIFFERENCES else ""
    return f"in it, {'; '.join(named[:MOST_DIFFERENCES])}{more}"


def read(entries: bytes, hashes: bytes) -> dict[str, str]:
    r"""A listing from `find -printf '%y\0%m\0%l\0%p\0'` and `sha256sum --zero`. Raises ValueError for anything else.

    It maps a path to what is there, in words: a file is named by its mode and the digest of its contents, a symbolic
    link by where it leads.

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


def compare_listings(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[str, ...]:
    """What differs between two listings, a line for each path, sorted.

    >>> first, second = {"a": "of mode 644, sha256:1", "b": "x"}, {"a": "of mode 644, sha256:2", "c": "y"}
    >>> compare_listings(first, second)
    ('/a: other contents', '/b: in the first alone', '/c: in the second alone')
    """
    return tuple(
        _difference(path, first.get(path), second.get(path))
        for path in sorted({*first, *second})
        if first.get(path) != second.get(path)
    )


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


def _named(it: Difference, images: Store) -> tuple[str, ...]:
    """The files in two file systems that differ; none when they can't be listed, or hold the same."""
    try:
        return compare_listings(*(_listed(Path(images.where(each.digest))) for each in (it.first, it.second)))
    except (MvmnixError, ValueError):
        return ()  # what differs is said by blocks


def _listed(image: Path) -> dict[str, str]:
    sandbox = Sandbox(files={"/image": image}, bounds=_BOUNDS)
    return read(*(sandbox.script(script, "/image").stdout for script in (_ENTRIES, _HASHES)))


def _diffoscope(it: Difference, images: Store) -> bytes:
    try:
        program = locate(DIFFOSCOPE)
    except MvmnixError:
        return b""  # a report would be welcome, and what differs is said without it
    inside = [f"/{side}/{it.name}" for side in ("first", "second")]
    files = dict(zip(inside, (Path(images.where(each.digest)) for each in (it.first, it.second)), strict=True))
    sandbox = Sandbox(files=files | {"/program/diffoscope": Path(program)}, bounds=_BOUNDS)
    try:
        return sandbox.script(_DIFFOSCOPE, "/program/diffoscope", *inside, str(_REPORT)).stdout
    except MvmnixError as error:
        return f"mvm: diffoscope says nothing of {it.name}: {error}\n".encode()


def _hashed(line: bytes) -> tuple[bytes, str]:
    digest, found, path = line.partition(b"  ")
    if not found or len(digest) != 64:
        raise ValueError("malformed digest line")
    return path, digest.decode("ascii")


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def _difference(path: str, first: str | None, second: str | None) -> str:
    if first is None or second is None:
        return f"/{path}: in the {'second' if first is None else 'first'} alone"
    if first.partition(", sha256:")[0] == second.partition(", sha256:")[0]:
        return f"/{path}: other contents"
    return f"/{path}: {first.partition(',')[0]}, then {second.partition(',')[0]}"


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
