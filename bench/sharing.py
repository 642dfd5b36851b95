"""Measures what a share takes on the host before a guest can begin, and a million files made by one guest; no boot."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import pack

from bench.measurement import Figure, in_time
from bench.pairs import pair
from mvmnix.plan.share import Access, Share
from tests.hostile.fuse_guest import ROOT, Op, guest, serving

_MANY = 1_000_000


def sharing(*, rounds: int) -> Iterator[Figure]:
    """Images and servers in turns, then the files."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-bench-") as name:
        for number, (files, size) in enumerate(((10, 1 << 10), (1000, 1 << 14), (16, 1 << 22), (9000, 1 << 12))):
            where = _filled(Path(name).resolve() / f"{number}", files, size)
            state = Path(name) / "state"
            found = pair(_imaged(state, where), _served(state, where), rounds=rounds)
            shown = f"{files} files of {size >> 10} KiB"
            yield in_time(f"image made of {shown}", found.ours.seconds)
            yield in_time(f"server's first answer for {shown}", found.theirs.seconds)
        yield from _many(Path(name).resolve())


def _filled(where: Path, files: int, size: int) -> Path:
    where.mkdir()
    for number in range(files):
        (where / f"{number}").write_bytes(os.urandom(size))
    return where


def _imaged(state: Path, where: Path) -> Callable[[], None]:
    def make() -> None:
        with serving(state, Share(str(where), "/data")):
            pass

    return make


def _served(state: Path, where: Path) -> Callable[[], None]:
    def answer() -> None:
        with serving(state, Share(str(where), "/data", follow=True)) as shares, guest(shares):
            pass

    return answer


def _many(base: Path) -> Iterator[Figure]:
    """Made, forgotten as a kernel does that is short of memory, and found again."""
    where = _filled(base / "many", 0, 0)
    with serving(base / "state", Share(str(where), "/data", Access.READ_WRITE)) as shares, guest(shares) as it:
        begin = time.monotonic()
        for number in range(_MANY):
            made = it.entry(Op.MKNOD, ROOT, pack("=IIII", 0o100644, 0, 0, 0) + b"%d\0" % number)
            it.forget(made.node)
        seconds = time.monotonic() - begin
        status = Path(f"/proc/{shares.servers[0]}/status").read_text(encoding="ascii")
        peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        found = sum(1 for _ in os.scandir(where))
        it.lookup(b"%d" % (_MANY - 1))
    yield Figure("files made by one guest", "", (float(found),))
    yield Figure("files made by one guest, a second", "", (_MANY / seconds,))
    yield Figure("server's peak beside them", "KiB", (float(peak),))
