"""What warm starts take, against the same template restored by hand and against cold starts, and their memory."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.commands import plan
from bench.measurement import Figure, in_time, in_turns_with
from bench.memory import SETTLED, hypervisor_of, private, sizes_of, supervisor_of
from bench.pairs import Pair, in_turns
from bench.place import TRUE, Place
from bench.raw_qemu import PATIENCE, RawQemu
from bench.raw_template import RawTemplate
from mvmnix import Sandbox
from mvmnix.api.context import Context
from mvmnix.api.pools import list_pools
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.launch.control.drivers import run
from mvmnix.model import User, Workload
from mvmnix.system.roots import Roots

#: MiB of the machines that are claimed, how many wait, and starts in a row for each round of claims.
_CLAIMED_MIB, _WAITING, _ROUNDS_OF = 132, 2, 5
#: Looks at a pool.
_LOOKS = 600
#: Machines of one template whose memory is counted together.
_TWINS = 20
_RAW, _COLD, _RAW_OUTPUT = "raw restore", "mvm run, cold", "raw restore, first output"
_TRUE = ExecRequest(Workload(TRUE, {}, "/", User(1000, 1000)))


def warm(place: Place, *, rounds: int, starts: int) -> Iterator[Figure]:
    """Times and memory; `starts` machines are started in a row, whose growth is counted."""
    environment = place.home.environment
    os.environ.clear()
    os.environ.update(environment)  # `Sandbox` is the place's user's
    signed = place.home.path / "warm.sigstore.json"
    signed.write_bytes(plan(place))
    place.mvm("warm", place.tree / "examples/hello")
    place.mvm("warm", "image:open")  # the one of `plan`
    raw = RawQemu.of(place.hello, *TRUE)
    with RawTemplate(raw) as template:
        yield from _times(place, template, signed, rounds)
        yield from _memory(place, template, signed)
    yield from _starts(signed, starts)
    yield from _claims(place, signed, rounds=rounds, starts=starts)


def _times(place: Place, template: RawTemplate, signed: Path, rounds: int) -> Iterator[Figure]:
    hello = place.home.signed_plan(place.home.path, "./examples/hello", "--", *TRUE, cwd=place.tree)
    stack = ExitStack()

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
        yield in_turns_with(name, other, Pair(found[name], found[other]), asked)


def _memory(place: Place, template: RawTemplate, signed: Path) -> Iterator[Figure]:
    """Of hypervisors that do nothing, in MB."""
    with template.restored() as machine:
        time.sleep(SETTLED)
        theirs = sizes_of(machine.qemu.pid)
    with _boxes(signed, _TWINS) as boxes:
        time.sleep(SETTLED)
        ours = [sizes_of(hypervisor_of(supervisor_of(place, box.id))) for box in boxes]
    alone, by_hand = tuple(map(private, ours)), (private(theirs),) * len(ours)
    yield Figure("private memory of an idle warm machine", "MB", alone, _RAW, by_hand, "ratio at most 1.15")
    pss, rss = (sum(each[name] for each in ours) for name in ("Pss", "Rss"))
    yield Figure(f"PSS of {_TWINS} idle warm machines", "MB", (pss,), "their RSS", (rss,), "ratio at most 0.55")


def _starts(signed: Path, starts: int) -> Iterator[Figure]:
    seconds = []
    for _ in range(starts):
        begin = time.monotonic()
        with Sandbox.launch(signed) as box:
            box.exec(TRUE, check=True)
            seconds.append(time.monotonic() - begin)
    yield in_time(f"{starts} warm starts in a row, to the first output", seconds, unit="s")
    yield in_time("99 of 100 of these take at most", (sorted(seconds)[-1 - len(seconds) // 100],), unit="s")


def _claims(place: Place, signed: Path, *, rounds: int, starts: int) -> Iterator[Figure]:
    """A machine that waits, to the first output, against one that starts from its template, which is 4 MiB larger."""
    context = Context(Roots.from_environment(os.environ))
    claimed = place.home.path / "claimed.sigstore.json"
    claimed.write_bytes(plan(place, options=("--verb", "exec", "--memory", f"{_CLAIMED_MIB}M")))
    place.mvm("pool", "set", "image:open", "-n", f"{_WAITING}", "-m", f"{_CLAIMED_MIB}M")
    boxes = ExitStack()

    def first_output(of: Path) -> None:
        boxes.enter_context(Sandbox.launch(of)).exec(TRUE, check=True)

    def prepare(_: str) -> None:
        boxes.close()
        _wait_for_pool(context)

    with boxes, context:
        what, compared = "claim, first output", "Sandbox.launch, warm, first output"
        count = max(rounds, starts // _ROUNDS_OF)
        turns = {what: partial(first_output, claimed), compared: partial(first_output, signed)}
        found = in_turns(turns, rounds=count, prepare=prepare)
        yield in_turns_with(what, compared, Pair(found[what], found[compared]), "ratio at most 0.85")
        late, middle = sorted(found[what].seconds)[-1 - count // 100], found[what].median
        yield Figure("claim, first output, p99", "s", (late,), "its median", (middle,), "ratio at most 2")
    place.mvm("pool", "rm", "open")


def _wait_for_pool(context: Context) -> None:
    """Wait until all machines wait that are to."""
    for _ in range(_LOOKS):
        if all(each.waiting == each.count for each in run(list_pools(context))):
            return
        time.sleep(SETTLED / 10)
    raise RuntimeError("the machines of a pool don't wait")


@contextmanager
def _boxes(signed: Path, count: int) -> Iterator[list[Sandbox]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Sandbox.launch(signed)) for _ in range(count)]


def _ignored(_: bytes) -> None:
    """For output that counts for nothing."""
