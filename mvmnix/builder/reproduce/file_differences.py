"""Looks into two files that should be the same: what differs within them, by programs in the sandbox.

Where diffoscope is installed, its report goes to the log as well. A file that no program can take apart is compared by
its blocks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from mvmnix.builder.reproduce import listing
from mvmnix.builder.reproduce.compare import Difference
from mvmnix.errors import MvmnixError
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.sandbox.trusted_executables import Candidates, locate
from mvmnix.store import Store

DIFFOSCOPE: Final = Candidates("diffoscope", ("/usr/bin/diffoscope",), "apt-get install diffoscope")
#: How many differences are named; and the most of diffoscope's report and of a listing that is read, in bytes.
MOST: Final = 20
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
        return listing.blocks(images.stream(it.first.digest), images.stream(it.second.digest))
    more = f" and {len(named) - MOST} more" if len(named) > MOST else ""
    return f"in it, {'; '.join(named[:MOST])}{more}"


def _named(it: Difference, images: Store) -> tuple[str, ...]:
    """The files in two file systems that differ; none when they can't be listed, or hold the same."""
    try:
        return listing.differences(*(_listed(Path(images.where(each.digest))) for each in (it.first, it.second)))
    except (MvmnixError, ValueError):
        return ()  # what differs is said by blocks


def _listed(image: Path) -> dict[str, str]:
    sandbox = Sandbox(files={"/image": image}, bounds=_BOUNDS)
    return listing.read(*(sandbox.script(script, "/image").stdout for script in (_ENTRIES, _HASHES)))


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
