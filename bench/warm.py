"""What warm starts take, against the same template restored by hand and against cold starts, and their memory."""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.commands import plan
from bench.figures import Rows
from bench.memory import SETTLED, private, sizes_of, supervisor_of
from bench.pairs import Pair, in_turns
from bench.place import TRUE, Place
from bench.raw_qemu import PATIENCE, RawQemu
from bench.raw_template import RawTemplate
from mvmnix import Sandbox
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.model import User, Workload
from mvmnix.system.procfs import children

#: Machines of one template whose memory is counted together.
_TWINS = 20
_RAW, _COLD, _RAW_OUTPUT = "raw restore", "mvm run, cold", "raw restore, first output"
_TRUE = ExecRequest(Workload(TRUE, {}, "/", User(1000, 1000)))


def warm(place: Place, console: Console, *, rounds: int, starts: int) -> None:
    """Print tables of times and memory; `starts` machines are started in a row, whose growth is counted."""
    environment = place.home.environment
    os.environ.clear()
    os.environ.update(environment)  # `Sandbox` is the place's user's
    signed = place.home.path / "warm.sigstore.json"
    signed.write_bytes(plan(place))
    place.mvm("warm", place.tree / "examples/hello")
    place.mvm("warm", "image:open")  # the one of `plan`
    raw = RawQemu.of(place.hello, *TRUE)
    with RawTemplate(raw) as template:
        _times(place, console, template, signed, rounds)
        _memory(place, console, template, signed)
    _starts(console, signed, starts)


def _times(place: Place, console: Console, template: RawTemplate, signed: Path, rounds: int) -> None:
    hello = place.home.signed_plan(place.home.path, "./examples/hello", "--", *TRUE, cwd=place.tree)
    stack, table = ExitStack(), Rows(rounds)

    def output_of_raw() -> None:
        machine = stack.enter_context(template.restored())
        machine.channel.exec(_TRUE, stdout=_ignored, stderr=_ignored, idle=PATIENCE)

    def output_of_sandbox() -> None:
        stack.enter_context(Sandbox.launch(signed)).exec(TRUE, check=True)

    found = in_turns(
        {
            _RAW: template.run,
            "mvm run, warm": place.run_true,
            "mvm launch, warm": lambda: place.mvm("launch", hello),
            _COLD: lambda: place.mvm("run", "--start", "cold", "./examples/hello", "--", *TRUE),
            _RAW_OUTPUT: output_of_raw,
            "Sandbox.launch, warm, first output": output_of_sandbox,
        },
        rounds=rounds,
        prepare=lambda _: stack.close(),
    )
    stack.close()
    for name, other, asked in (
        ("mvm run, warm", _RAW, "difference at most 0.35"),
        ("mvm launch, warm", _RAW, ""),
        (_COLD, "mvm run, warm", "ratio at least 3.2"),
        ("Sandbox.launch, warm, first output", _RAW_OUTPUT, "difference at most 0.15"),
    ):
        table.add(name, other, Pair(found[name], found[other]), asked)
    console.print(table.table)


def _memory(place: Place, console: Console, template: RawTemplate, signed: Path) -> None:
    """Of hypervisors that do nothing, in MB."""
    table = Table("what", "found", "asked", title="memory of idle warm machines")
    with template.restored() as machine:
        time.sleep(SETTLED)
        theirs = sizes_of(machine.qemu.pid)
    with _boxes(signed, _TWINS) as boxes:
        time.sleep(SETTLED)
        ours = [sizes_of(_hypervisor(supervisor_of(place, box.id))) for box in boxes]
    middle = statistics.median(map(private, ours))
    table.add_row("private, of raw's", f"{middle / private(theirs):.2f} ({middle:.0f} MB)", "at most 1.15")
    pss, rss = (sum(each[name] for each in ours) for name in ("Pss", "Rss"))
    table.add_row(f"PSS of RSS, {_TWINS} machines", f"{pss / rss:.2f} ({pss:.0f} of {rss:.0f} MB)", "0.55")
    console.print(table)


def _starts(console: Console, signed: Path, starts: int) -> None:
    seconds = []
    for _ in range(starts):
        begin = time.monotonic()
        with Sandbox.launch(signed) as box:
            box.exec(TRUE, check=True)
            seconds.append(time.monotonic() - begin)
    middle, late = statistics.median(seconds), sorted(seconds)[-1 - len(seconds) // 100]
    console.print(f"{starts} warm starts in a row: median {middle:.3f} s to the first output, p99 {late:.3f} s")


@contextmanager
def _boxes(signed: Path, count: int) -> Iterator[list[Sandbox]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Sandbox.launch(signed)) for _ in range(count)]


def _hypervisor(supervisor: int) -> int:
    """The QEMU below the two processes of its sandbox."""
    found = supervisor
    while below := list(children(found)):
        found = below[0]
    return found


def _ignored(_: bytes) -> None:
    """For output that counts for nothing."""
