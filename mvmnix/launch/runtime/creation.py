"""Makes the directories of machines; records those of `mvm create`, and holds a start of one against that record.

What lies in the machine's directory is not signed: one who can write there could put another signed plan in the place
of the one that was created. The steps, which the code repeats by number:

1. the log has a record of the machine's creation, and none of its start since;
2. plan, policy and name in the machine's status are those of that record, the name by its digest.

A machine that an mvm made which did not record it yet is refused by step 1: it is made anew.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from mvmnix.audit.record import Journal, Record, RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError, UsageError, refuse
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.host import Host
from mvmnix.machines.machine_dir import MachineHome
from mvmnix.machines.status import MachineSource, MachineState, MachineStatus, new_id
from mvmnix.system.private_dirs import Directory

#: How the record names the digest of the machine's name, which may be empty.
NAME: Final = "name"


def creation_of(status: MachineStatus, time: datetime) -> Record:
    """The record that this machine was created."""
    return Record(
        kind=RecordKind.CREATION,
        time=time,
        machine=status.machine,
        plan=status.plan,
        policy=status.policy,
        digests={NAME: Digest.of(status.name.encode())},
    )


def check_creation(status: MachineStatus, records: Sequence[Record]) -> None:
    """Check a machine that waits against its records in the log, the last one first (`AuditLog.about`).

    Raises RefusedError [creation-mismatch] with all that differs.
    """
    started = any(record.kind is RecordKind.START for record in records)
    created = next((record for record in records if record.kind is RecordKind.CREATION), None)
    if started or created is None:  # 1
        raise RefusedError(
            _reason(status, f"the log has {'a start' if started else 'no record of the creation'} of it")
        )
    expected = creation_of(status, created.time)
    pairs = {
        "plan": (created.plan, expected.plan),
        "policy": (created.policy, expected.policy),
        "digest of the name": (created.digests.get(NAME), expected.digests[NAME]),
    }
    if differing := [
        f"{name}: expected {logged}, got {told}" for name, (logged, told) in pairs.items() if logged != told
    ]:
        raise RefusedError(*(_reason(status, why) for why in differing))  # 2


def take(plan: VerifiedPlan, host: Host, machine: str) -> MachineHome:
    """The directory of a machine that waits, with its lock.

    Raises UsageError, RefusedError [creation-mismatch, plan-mismatch].
    """
    home = MachineHome.take(host.machines, machine)
    try:
        check_creation(home.status, host.journal.about(machine))
        _check_plan(home.status, plan)
    except BaseException:
        home.close()
        raise
    return home


def create_home(
    plan: VerifiedPlan, machines: Directory, journal: Journal, *, now: datetime, name: str, origin: MachineSource
) -> str:
    """Make a machine that waits for its start, and record that; returns its id. Raises UsageError, as the log.

    Killed in between, it leaves a machine that `start` refuses.
    """
    with start_home(plan, machines, now, name, origin) as home:
        machine = home.status.machine
        try:
            journal.append(creation_of(home.status, now))
        except BaseException:
            home.remove(machines)
            raise
    return machine


def start_home(
    plan: VerifiedPlan, machines: Directory, now: datetime, name: str, origin: MachineSource | None = None
) -> MachineHome:
    """A new directory, with the lock; one with an `origin` stays without it. Raises UsageError for the name."""
    try:
        status = MachineStatus(
            machine=new_id(),
            name=name,
            image=plan.plan.image,
            plan=plan.digest,
            policy=plan.policy,
            state=MachineState.CREATED,
            created=now,
            manifest=plan.image.manifest.digest,
            provenance=plan.plan.provenance,
            labels=plan.plan.labels,
            origin=origin,
        )
    except ValueError as error:
        raise UsageError(str(error), hint="choose another name") from error
    return MachineHome.create(machines, status, plan.bundle)


def _check_plan(status: MachineStatus, plan: VerifiedPlan) -> None:
    if status.plan != plan.digest:
        why = f"the machine {status.machine} was created from another one: {status.plan}"
        hint = "remove that machine, and create one from this plan"
        raise refuse(ReasonCode.PLAN_MISMATCH, "the plan", why, hint)


def _reason(status: MachineStatus, why: str) -> Reason:
    hint = f"find out who can write to mvm's state directory; then `mvm rm {status.machine}`, and create another one"
    return Reason(ReasonCode.CREATION_MISMATCH, f"the machine {status.machine}", why, hint)
