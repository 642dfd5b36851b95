"""The only gate between a verified plan and its start: what makes a plan for once start once.

The steps, which the code repeats by number, are taken by one caller at a time in this state directory:

1. the log is as new as the checkpoint that its anchor keeps, if it has one: log-mismatch;
2. the clock isn't behind its mark (launch/gate/clock.py): clock-went-back;
3. what is kept here is as new as the log: the nonce of the last start that the log knows is here, spent last for that
   very machine, and the mark isn't behind what it was then: state-mismatch;
4. the plan's window isn't over meanwhile, so that its nonce can't have been forgotten: plan-expired;
5. the nonce wasn't spent before; that of a plan for more than once wasn't by another plan: replay. One that isn't kept
   here has no start in the log either, since the plan's window began: replay, or state-mismatch for a plan for more;
6. nonces whose plans can't start any more, whatever the clock says from now on, are forgotten, a few at a time;
7. the nonce is kept, durably, with what it is spent for.

Then the start is recorded, before another caller gets here. What fails from there on has spent the nonce all the same.
To learn only whether a plan would start, call `judge`: it takes steps 1 to 5 and changes nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from mvmnix.audit.note import NoteKey
from mvmnix.audit.reading import matching_records
from mvmnix.audit.record import RecordKind
from mvmnix.audit.tail import is_begun
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, UnreadableError, refuse
from mvmnix.formats.strict import MalformedError, show_time
from mvmnix.launch.gate.clock import TOLERANCE, HostClock, Moment, clock_lock, looked_at, state_mismatch, unusable_clock
from mvmnix.launch.gate.nonces import Nonces, Spent
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.plan import plan as plans
from mvmnix.plan.plan import Plan
from mvmnix.system.private_dirs import Directory

#: How a START record names the digest of its plan's nonce.
NONCE: Final = "nonce"
_WHAT: Final = "the plan"
_REPLAN: Final = "make and sign a plan anew: `mvm plan create`, `mvm plan sign`"


def nonce_of(plan: Plan, restored: Digest | None = None) -> Digest:
    """The digest under which a plan's nonce is kept and logged.

    A plan for once starts one machine at a time, which may end with a snapshot and go on from there: `restored` is the
    digest of that snapshot's statement, and such a start spends what stands for that instead, once.
    """
    if restored is not None and plan.use.is_single:
        return Digest.of(b"restored\0" + restored.raw)
    return Digest.of(plan.nonce.encode())


@dataclass(frozen=True, slots=True)
class LoggedStart:
    """A start that the log knows: its record's index, the digest of the nonce that it spent, and its machine."""

    index: int
    nonce: Digest
    machine: str | None


class Starts(Protocol):
    """The starts that an audit log has; `LoggedStarts` reads them."""

    def last(self) -> LoggedStart | None:
        """The last one with a nonce; None when there is none. Raises RefusedError [log-mismatch]."""

    def of(self, nonce: Digest, since: datetime) -> LoggedStart | None:
        """The last one that spent this nonce at that time or later; None when there is none. Raises as `last`."""


class LoggedStarts:
    """The starts in a host's own log, read from verified bytes."""

    def __init__(self, log: Directory, key: Callable[[], NoteKey]) -> None:
        """The directory stays the caller's to close; `key` is called once there is a log."""
        self._log = log
        self._key = key

    def last(self) -> LoggedStart | None:
        """Reads as far back as it must: one record or two after an orderly run."""
        return self._first(f'"kind":"{RecordKind.START}"', None)

    def of(self, nonce: Digest, since: datetime) -> LoggedStart | None:
        """Reads back to the first full segment all of whose records are older than `since` by TOLERANCE."""
        return self._first(f'"{NONCE}":"{nonce.hex}"', since - TOLERANCE)

    def _first(self, text: str, since: datetime | None) -> LoggedStart | None:
        found = matching_records(self._log, self._key(), text.encode(), since=since) if is_begun(self._log) else ()
        starts = (each for each in found if each.record.kind is RecordKind.START and NONCE in each.record.digests)
        return next((LoggedStart(it.index, it.record.digests[NONCE], it.record.machine) for it in starts), None)


@dataclass(frozen=True, slots=True)
class _Allowed:
    """What was found of a plan that may start: its nonce and statement, and what that nonce was spent for, if it was.

    `last` is the last start in the log.
    """

    moment: Moment
    last: LoggedStart | None
    nonce: Digest
    statement: Digest
    kept: Spent | None


class Replay:
    """What was started from this state directory, and the clock by which it is judged."""

    def __init__(
        self, directory: Directory, *, clock: HostClock, starts: Starts, check_anchors: Callable[[], None]
    ) -> None:
        """The directory, which is the clock's too, stays the caller's to close.

        `starts` are the log's; `check_anchors` raises RefusedError when the log is older than its anchors say.
        """
        self._directory = directory
        self._nonces = Nonces(directory)
        self._clock = clock
        self._starts = starts
        self._check_anchors = check_anchors

    @contextmanager
    def spending(self, plan: VerifiedPlan, machine: str, *, restored: Digest | None = None) -> Iterator[Digest]:
        """Spend a plan's nonce for a machine; inside, its start is recorded, with the digest that this hands out.

        `restored` is the digest of the statement of the snapshot from which it goes on. Raises RefusedError as the
        steps say, MvmnixError when the nonce can't be kept; what then follows is no start.
        """
        with clock_lock(self._directory):
            try:
                nonce = self._spend(plan.plan, machine, restored)
            except OSError as error:
                raise unusable_clock(self._directory, error) from error
            yield nonce

    def judge(self, plan: Plan) -> None:
        """Whether it would start now: raises as `spending`. Nothing is spent, kept, told or forgotten."""
        with looked_at(self._directory):
            try:
                self._allowed(plan, self._clock.look, None)
            except OSError as error:
                raise unusable_clock(self._directory, error) from error

    def _spend(self, plan: Plan, machine: str, restored: Digest | None) -> Digest:
        it = self._allowed(plan, self._clock.moment, restored)
        keep = frozenset({it.nonce} if it.last is None else {it.nonce, it.last.nonce})
        self._nonces.forget(it.nonce, before=it.moment.past, keep=keep)  # 6
        before = it.last.machine if it.last is not None and it.last.nonce == it.nonce else ""
        spent = Spent(it.statement, machine, it.moment.now, plan.window.not_after, it.moment.least, before)
        try:
            (self._nonces.spend if it.kept is None else self._nonces.renew)(it.nonce, spent)  # 7
        except FileExistsError as error:
            raise _replayed("it was spent just now") from error
        return it.nonce

    def _allowed(self, plan: Plan, read: Callable[[], Moment], restored: Digest | None) -> _Allowed:
        self._check_anchors()  # 1
        moment = read()  # 2
        last = self._starts.last()
        self._as_new_as_the_log(last, moment)  # 3
        _within_window(plan, moment.now)  # 4
        nonce, statement = nonce_of(plan, restored), Digest.of(plans.plan_statement(plan).to_bytes())
        return _Allowed(moment, last, nonce, statement, self._unspent(plan, nonce, statement))  # 5

    def _as_new_as_the_log(self, last: LoggedStart | None, moment: Moment) -> None:
        if last is None:
            return
        try:
            kept = self._nonces.find(last.nonce)
        except (MalformedError, UnreadableError) as error:
            raise state_mismatch(
                self._directory, f"the nonce of the last start is not what mvm writes: {error}"
            ) from error
        if kept is None:
            why = f"it is older than the log: the last start there spent a nonce ({last.nonce}) that isn't kept here"
            raise state_mismatch(self._directory, why)
        # a process that spent it and was killed before the log had the start left its own machine, and the one before
        if kept.before is not None and last.machine not in {kept.machine, kept.before}:
            why = f"it is older than the log: its last start was of machine {last.machine}, here of {kept.machine}"
            raise state_mismatch(self._directory, why)
        if moment.least < kept.least:
            why = f"the clock's mark is older than the last start, when it was {kept.least}: it is {moment.least}"
            raise state_mismatch(self._directory, why)

    def _unspent(self, plan: Plan, nonce: Digest, statement: Digest) -> Spent | None:
        """What the nonce was spent for, by this same plan for more than once; None when it wasn't spent."""
        try:
            kept = self._nonces.find(nonce)
        except (MalformedError, UnreadableError) as error:
            raise _replayed(f"it was spent, for what can't be read: {error}") from error
        if kept is None:
            self._no_start_of(plan, nonce)
            return None
        told = f"by machine {kept.machine} at {kept.time:%Y-%m-%d %H:%M:%S} UTC"
        if kept.plan != statement:
            raise _replayed(f"its nonce was spent by another plan ({kept.plan}), {told}")
        if plan.use.is_single:
            raise _replayed(f"it may start once, and its nonce was spent {told}")
        return kept

    def _no_start_of(self, plan: Plan, nonce: Digest) -> None:
        """That a nonce isn't kept means that it wasn't spent; where the log has a start with it, it was removed."""
        start = self._starts.of(nonce, plan.window.not_before)
        if start is None:
            return
        why = f"record {start.index} of the log is its start, as machine {start.machine}, and its nonce isn't kept here"
        if plan.use.is_single:
            raise _replayed(f"it may start once: {why}")
        raise state_mismatch(self._directory, f"it is not what the log says: of this plan, {why}")


def _within_window(plan: Plan, now: datetime) -> None:
    """Between verification and here this process may have waited for another."""
    if now >= plan.window.not_after:
        why = f"it was valid until {show_time(plan.window.not_after)}, and now it is {show_time(now)}"
        raise refuse(ReasonCode.PLAN_EXPIRED, _WHAT, why, _REPLAN)


def _replayed(why: str) -> RefusedError:
    return refuse(ReasonCode.REPLAY, _WHAT, why, _REPLAN)
