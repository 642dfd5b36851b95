"""The figures that the project promises, as ratios within one run."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.admission import admission
from bench.fetching import fetching, own_pins
from bench.pairs import Pair, pair, spread
from bench.place import TRUE, Place
from bench.raw_qemu import RawQemu
from bench.session import in_one_vm


def process(place: Place, *argv: str) -> Callable[[], object]:
    """A process of the place's user that has to succeed."""

    def run() -> None:
        subprocess.run(argv, env=place.home.environment, cwd="/", check=True, capture_output=True)

    return run


class Rows:
    """A table of pairs."""

    def __init__(self, rounds: int) -> None:
        title = f"seconds: median (min to max); A B A B, {rounds} rounds or more"
        self.table = Table(title=title, show_lines=True)
        for heading in ("what", "ours", "compared with", "theirs", "difference", "ratio", "asked"):
            self.table.add_column(heading)

    def add(self, what: str, compared: str, found: Pair, asked: str) -> None:
        difference, ratio = spread(found.differences, "+.3f"), spread(found.ratios)
        self.table.add_row(what, str(found.ours), compared, str(found.theirs), difference, ratio, asked)


def admissions(console: Console, *, rounds: int) -> None:
    """Measure the launch gate alone, which needs no world."""
    table = Rows(rounds)
    what, compared = "ten admissions, root filesystem of 2 GiB", "the same, of 100 MiB"
    table.add(what, compared, admission(100, 2048, rounds=2 * rounds), "ratio under 1.2")
    console.print(table.table)


def fetches(console: Console, *, rounds: int) -> None:
    """Measure the fetcher alone, which needs no world."""
    table = Rows(rounds)
    _fetching(table, rounds)
    console.print(table.table)


def _fetching(table: Rows, rounds: int) -> None:
    for what, sizes, asked in (
        ("as large as our own pins", own_pins(), "ratio at most 1.3"),
        ("of 8 MiB", [8 << 20] * 16, "ratio at most 1.3"),
        ("of 100 B to 64 KiB", [100 + 131 * number for number in range(500)], "ratio at most 2.2"),
    ):
        table.add(f"fetch {len(sizes)} sources {what}", "curl --parallel", fetching(sizes, rounds=rounds), asked)


def sessions(place: Place, console: Console, *, rounds: int) -> None:
    """Measure sessions in a builder VM alone."""
    table = Rows(rounds)
    _sessions(table, place, rounds)
    console.print(table.table)


def _sessions(table: Rows, place: Place, rounds: int) -> None:
    what, compared = "evaluate + build examples/hello in one VM", "`nix build` typed in that VM"
    table.add(what, compared, in_one_vm(place, rounds=rounds), "ratio at most 1.2")


def figures(place: Place, console: Console, *, rounds: int) -> None:
    """Measure and print everything that takes minutes at most."""
    table = Rows(rounds)
    row = table.add

    raw = RawQemu.of(place.hello, *TRUE)
    row(
        "mvm run, cached image, `true`",
        "raw QEMU to the same point",
        pair(place.run_true, raw.run, rounds=rounds),
        "difference at most 0.5",
    )
    mvm = Path(sys.executable).with_name("mvm")
    click = process(place, sys.executable, "-c", "import click")
    version = pair(process(place, str(mvm), "--version"), click, rounds=3 * rounds)
    row("mvm --version", "python3 -c 'import click'", version, "ratio at most 1.4")
    row(
        "mvm build, finished already",
        "python3 -c 'import click'",
        pair(place.rebuild, click, rounds=rounds),
        "ours < 1.5",
    )
    _sessions(table, place, rounds)
    _fetching(table, rounds)
    console.print(table.table)
