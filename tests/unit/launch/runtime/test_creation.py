"""A start of a machine that waits is held against the record of its creation, wherever it is asked for."""

from dataclasses import replace

import pytest

from mvmnix.audit.record import Record, RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.runtime.creation import check_creation, create_home, creation_of, start_home
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines.status import MachineSource, MachineState, MachineStatus
from tests.unit.launch.house import House
from tests.unit.provenance.world import NOW

STATUS = MachineStatus(
    machine="0123456789ab",
    name="web",
    image="hello",
    plan=Digest.of(b"plan"),
    policy=Digest.of(b"policy"),
    manifest=Digest.of(b"manifest"),
    provenance=Digest.of(b"bundle"),
    state=MachineState.CREATED,
    created=NOW,
    origin=MachineSource(),
)
CREATION = creation_of(STATUS, NOW)
REFUSAL = Record(kind=RecordKind.REFUSAL, time=NOW, machine=STATUS.machine, reasons=("replay",))


def test_the_machine_that_was_created() -> None:
    check_creation(STATUS, (CREATION,))
    check_creation(STATUS, (REFUSAL, CREATION))
    check_creation(replace(STATUS, image="other"), (CREATION,))


@pytest.mark.parametrize(
    ("status", "records", "said"),
    [
        (STATUS, (), "no record of the creation"),
        (STATUS, (REFUSAL,), "no record of the creation"),
        (STATUS, (replace(CREATION, kind=RecordKind.START),), "a start of it"),
        (STATUS, (replace(CREATION, kind=RecordKind.START), CREATION), "a start of it"),
        (replace(STATUS, plan=Digest.of(b"x")), (CREATION,), "plan: expected"),
        (replace(STATUS, policy=Digest.of(b"x")), (CREATION,), "policy: expected"),
        (replace(STATUS, name="other"), (CREATION,), "name: expected"),
        (replace(STATUS, name=""), (CREATION,), "name: expected"),
        (STATUS, (replace(CREATION, digests={"other": Digest.of(b"web")}),), "name: expected None"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_another_one_is_refused(status: MachineStatus, records: tuple[Record, ...], said: str) -> None:
    with pytest.raises(RefusedError, match=said) as caught:
        check_creation(status, records)
    assert caught.value.codes == (ReasonCode.CREATION_MISMATCH,)


def test_all_that_differs_is_said_at_once() -> None:
    other = replace(STATUS, plan=Digest.of(b"x"), policy=Digest.of(b"x"), name="x")
    with pytest.raises(RefusedError) as caught:
        check_creation(other, (CREATION,))
    assert [reason.why.split(":")[0] for reason in caught.value.reasons] == ["plan", "policy", "digest of the name"]


def test_a_start_takes_a_recorded_machine_only(here: House) -> None:
    machines, host = here.directory("machines"), here.host()
    with here.plan() as plan:
        with start_home(plan, machines, NOW, "web", MachineSource()) as home:
            unrecorded = home.status.machine
        with pytest.raises(RefusedError) as caught:
            start_machine(plan, host, created=unrecorded)
        assert caught.value.codes == (ReasonCode.CREATION_MISMATCH,)
        assert [(record.kind, record.reasons) for record in here.log()] == [
            (RecordKind.REFUSAL, ("creation-mismatch",))
        ]
        with home.take(machines, unrecorded):
            pass  # its lock was let go of
        recorded = create_home(plan, machines, here.ledger(), now=NOW, name="db", origin=MachineSource())
        start_machine(plan, host, created=recorded).kill()
    assert [record.kind for record in here.log()[1:]] == [RecordKind.CREATION, RecordKind.START, RecordKind.END]
    assert {record.machine for record in here.log()[1:]} == {recorded}


def test_a_start_takes_the_plan_that_the_machine_was_created_from(here: House) -> None:
    machines, host = here.directory("machines"), here.host()
    with here.plan("true") as plan:
        machine = create_home(plan, machines, here.ledger(), now=NOW, name="web", origin=MachineSource())
    with here.plan("false") as other, pytest.raises(RefusedError) as caught:
        start_machine(other, host, created=machine)
    assert caught.value.codes == (ReasonCode.PLAN_MISMATCH,)
