"""A program that launches one plan many times over, in processes of their own, and says on stdout what became of each.

    python -m tests.integration.launches DIRECTORY crowd COUNT     all held just before the nonce is committed
    python -m tests.integration.launches DIRECTORY link COUNT      the same without the lock, held before link(2)
    python -m tests.integration.launches DIRECTORY killed          killed at each line on the way to the log

It is forked from one process, so that all have the same keys and the same verified plan, as a detached supervisor has.
"""

import json
import os
import resource
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from mvmnix.audit import log, segment
from mvmnix.audit.record import RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.gate import clock, nonces, replay
from mvmnix.launch.gate.nonces import Nonces, Spent
from mvmnix.launch.gate.replay import nonce_of
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.start import start_machine
from mvmnix.plan.plan import Use
from mvmnix.system import private_dirs
from tests.unit.launch.house import House, house, nowhere
from tests.unit.provenance.world import NOW

STARTED, REPLAYED, OTHER = 0, 3, 9
#: Where a process is killed: whatever changes the disk on the way to a start. Modules, since a path may go stale.
TRACED = frozenset(module.__file__ for module in (replay, nonces, clock, private_dirs, log, segment))
MACHINE = "a" * 12
#: What a start changes.
ROOMS = ("replay", "audit", "machines")


def ending(work: Callable[[], object]) -> NoReturn:
    """Do it, and end this process with what it came to."""
    status = OTHER
    try:
        work()
        status = STARTED
    except RefusedError as refused:
        status = REPLAYED if refused.codes == (ReasonCode.REPLAY,) else OTHER
    except FileExistsError:
        status = REPLAYED
    finally:
        os._exit(status)


class Barrier:
    """Holds processes until all are there."""

    def __init__(self) -> None:
        self._ready, self._arrive = os.pipe()
        self._leave, self._go = os.pipe()

    def wait(self) -> None:
        """Called in each of them."""
        os.close(self._go)
        os.write(self._arrive, b".")
        os.read(self._leave, 1)

    def release(self, count: int) -> None:
        """Called by their parent; returns when all were there and may go on."""
        os.close(self._arrive)
        arrived = 0
        while arrived < count and (said := os.read(self._ready, count)):
            arrived += len(said)
        if arrived < count:
            raise RuntimeError(f"only {arrived} of {count} came so far")
        os.close(self._go)


def at_once(count: int, work: Callable[[Barrier], object]) -> Counter[int]:
    """How so many processes ended that all did this."""
    barrier, children = Barrier(), []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            ending(lambda: work(barrier))
        children.append(child)
    barrier.release(count)
    return Counter(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


def crowd(here: House, count: int) -> Counter[int]:
    """Whole launches of one plan for once."""
    real = replay.Replay.spending
    with here.plan(use=Use.ONCE) as plan:

        def work(barrier: Barrier) -> None:
            def spending(
                it: replay.Replay, plan: VerifiedPlan, machine: str, *, restored: Digest | None = None
            ) -> AbstractContextManager[Digest]:
                barrier.wait()
                return real(it, plan, machine, restored=restored)

            replay.Replay.spending = spending  # type: ignore[method-assign,assignment]
            with start_machine(plan, here.host()) as machine:
                machine.run(stdout=nowhere, stderr=nowhere)

        return at_once(count, work)


def link(here: House, count: int) -> Counter[int]:
    """The commit by itself."""
    real = os.link

    def work(barrier: Barrier) -> None:
        def held(*arguments: Any, **more: Any) -> None:
            barrier.wait()
            real(*arguments, **more)

        os.link = held
        spent = Spent(Digest.of(b"plan"), MACHINE, NOW, NOW + timedelta(hours=1), NOW)
        Nonces(here.directory("replay")).spend(Digest.of(b"nonce"), spent)

    return at_once(count, work)


def killed_at(step: int) -> None:
    """Kill this process before the line number `step`, from now on, of the traced files."""
    lines = 0

    def trace(frame: FrameType, event: str, _argument: object) -> object:
        nonlocal lines
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            if lines == step:
                os.kill(os.getpid(), signal.SIGKILL)
            lines += 1
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]


def launch_killed(here: House, plan: VerifiedPlan, step: int) -> int:
    """Start it, but be killed on the way; how that process ended."""
    child = os.fork()
    if child == 0:
        real = replay.Replay.spending

        @contextmanager
        def spending(
            self: replay.Replay, plan: VerifiedPlan, machine: str, *, restored: Digest | None = None
        ) -> Iterator[Digest]:
            killed_at(step)
            with real(self, plan, machine, restored=restored) as nonce:
                yield nonce
            sys.settrace(None)

        replay.Replay.spending = spending  # type: ignore[method-assign]
        ending(lambda: start_machine(plan, here.host()).kill())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def spends(here: House, plan: VerifiedPlan) -> bool:
    """Whether the next process may spend its nonce."""
    with here.directory("replay") as directory:
        gate = here.gate(directory)
        try:
            with gate.spending(plan, MACHINE):
                return True
        except RefusedError as refused:
            if refused.codes != (ReasonCode.REPLAY,):
                raise
            return False


def found(here: House, plan: VerifiedPlan) -> str:
    """What a process that was killed left. Raises RuntimeError for what must not be."""
    with here.directory("replay") as directory:
        whole = Nonces(directory).find(nonce_of(plan.plan)) is not None
    logged = here.last_nonce() == nonce_of(plan.plan)
    if (logged and not whole) or spends(here, plan) == whole or spends(here, plan):
        raise RuntimeError(f"kept {whole}, logged {logged}")
    return f"{'spent' if whole else 'unspent'}{', logged' if logged else ''}"


def killed(here: House) -> dict[str, int]:
    """Every line, each time from the same state, until a start came through; counts what was found."""
    counts: Counter[str] = Counter()
    with here.plan(use=Use.ONCE) as before:
        start_machine(before, here.host()).kill()
    kept, status = here.path.with_name("kept"), -signal.SIGKILL
    for room in ROOMS:
        shutil.copytree(here.path / room, kept / room)
    with here.plan(use=Use.ONCE) as plan:
        while status == -signal.SIGKILL:
            for room in ROOMS:
                shutil.rmtree(here.path / room)
                shutil.copytree(kept / room, here.path / room)
            status = launch_killed(here, plan, counts.total())
            counts[found(here, plan)] += 1
    if status != STARTED:
        raise RuntimeError(f"a start that nobody killed ended with {status}")
    return dict(counts)


def told(here: House, ends: Counter[int]) -> dict[str, int]:
    """What became of them all, by how they ended, what was logged and what is left."""
    logged = here.log()
    return {
        "started": ends[STARTED],
        "replay": ends[REPLAYED],
        "logged": sum(it.kind is RecordKind.START for it in logged),
        "refusals": sum(it.kind is RecordKind.REFUSAL and it.reasons == (ReasonCode.REPLAY,) for it in logged),
        "kept": len(list((here.path / "replay").glob("??/*"))),
        "machines": sum(it.is_dir() for it in (here.path / "machines").glob("*")),
    }


def main() -> None:
    path, mode, *rest = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # the house holds what it opened until its end
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with house(Path(path)) as here:
        if mode == "killed":
            result = killed(here)
        else:
            result = told(here, {"crowd": crowd, "link": link}[mode](here, int(rest[0])))
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
