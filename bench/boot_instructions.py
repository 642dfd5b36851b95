"""Counts the instructions that a guest runs until its root is open, with what its boot is spared and without.

QEMU's clock counts instructions then (qemu(1), -icount), and the guest's kernel prints that clock: two boots of the
same files differ by a thousandth, where their seconds differ by a third.
"""

import gzip
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.measurement import Figure
from bench.place import TRUE, Place
from bench.raw_qemu import RawQemu

#: One instruction is a nanosecond, and a clock without instructions goes on at once.
_COUNTED: Final = ("-icount", "shift=0,sleep=off")
_KHZ: Final = 1_000_000
#: What the kernel says of each, with the seconds of its clock before it.
_ROOT_IS_OPEN: Final = re.compile(rb"\[ *([0-9.]+)\] erofs: .*: mounted")
_SKIPPED: Final = re.compile(r"initcall_blacklist=\S+")
_WHAT: Final = "instructions until the root is open"


def boot_instructions(place: Place, *, rounds: int) -> Iterator[Figure]:
    """Measure examples/hello as it is, and without each thing by which its boot is shorter; in millions."""
    raw = RawQemu.of(place.hello, *TRUE)
    line = raw.image.command_line
    without = {
        "every initcall runs": _SKIPPED.sub("", line),
        "only jent_mod_init is skipped": _SKIPPED.sub("initcall_blacklist=jent_mod_init", line),
        "self-tests of ciphers run": line.replace("cryptomgr.notests=1", ""),
    }
    ours = _counts(raw, line, rounds)
    yield Figure(_WHAT, "million", ours)
    for name, other in without.items():
        yield Figure(_WHAT, "million", ours, name, _counts(raw, other, rounds))
    with tempfile.NamedTemporaryFile() as packed:
        packed.write(gzip.compress((raw.directory / "initrd").read_bytes(), 9))
        packed.flush()
        theirs = _counts(replace(raw, initrd=Path(packed.name)), line, rounds)
    yield Figure(_WHAT, "million", ours, "the initrd is compressed", theirs)


def _counts(raw: RawQemu, line: str, rounds: int) -> tuple[float, ...]:
    return tuple(_millions(raw, line) for _ in range(rounds))


def _millions(raw: RawQemu, line: str) -> float:
    told = " ".join(word for word in line.split() if word != "quiet")
    with tempfile.NamedTemporaryFile() as console:
        options = (*_COUNTED, "-serial", f"file:{console.name}")
        image = replace(raw.image, command_line=f"{told} loglevel=7")
        replace(raw, image=image, options=options, tsc_khz=_KHZ).run()
        found = _ROOT_IS_OPEN.search(console.read())
    if found is None:
        raise RuntimeError("the guest's kernel said nothing of its root")
    return float(found[1]) * 1000
