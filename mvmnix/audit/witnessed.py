"""The audit log with witnesses: hands each new checkpoint of weight to them, and holds the log against what they keep.

What is handed over: the checkpoints of admissions, starts, ends and a new log. A witness that can't take one is said
and recorded, once for each process. If it is a required one, the admission or start that could not be witnessed is
refused, so nothing starts; an end has happened and is not.

Before one of them is written, the log is held against the witnesses: one that was put back would grow past the size
that a witness has seen, and its checkpoint would then pass for a later one. No admission or start is written to such a
log; an end is, and is handed to no witness.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, override

from mvmnix import strict
from mvmnix.audit.log import AuditLog, Entry, no_traces
from mvmnix.audit.note import Checkpoint, NoteError, NoteKey, Signer
from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.tail import is_begun
from mvmnix.audit.witness import ContradictedError, check_against_witness
from mvmnix.audit.witnesses import Witness
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, refuse
from mvmnix.model import Digest
from mvmnix.plural import counted
from mvmnix.private_dirs import Directory

_HANDED: Final = frozenset({RecordKind.ADMISSION, RecordKind.START, RecordKind.END, RecordKind.NEW_LOG})
_HINT: Final = "repair it, or change [[witnesses]] in config.toml"


class WitnessedLog(AuditLog):
    """A log whose checkpoints others keep. `notice` takes a line of prose for the user."""

    def __init__(
        self,
        directory: Directory,
        signer: Signer,
        witnesses: Iterable[Witness],
        notice: Callable[[str], None],
        traces: Callable[[], str] = no_traces,
    ) -> None:
        super().__init__(directory, signer, traces)
        self._key = signer.key
        self._witnesses = tuple(witnesses)
        self._notice = notice
        self._failed: set[str] = set()
        self._said: set[str] = set()

    @override
    def append(self, record: Record) -> Entry:
        """As AuditLog's.

        Raises RefusedError [log-mismatch] too, when a witness has seen more or another past, and [witness-unavailable]
        once the record itself is in the log.
        """
        handed = record.kind in _HANDED
        contradicted = self._contradicted() if handed else None
        if contradicted is not None and record.kind is not RecordKind.END:
            raise contradicted
        entry = super().append(record)
        if handed and contradicted is None:
            refusals = [self._hand(witness, entry, record) for witness in self._witnesses]
            if (refused := [each for each in refusals if each is not None]) and record.kind is not RecordKind.END:
                raise RefusedError(*(reason for each in refused for reason in each.reasons))
        return entry

    def hold(self) -> None:
        """Hold it against what its witnesses keep. Raises as `check_against_all`; says nothing twice."""
        check_against_all(self._directory, self._key, self._witnesses, self._say)

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._notice(line)

    def _contradicted(self) -> RefusedError | None:
        """What a witness says against the log. Who can't be asked is told when something is handed over."""
        for witness in self._witnesses:
            with suppress(MvmnixError, OSError):
                note = witness.latest()
                try:
                    if note is not None:
                        _held(self._directory, self._key, witness, note)
                except RefusedError as refused:
                    return refused
        return None

    def _hand(self, witness: Witness, entry: Entry, record: Record) -> RefusedError | None:
        """Hand a checkpoint over; says why not, and returns a refusal where the witness is a required one."""
        try:
            witness.take(entry.checkpoint, self._key)
        except (MvmnixError, OSError) as error:
            refused = unavailable(witness, error)
            if witness.name not in self._failed:
                self._failed.add(witness.name)
                if record.kind is RecordKind.END or not witness.required:  # otherwise the refusal says it
                    self._say(str(refused))
                super().append(_failure(witness, record.time))
            return refused if witness.required else None
        return None


def check_against_all(
    directory: Directory, key: NoteKey, witnesses: Iterable[Witness], notice: Callable[[str], None]
) -> None:
    """Hold a log against what its witnesses keep.

    Raises RefusedError [log-mismatch] when it is older than one of them or forked from it, [witness-unavailable] when a
    required one can't be asked; of another one that is said.
    """
    for heard in ask_witnesses(directory, key, witnesses):
        if heard.refused is None:
            continue
        if heard.contradicts or heard.witness.required:
            raise heard.refused
        notice(str(heard.refused))


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """What a witness said when it was asked; `refused` tells what is against the log, or why it can't be asked."""

    witness: Witness
    said: str
    refused: RefusedError | None = None

    @property
    def contradicts(self) -> bool:
        """Whether the log can't be what it should be, and not just unknown to the witness."""
        return self.refused is not None and ReasonCode.LOG_MISMATCH in self.refused.codes


def ask_witnesses(directory: Directory, key: NoteKey, witnesses: Iterable[Witness]) -> Iterator[WitnessAnswer]:
    """Ask each witness what it says of a log. Changes nothing."""
    for witness in witnesses:
        try:
            note = witness.latest()
        except (MvmnixError, OSError) as error:
            refused = unavailable(witness, error)
            yield WitnessAnswer(witness, f"can't be asked: {_why(refused)}", refused)
            continue
        if note is None:
            said = "keeps no checkpoint yet" if witness.put_away else "takes checkpoints, and gives none back"
            yield WitnessAnswer(witness, said)
            continue
        try:
            ours = _held(directory, key, witness, note)
        except RefusedError as refused:
            yield WitnessAnswer(witness, f"can't vouch for the log: {_why(refused)}", refused)
        else:
            yield WitnessAnswer(
                witness, f"has seen {Checkpoint.verified(note, key).size} of {counted(ours.size, 'record')}"
            )


def _why(refused: RefusedError) -> str:
    return "; ".join(reason.why for reason in refused.reasons)


def _held(directory: Directory, key: NoteKey, witness: Witness, note: bytes) -> Checkpoint:
    """As `check_against_witness`; names the witness that objects, and how to begin anew."""
    try:
        return check_against_witness(directory, key, note)
    except ContradictedError as error:
        (reason,) = error.reasons
        why = f"{reason.why}, says the witness {witness.name} ({witness.where})"
        raise RefusedError(replace(reason, why=why, hint=_begin_anew(directory, witness, error))) from error


def _begin_anew(directory: Directory, witness: Witness, error: ContradictedError) -> str:
    """What to do: the evidence is put away, not deleted."""
    away = f"`{witness.put_away}`"
    if isinstance(error.__cause__, NoteError):
        return f"{error.hint}: {away}"
    where = shlex.quote(directory.path)
    log = f"`mv {where} {where}.bad`, " if is_begun(directory) else ""
    steps = f"{log}{away}, and the same for any other witness that objects"
    return f"find out who changed it; until then nothing starts. To begin a new log, put all away as evidence: {steps}"


def unavailable(witness: Witness, error: MvmnixError | OSError) -> RefusedError:
    """What is said of a witness that can't do its work."""
    hint = f"{error.hint}; or change [[witnesses]] in config.toml" if isinstance(error, MvmnixError) else _HINT
    match error:
        case RefusedError():
            why = "; ".join(f"{reason.what}: {reason.why}" for reason in error.reasons)
        case MvmnixError():
            why = ": ".join(error.message.splitlines())
        case _:
            why = f"{witness.where}: {error.strerror}"
    return refuse(ReasonCode.WITNESS_UNAVAILABLE, f"the log's witness {witness.name}", why, hint)


def _failure(witness: Witness, time: datetime) -> Record:
    """That a checkpoint could not be handed over; the witness stands there by the digest of its name."""
    name = Digest.of(strict.canonical(witness.name))
    reasons = (ReasonCode.WITNESS_UNAVAILABLE,)
    return Record(kind=RecordKind.WITNESS, time=time, digests={"witness": name}, reasons=reasons)
