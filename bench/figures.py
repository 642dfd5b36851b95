"""The figures that the project promises, as ratios within one run."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.admission import admission
from bench.fetching import fetching, own_pins
from bench.measurement import Figure, in_turns_with
from bench.pairs import pair
from bench.place import TRUE, Place
from bench.raw_qemu import RawQemu
from bench.session import in_one_vm


def process(place: Place, *argv: str) -> Callable[[], object]:
    """A process of the place's user that has to succeed."""

    def run() -> None:
        subprocess.run(argv, env=place.home.environment, cwd="/", check=True, capture_output=True)

    return run


def admissions(*, rounds: int) -> Iterator[Figure]:
    """Measure the launch gate alone, which needs no world."""
    what, compared = "ten admissions, root filesystem of 2 GiB", "the same, of 100 MiB"
    yield in_turns_with(what, compared, admission(100, 2048, rounds=2 * rounds), "ratio under 1.2")


def fetches(*, rounds: int) -> Iterator[Figure]:
    """Measure the fetcher alone, which needs no world."""
    for what, sizes, asked in (
        ("as large as our own pins", own_pins(), "ratio at most 1.3"),
        ("of 8 MiB", [8 << 20] * 16, "ratio at most 1.3"),
        ("of 100 B to 64 KiB", [100 + 131 * number for number in range(500)], "ratio at most 2.2"),
    ):
        found = fetching(sizes, rounds=rounds)
        yield in_turns_with(f"fetch {len(sizes)} sources {what}", "curl --parallel", found, asked)


def sessions(place: Place, *, rounds: int) -> Iterator[Figure]:
    """Measure sessions in a builder VM alone."""
    what, compared = "evaluate + build examples/hello in one VM", "`nix build` typed in that VM"
    yield in_turns_with(what, compared, in_one_vm(place, rounds=rounds), "ratio at most 1.2")


def figures(place: Place, *, rounds: int) -> Iterator[Figure]:
    """Measure everything that takes minutes at most."""
    raw = RawQemu.of(place.hello, *TRUE)
    yield in_turns_with(
        "mvm run, cached image, `true`",
        "raw QEMU to the same point",
        pair(place.run_true, raw.run, rounds=rounds),
        "difference at most 0.5",
    )
    mvm = Path(sys.executable).with_name("mvm")
    click = process(place, sys.executable, "-c", "import click")
    version = pair(process(place, str(mvm), "--version"), click, rounds=3 * rounds)
    yield in_turns_with("mvm --version", "python3 -c 'import click'", version, "ratio at most 1.4")
    yield in_turns_with(
        "mvm build, finished already",
        "python3 -c 'import click'",
        pair(place.rebuild, click, rounds=rounds),
        "ours < 1.5",
    )
    yield from sessions(place, rounds=rounds)
    yield from fetches(rounds=rounds)
