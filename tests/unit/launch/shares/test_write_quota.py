"""What a guest writes to its shares, counted: of whom, when it is too much, and what happens where nobody can."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, override

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.gate.nonces import Nonces
from mvmnix.launch.gate.replay import nonce_of
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.finalize import MachineFailedError
from mvmnix.launch.runtime.start import start_machine
from mvmnix.launch.shares import setup
from mvmnix.launch.shares.server import Server
from mvmnix.launch.shares.setup import ShareContext, Shares, WriteQuota
from mvmnix.machines.ending import EndReason
from mvmnix.model import User
from mvmnix.plan.limits import PlanLimits
from mvmnix.plan.share import Access, Share
from mvmnix.system import procfs
from mvmnix.system.loop import Loop, Timer
from tests.unit.launch.house import House, nowhere
from tests.unit.launch.null_sandbox import NullJail

OWNER = 61_006 if os.geteuid() == 0 else os.geteuid()
MANY = 1 << 30


class Steps(Loop):
    """Its time passes by steps alone."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Timer] = []

    @override
    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        self.waiting.append(super().after(seconds, callback))
        return self.waiting[-1]

    def step(self) -> None:
        """What waits is due."""
        due, self.waiting = self.waiting, []
        for timer in due:
            timer.fire()


@pytest.fixture
def loop() -> Iterator[Steps]:
    made = Steps()
    yield made
    made.close()


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(setup, "locate", lambda _: sys.executable)
    monkeypatch.setattr(Server, "start", lambda _: None)  # no process serves here: what it wrote is said by the test
    where = tmp_path.resolve() / "shared"
    where.mkdir()
    if os.geteuid() == 0:
        os.chown(where, OWNER, OWNER)
    return where


def limited(here: House, shared: Path, kib: int = 4, **changes: Any) -> VerifiedPlan:
    share = Share(str(shared), "/out", Access.READ_WRITE)
    return here.plan("sleep", "600", shares=(share,), limits=PlanLimits(shared_kib=kib), **changes)


def saying(monkeypatch: pytest.MonkeyPatch, *values: int | None) -> None:
    """Have servers say these, one after the other, and the last one from then on."""
    left = list(values)
    monkeypatch.setattr(Server, "written", lambda _: left.pop(0) if len(left) > 1 else left[0])


@pytest.mark.parametrize("last", [100, 101, MANY, None])
def test_it_is_said_once_when_it_is_too_much_or_nobody_knows(loop: Steps, last: int | None) -> None:
    said, values = list[str](), [0, 99, last]
    WriteQuota(loop, lambda: values.pop(0), 100, lambda: said.append("reached"))
    for seen in ([], [], ["reached"], ["reached"]):
        loop.step()
        assert said == seen
    assert loop.waiting == []


def test_who_has_cancelled_it_hears_nothing(loop: Steps) -> None:
    watch = WriteQuota(loop, lambda: MANY, 100, lambda: pytest.fail("it was said"))
    watch.cancel()
    loop.step()
    WriteQuota(loop, lambda: 0, 100, lambda: pytest.fail("it was said")).cancel()
    loop.step()


def test_what_can_be_written_is_bounded_and_counted(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that may be written together, and nothing that is only read."""
    jail, wanted = NullJail(), []
    for place, access in (("/a", Access.READ_WRITE), ("/b", Access.READ_WRITE), ("/c", Access.READ_ONLY)):
        wanted.append(Share(str(shared), place, access, follow=access is Access.READ_ONLY))
    made = Shares.ready(wanted, ShareContext(jail, 64, User(1000, 1000), (), 4096))
    assert [it.written for it in jail.services] == [4096, 4096, None]
    saying(monkeypatch, 10, 10, 1010, 2010)
    made.start()
    assert made.written() == 3020
    saying(monkeypatch, 5, None)
    assert made.written() is None
    made.close()


def test_without_a_limit_nothing_is_counted(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, None)
    jail = NullJail()
    share = Share(str(shared), "/a", Access.READ_WRITE)
    made = Shares.ready((share,), ShareContext(jail, 64, User(1000, 1000), ()))
    made.start()
    assert (made.written(), jail.services[0].written) == (0, None)
    made.close()


def test_a_machine_that_writes_too_much_is_ended(here: House, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its boot on: nothing is waited for."""
    saying(monkeypatch, 31, 4095, 4096)
    with limited(here, shared) as plan, pytest.raises(MachineFailedError, match="wrote more to its shares") as caught:
        start_machine(plan, here.host()).run(stdout=nowhere, stderr=nowhere)
    assert "--share-limit" in caught.value.hint
    assert here.receipts()[0].observed.reason is EndReason.SHARE_LIMIT
    assert here.log()[-1].reasons == (EndReason.SHARE_LIMIT,)


def test_a_kernel_that_counts_nothing_starts_nothing(
    here: House, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "counts_written", lambda: False)
    with limited(here, shared) as plan:
        with pytest.raises(RefusedError, match="/proc/PID/io") as caught:
            start_machine(plan, here.host())
        assert Nonces(here.directory("replay")).find(nonce_of(plan.plan)) is None, "it is spent"
    assert caught.value.codes == (ReasonCode.LIMIT_UNAVAILABLE,)
    assert [(it.kind, it.reasons) for it in here.log()] == [(RecordKind.REFUSAL, ("limit-unavailable",))]
    assert here.directory("machines").names() == ()


def test_a_server_that_can_not_be_counted_has_no_guest(
    here: House, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saying(monkeypatch, None)
    with limited(here, shared) as plan, pytest.raises(RefusedError, match="the server of /out") as caught:
        start_machine(plan, here.host())
    assert caught.value.codes == (ReasonCode.LIMIT_UNAVAILABLE,)
    assert [(it.kind, it.reasons) for it in here.log()] == [
        (RecordKind.START, ()),
        (RecordKind.REFUSAL, ("limit-unavailable",)),
        (RecordKind.END, (EndReason.NOT_STARTED,)),
    ]
