"""A host with all that machines need, and a hypervisor without a machine; plans are really signed and verified."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from mvmnix.audit.log import AuditLog
from mvmnix.audit.note import NoteKey, Signer
from mvmnix.audit.reading import last_records
from mvmnix.audit.record import Indexed, Record, RecordKind
from mvmnix.audit.tail import is_begun
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.formats import strict
from mvmnix.keys import PrivateKey, Role
from mvmnix.launch.agent.endpoints import Sink, Stdin
from mvmnix.launch.agent.requests import GuestConfig
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.codec import encode, parse
from mvmnix.launch.control.failure import Failure, parse_failure
from mvmnix.launch.control.server import Control
from mvmnix.launch.control.start_messages import Created
from mvmnix.launch.gate.clock import HostClock, Reading
from mvmnix.launch.gate.replay import LoggedStarts, Replay
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.means import OwnMeans
from mvmnix.launch.runtime.accelerator import KvmProbe
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.start import start_machine
from mvmnix.launch.runtime.supervisor import SupervisedEnd, supervise
from mvmnix.launch.snapshots.store import Snapshots
from mvmnix.launch.templates.store import Templates
from mvmnix.launch.templates.template import NOTHING_HELD
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.machines.machine_dir import LOCK, machine_ids
from mvmnix.machines.receipt import Receipt, from_statement
from mvmnix.model import Verb, Workload
from mvmnix.plan.plan import Accelerator, Timeouts
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.verify.authentication import authenticate
from mvmnix.system.loop import Loop
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.boot_watchdog import BootBudget
from tests.patience import EVENT_PATIENCE, PATIENCE, SHORT
from tests.unit.launch.fake_hypervisor import FakeHypervisor, Scenario
from tests.unit.launch.null_sandbox import NullJail
from tests.unit.provenance.world import HOST, NOW, World, new_world


def _machine(record: strict.Record) -> str:
    return record.text("machine")


def nowhere(data: bytes) -> None:
    """A sink for what nobody wants to see."""


def run_foreground(
    plan: VerifiedPlan, host: Host, *, stdout: Sink, stderr: Sink, stdin: Stdin = None, name: str = ""
) -> SupervisedEnd:
    """Run the plan's command in a new machine, under a supervisor, with these streams."""

    def work(machine: Machine, _control: Control) -> ExitStatus:
        return machine.run(stdout=stdout, stderr=stderr, stdin=stdin)

    start = partial(start_machine, plan, host, name=name)
    return supervise(plan, host, start, work, check=CallerCheck.of_this_process())


def detach(plan: VerifiedPlan, make_host: Callable[[], Host], *, name: str = "", created: str = "") -> str:
    """Run a machine in a process of its own, which isn't this one's child; its id, once its guest is ready.

    Raises what the start raised there.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be_supervisor(writing, plan, make_host, name, created)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as file:
        readers: dict[str, Callable[[strict.Record], str | Failure]] = {"failure": parse_failure, "created": _machine}
        said = parse(file.read(), readers)
    if isinstance(said, Failure):
        raise said.to_error()
    return said


def _be_supervisor(
    writing: int, plan: VerifiedPlan, make_host: Callable[[], Host], name: str, created: str
) -> NoReturn:
    def work(machine: Machine, _control: Control) -> ExitStatus:
        os.write(writing, encode(Created(machine.id)))
        os.close(writing)
        return machine.run(stdout=nowhere, stderr=nowhere, attached=False)

    try:
        os.setsid()
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in range(3):  # a reader of the test's own output waits for no machine
                os.dup2(null, fd)
            check = CallerCheck.of_this_process()
            host = make_host()
            start = partial(start_machine, plan, host, name=name, created=created)
            supervise(plan, host, start, work, check=check)
    except Exception as error:  # noqa: BLE001 - the test is told
        os.write(writing, encode(Failure.of(error)))
    finally:
        os._exit(0)


LOG_KEY = PrivateKey.generate()
#: What the clocks of a house say.
READING = Reading(NOW + timedelta(seconds=1), timedelta(hours=1), "this boot")


@dataclass
class House:
    """A host's directories and what it writes down."""

    path: Path
    world: World
    notices: list[str] = field(default_factory=list)
    reading: Reading = field(default=READING)
    check_anchors: Callable[[], None] = lambda: None
    opened: list[Directory] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)

    def directory(self, name: str) -> Directory:
        """One of its rooms, open until the house is left."""
        self.opened.append(Directory.create(str(self.path / name)))
        return self.opened[-1]

    def host(self, scenario: Scenario = Scenario.BOOTS, *, device: str = "/proc/nonexistent/kvm") -> Host:
        (root := self.path / "guest").mkdir(exist_ok=True)
        hypervisor = FakeHypervisor(scenario, root)
        self.loops.append(Loop())
        return Host(
            hypervisor=hypervisor,
            jail=NullJail(),
            kvm=KvmProbe(hypervisor, NullJail(), self.directory("cache"), device=device, seconds=EVENT_PATIENCE),
            journal=self.ledger(),
            sign=lambda payload: envelope.sign(payload, HOST).to_bytes(),
            machines=self.directory("machines"),
            replay=self.replay(),
            notice=self.notices.append,
            means=OwnMeans(),
            templates=Templates(self.directory("templates"), lambda: bytes(32), Digest("0" * 64), NOTHING_HELD),
            snapshots=Snapshots(self.directory("snapshots"), lambda: bytes(32)),
            clock=lambda: NOW + timedelta(seconds=1),
            loop=self.loops[-1],
        )

    def ledger(self) -> AuditLog:
        """The audit log, for whoever also reads it."""
        return AuditLog(self.directory("audit"), Signer.of_log(LOG_KEY.public.raw, LOG_KEY.sign))

    def replay(self) -> Replay:
        """As the command line wires it, by the house's clock."""
        return self.gate(self.directory("replay"))

    def gate(self, directory: Directory) -> Replay:
        """The same in a directory that the caller closes."""
        clock = HostClock(directory, self.notices.append, lambda: self.reading)
        check_anchors = lambda: self.check_anchors()  # noqa: E731, PLW0108 - a test may set it later
        return Replay(directory, clock=clock, starts=self.starts(), check_anchors=check_anchors)

    def starts(self) -> LoggedStarts:
        """Those in the log."""
        return LoggedStarts(self.directory("audit"), lambda: NoteKey.of_log(LOG_KEY.public.raw))

    def last_nonce(self) -> Digest | None:
        """That of the last start in the log."""
        found = self.starts().last()
        return None if found is None else found.nonce

    def plan(
        self,
        *argv: str,
        verbs: frozenset[Verb] = frozenset(),
        ports: tuple[int, ...] = (),
        boot_seconds: int = EVENT_PATIENCE,
        wall_seconds: int = PATIENCE,
        accelerator: Accelerator = Accelerator.ANY,
        **changes: Any,
    ) -> VerifiedPlan:
        """A verified plan to run this command."""
        work: Workload = replace(self.world.image.workload, argv=argv or ("/bin/echo", "planned"))
        self.world.sign_plan(
            workload=work,
            verbs=verbs,
            ports=ports,
            timeouts=Timeouts(boot_seconds, wall_seconds),
            accelerator=accelerator,
            **changes,
        )
        return self.verified()

    def verified(self) -> VerifiedPlan:
        """The plan that was signed last, through the gate."""
        return self.world.verified(self.path)

    def log(self) -> list[Record]:
        with self.directory("audit") as directory:
            if not is_begun(directory):
                return []
            return [it.record for it in last_records(directory, NoteKey.of_log(LOG_KEY.public.raw), last=1000)]

    def receipts(self) -> list[Receipt]:
        """The receipts of all machines, their signatures checked."""
        found = []
        for path in sorted(self.path.glob("machines/*/receipt.sigstore.json")):
            trust = self.world.policy.trust
            authentic = authenticate(path.read_bytes(), trust=trust, role=Role.HOST, what="the receipt")
            found.append(from_statement(statement.parse(authentic.payload)))
        return found


@contextmanager
def house(path: Path) -> Iterator[House]:
    path.mkdir(mode=0o700, exist_ok=True)
    made = House(path, new_world(path))
    try:
        yield made
    finally:
        for directory in made.opened:
            directory.close()
        for loop in made.loops:
            loop.close()


def end_machines(machines: Directory) -> None:
    """Kill the supervisors of a test's machines, but for this process: those that hold the machines' locks.

    What a machine says of itself isn't asked: a test may have damaged that.
    """
    for machine in machine_ids(machines):
        try:
            with machines.existing(machine) as kept:
                supervisor = kept.holder(LOCK)
        except (RefusedError, OSError):
            continue  # a file of the test's
        if supervisor is not None and supervisor != os.getpid():
            os.kill(supervisor, signal.SIGKILL)


class Unanchored:
    """A log whose required anchor doesn't take the record of a start, which is in the log then."""

    def __init__(self, host: Host) -> None:
        self._log = host.journal
        self.about, self.vouch = host.journal.about, host.journal.vouch

    def append(self, record: Record) -> Indexed:
        entry = self._log.append(record)
        if record.kind is RecordKind.START:
            raise refuse(ReasonCode.ANCHOR_UNAVAILABLE, "the log's anchor", "it is out of reach", "repair it")
        return entry


def hurry(monkeypatch: pytest.MonkeyPatch, boots: int = 1) -> None:
    """Have the first boots, which are to hang, given up at once; later ones have the time that their plan says."""
    hanging = iter(range(boots))

    def budget(seconds: float, began: float) -> BootBudget:
        return BootBudget(seconds if next(hanging, None) is None else SHORT, began)

    monkeypatch.setattr("mvmnix.vmm.boot_watchdog.BootBudget", budget)


def told_to(machine: Machine) -> GuestConfig:
    """What the guest of a running machine was told, but for its secrets."""
    config = machine._config
    assert config is not None
    return config
