"""Snapshots for programs: taken of a machine, listed, removed; and machines of a program's that go on from one."""

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from mvmnix.api.context import open_context
from mvmnix.api.launch import StartOptions
from mvmnix.api.machine_store import put_in_order
from mvmnix.api.restores import FORKS_AT_ONCE, MOST_FORKS
from mvmnix.api.snapshot_store import open_snapshots
from mvmnix.api.snapshots import find_snapshot, list_snapshots, remove_snapshots
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.launch.control.calls import take_snapshot
from mvmnix.launch.control.drivers import Steps, together
from mvmnix.launch.control.start_messages import Mode
from mvmnix.launch.snapshots.statement import SnapshotClaim
from mvmnix.model import Verb
from mvmnix.sdk.arguments import between
from mvmnix.sdk.drive import work
from mvmnix.sdk.errors import Error, NotFound, translate
from mvmnix.sdk.machine import ENDED, Machine, OwnMachine, outcome_unknown, require
from mvmnix.sdk.preparation import Prepared, open_state, prepare_signed
from mvmnix.sdk.sandbox import retention, start_prepared


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """A kept snapshot, as its statement has it; nothing of it is verified before a machine goes on from it."""

    id: str
    """12 hexadecimal digits."""
    machine: str
    """The id of the machine that it is of."""
    image: str
    """The image's name."""
    created: datetime
    size: int
    """Bytes of the sealed file."""
    machine_ended: bool
    """Whether the machine ended with it."""


def facts(claim: SnapshotClaim) -> tuple[str, str, str, datetime, int, bool]:
    """Return the fields of `SnapshotFacts` for a claim."""
    return claim.id, claim.machine, claim.image, claim.created, claim.sealed_bytes, claim.ended_with


def take(machine: Machine, *, ends: bool) -> Steps[SnapshotClaim]:
    """Take a snapshot; with `ends` the machine ends with it, which is waited for. Raises NotGranted, PolicyRefused."""
    snapshot = yield from _take(machine, ends=ends)
    if ends:
        yield from machine.wait(None)
    return (yield from work(partial(_find, snapshot)))


def _take(machine: Machine, *, ends: bool) -> Steps[str]:
    """Take a snapshot, and return its id."""
    require(machine, Verb.SNAPSHOT)
    connection = yield from machine.connect()
    with connection:
        try:
            return (yield from take_snapshot(connection, ends=ends)).id
        except ENDED as error:
            raise outcome_unknown(machine.id) from error


def list_kept() -> Steps[tuple[SnapshotClaim, ...]]:
    """Return the snapshots that are kept, the newest first."""
    return (yield from work(_list))


def remove(snapshot: str) -> Steps[None]:
    """Remove a snapshot, its key first. Raises NotFound."""
    yield from work(partial(_remove, snapshot))


def restore(snapshot: str, name: str, *, private: bool, keep: bool) -> Steps[OwnMachine]:
    """Start a machine that goes on from a snapshot. Raises NotFound, NotVerified, PolicyRefused."""
    options = StartOptions(
        mode=Mode.HELD, name=name, private=private, retention=retention(keep=keep), snapshot=snapshot
    )
    return (yield from start_prepared(partial(_prepare, snapshot), options))


def fork(machine: Machine, count: int) -> Steps[tuple[OwnMachine | Error, ...]]:
    """Start machines that go on from where this one is, or why one doesn't. Raises as `take` does."""
    between(count, "count", 1, MOST_FORKS)
    snapshot = yield from _take(machine, ends=False)
    made = list[OwnMachine]()
    try:
        return (yield from together([_forked(snapshot, made) for _ in range(count)], FORKS_AT_ONCE))
    except BaseException:
        for each in made:
            each.hang_up()
        raise
    finally:
        with suppress(NotFound):  # another process has removed it
            _remove(snapshot)  # no step: a conversation that is closed takes none


def _forked(snapshot: str, made: list[OwnMachine]) -> Steps[OwnMachine | Error]:
    """A machine, which is added to those that are made; or why there is none."""
    try:
        machine = yield from restore(snapshot, "", private=False, keep=False)
    except MvmnixError as error:
        return translate(error)
    made.append(machine)
    return machine


def _prepare(snapshot: str, stack: ExitStack) -> Prepared:
    context = open_state(stack)
    put_in_order(context.roots, context.machines, context.frontend)
    try:
        bundle = stack.enter_context(open_snapshots(context).open(snapshot)).plan
    except UsageError as error:
        raise NotFound(error.message, hint=error.hint) from error
    return prepare_signed(context, bundle)


def _list() -> tuple[SnapshotClaim, ...]:
    with open_context() as context:
        return list_snapshots(context)


def _find(snapshot: str) -> SnapshotClaim:
    try:
        with open_context() as context:
            return find_snapshot(context, snapshot)
    except UsageError as error:
        why = f"the snapshot {snapshot} is gone already"
        raise NotFound(why, hint="it was removed by another process") from error


def _remove(snapshot: str) -> None:
    try:
        with open_context() as context:
            for _ in remove_snapshots(context, (snapshot,)):
                pass
    except UsageError as error:
        raise NotFound(error.message, hint=error.hint) from error
