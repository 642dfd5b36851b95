"""The status file: what is written is read back, everything else is refused."""

import dataclasses
from datetime import UTC, datetime

import pytest

from mvmnix.digest import Digest
from mvmnix.machines.ending import EndReason
from mvmnix.machines.status import MachineSource, MachineState, MachineStatus, is_id

STATUS = MachineStatus(
    "0123456789ab",
    "web",
    "hello",
    Digest.of(b"plan"),
    Digest.of(b"policy"),
    Digest.of(b"manifest"),
    Digest.of(b"bundle"),
    MachineState.RUNNING,
    datetime(2026, 1, 2, tzinfo=UTC),
    "tcg",
)


@pytest.mark.parametrize(
    "status",
    [
        STATUS,
        dataclasses.replace(STATUS, name="", state=MachineState.CREATED, acceleration=""),
        dataclasses.replace(STATUS, state=MachineState.ENDED, reason=EndReason.GUEST_EXIT, exit_code=0),
        dataclasses.replace(STATUS, state=MachineState.ENDED, reason=EndReason.HYPERVISOR_DIED),
        dataclasses.replace(STATUS, labels={"tier": "web", "a/b": "ü =\u202e"}),
        dataclasses.replace(STATUS, state=MachineState.CREATED, acceleration="", origin=MachineSource()),
        dataclasses.replace(STATUS, origin=MachineSource("/a", "/b"), started=datetime(2026, 1, 3, tzinfo=UTC)),
    ],
)
def test_round_trip(status: MachineStatus) -> None:
    assert MachineStatus.parse(status.to_bytes()) == status


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"running"', b'"flying"'),
        (b'"0123456789ab"', b'"0123456789AB"'),
        (b'"0123456789ab"', b'"../../../etc"'),
        (b'"web"', b'"../web"'),
        (b'"web"', b'"fedcba987654"'),
        (b'"web"', b'"web","more":1'),
        (b'"web"', b'"web","labels":{}'),
        (b'"web"', b'"web","labels":{"A":"b"}'),
        (b'"2026', b'"x026'),
        (b"{", b"["),
    ],
)
def test_other_bytes_are_refused(old: bytes, new: bytes) -> None:
    data = STATUS.to_bytes()
    assert old in data
    with pytest.raises(ValueError):
        MachineStatus.parse(data.replace(old, new, 1))


def test_a_machine_only_goes_forward_unless_it_was_paused_or_did_not_start() -> None:
    states = list(MachineState)
    for index, state in enumerate(states):
        before = {other for other in states[: index + 1] if state.may_become(other)}
        back = {MachineState.PAUSED: MachineState.RUNNING, MachineState.STARTING: MachineState.CREATED}
        assert before == ({back[state]} if state in back else set())
        assert state.may_become(MachineState.ENDED) == (state not in {MachineState.CREATED, MachineState.ENDED})


def test_ids() -> None:
    assert is_id("0123456789ab")
    assert not is_id("0123456789a")
    assert not is_id("0123456789ab\n")
    assert not is_id("0123456789aB")
