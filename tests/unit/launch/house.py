"""A host with all that machines need, and a hypervisor without a machine; plans are really signed and verified."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from mvmnix.audit.log import AuditLog
from mvmnix.audit.note import NoteKey, Signer
from mvmnix.audit.reading import records
from mvmnix.audit.record import Record
from mvmnix.keys import PrivateKey, Role
from mvmnix.launch.accelerator import KvmProbe
from mvmnix.launch.host import Host
from mvmnix.launch.loop import Loop
from mvmnix.launch.plan import Accelerator, Timeouts
from mvmnix.launch.receipt import Receipt, from_statement
from mvmnix.launch.verify import VerifiedPlan, verify
from mvmnix.model import Verb, Workload
from mvmnix.provenance import envelope, statement
from mvmnix.provenance.authenticate import authenticate
from mvmnix.state import Directory
from tests.unit.launch.fake_hypervisor import FakeHypervisor, Scenario
from tests.unit.provenance.world import HOST, NOW, World, new_world


def nowhere(data: bytes) -> None:
    """A sink for what nobody wants to see."""


LOG_KEY = PrivateKey.generate()


@dataclass
class House:
    """A host's directories and what it writes down."""

    path: Path
    world: World
    notices: list[str] = field(default_factory=list)

    def directory(self, name: str) -> Directory:
        return Directory.create(str(self.path / name))

    def host(self, scenario: Scenario = Scenario.BOOTS, *, device: str = "/nonexistent/kvm") -> Host:
        hypervisor = FakeHypervisor(scenario)
        return Host(
            hypervisor=hypervisor,
            kvm=KvmProbe(hypervisor, self.directory("cache"), device=device, seconds=10),
            journal=AuditLog(self.directory("audit"), Signer.of_log(LOG_KEY.public.raw, LOG_KEY.sign)),
            sign=lambda payload: envelope.sign(payload, HOST).to_bytes(),
            machines=self.directory("machines"),
            notice=self.notices.append,
            clock=lambda: NOW + timedelta(seconds=1),
            loop=Loop(),
        )

    def plan(
        self,
        *argv: str,
        verbs: frozenset[Verb] = frozenset(),
        ports: tuple[int, ...] = (),
        boot_seconds: int = 60,
        wall_seconds: int = 60,
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
        world = self.world
        files = world.open(self.path)
        try:
            return verify(
                plan=world.plan_bundle,
                provenance=world.provenance_bundle,
                manifest=world.manifest,
                lock=world.lock,
                files=files,
                policy=world.policy,
                now=world.now,
            )
        finally:
            for fd in (files.kernel, files.initrd, files.rootfs):
                os.close(fd)

    def log(self) -> list[Record]:
        with self.directory("audit") as directory:
            if not directory.names():
                return []
            return [it.record for it in records(directory, NoteKey.of_log(LOG_KEY.public.raw), last=1000)]

    def receipts(self) -> list[Receipt]:
        """The receipts of all machines, their signatures checked."""
        found = []
        for path in sorted(self.path.glob("machines/*/receipt.sigstore.json")):
            authentic = authenticate(path.read_bytes(), policy=self.world.policy, role=Role.HOST, what="the receipt")
            found.append(from_statement(statement.parse(authentic.payload)))
        return found


@contextmanager
def house(path: Path) -> Iterator[House]:
    path.mkdir(mode=0o700, exist_ok=True)
    yield House(path, new_world(path))
