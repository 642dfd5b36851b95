"""The audit log with checkpoint anchors: hands each checkpoint of weight to them, and checks the log against theirs.

What is handed over: the checkpoints of admissions, starts, ends and a new log. When an anchor can't take one, that is
reported and recorded, once for each process. If the anchor is required, the admission or start is refused, so nothing
starts; an end has happened and is not.

Before one of them is written, the log is checked against the anchors: a log that was put back would grow past the size
that an anchor keeps, and its checkpoint would then pass for a later one. No admission or start is written to such a
log; an end is, and is handed to no anchor.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, override

from mvmnix.audit.anchors import Anchor
from mvmnix.audit.log import AuditLog, Entry, no_traces
from mvmnix.audit.note import Checkpoint, NoteError, NoteKey, Signer
from mvmnix.audit.reading import tree_at
from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.tail import (
    foreign_checkpoint,
    hold_writers,
    is_begun,
    log_mismatch,
    other_root,
    put_away,
    read_head,
    rolled_back,
)
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, refuse
from mvmnix.formats import strict
from mvmnix.plural import counted
from mvmnix.system.private_dirs import Directory


class ContradictedError(RefusedError):
    """What an anchor keeps and the log don't go together; a log that does not verify by itself is another matter."""


def check_against_anchor(directory: Directory, key: NoteKey, note: bytes) -> Checkpoint:
    """The log's own checkpoint, once the log is known to go on from the one in `note`, which was kept elsewhere.

    1. The note is a checkpoint of this log. 2. The end of the log verifies. 3. It has at least as many records as the
    anchor saw. 4. The first of them, as many as those, give the root that the anchor saw.

    Reads the segments from the last back to the one where the anchor's checkpoint ends, no others. Raises
    ContradictedError [log-mismatch] when the log is older than the anchor, forked from it or gone, or the note is no
    checkpoint of it, another RefusedError [log-mismatch] when the log doesn't verify.
    """
    try:
        seen = Checkpoint.verified(note, key)  # 1
    except NoteError as error:
        raise ContradictedError(foreign_checkpoint(directory, error)) from error
    if not is_begun(directory):
        raise ContradictedError(log_mismatch(directory, "the log is gone, of which a checkpoint was kept elsewhere"))
    with hold_writers(directory):
        head = read_head(directory, key)  # 2
    ours = head.checkpoint
    if seen.size > ours.size:  # 3
        raise ContradictedError(log_mismatch(directory, rolled_back(seen.size, ours.size)))
    if tree_at(directory, head, seen.size).root() != seen.root.raw:  # 4
        raise ContradictedError(log_mismatch(directory, f"it was forked: its {other_root(seen.size)}"))
    return ours


_HANDED: Final = frozenset({RecordKind.ADMISSION, RecordKind.START, RecordKind.END, RecordKind.NEW_LOG})
_HINT: Final = "repair it, or change [[anchors]] in config.toml"


class AnchoredLog(AuditLog):
    """A log whose checkpoints others keep. `notice` takes a line of prose for the user."""

    def __init__(
        self,
        directory: Directory,
        signer: Signer,
        anchors: Iterable[Anchor],
        notice: Callable[[str], None],
        traces: Callable[[], str] = no_traces,
    ) -> None:
        super().__init__(directory, signer, traces)
        self._key = signer.key
        self._anchors = tuple(anchors)
        self._notice = notice
        self._failed: set[str] = set()
        self._said: set[str] = set()

    @override
    def append(self, record: Record) -> Entry:
        """As AuditLog's.

        Raises RefusedError [log-mismatch] too, when an anchor has seen more or another past, and [anchor-unavailable]
        once the record itself is in the log.
        """
        handed = record.kind in _HANDED
        contradicted = self._contradicted() if handed else None
        if contradicted is not None and record.kind is not RecordKind.END:
            raise contradicted
        entry = super().append(record)
        if handed and contradicted is None:
            refusals = [self._hand(anchor, entry, record) for anchor in self._anchors]
            if (refused := [each for each in refusals if each is not None]) and record.kind is not RecordKind.END:
                raise RefusedError(*(reason for each in refused for reason in each.reasons)) from refused[0]
        return entry

    def check_anchors(self) -> None:
        """Check it against what its anchors keep. Raises as `check_against_all`; says nothing twice."""
        check_against_all(self._directory, self._key, self._anchors, self._say)

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._notice(line)

    def _contradicted(self) -> RefusedError | None:
        """What an anchor says against the log. Who can't be asked is told when something is handed over."""
        for anchor in self._anchors:
            with suppress(MvmnixError, OSError):
                note = anchor.latest()
                try:
                    if note is not None:
                        _checked(self._directory, self._key, anchor, note)
                except RefusedError as refused:
                    return refused
        return None

    def _hand(self, anchor: Anchor, entry: Entry, record: Record) -> RefusedError | None:
        """Hand a checkpoint over; says why not, and returns a refusal where the anchor is a required one."""
        try:
            anchor.take(entry.checkpoint, self._key)
        except (MvmnixError, OSError) as error:
            refused = unavailable(anchor, error)
            if anchor.name not in self._failed:
                self._failed.add(anchor.name)
                if record.kind is RecordKind.END or not anchor.required:  # otherwise the refusal says it
                    self._say(str(refused))
                super().append(_failure(anchor, record.time))
            return refused if anchor.required else None
        return None


def check_against_all(
    directory: Directory, key: NoteKey, anchors: Iterable[Anchor], notice: Callable[[str], None]
) -> None:
    """Check a log against what its anchors keep.

    Raises RefusedError [log-mismatch] when it is older than one of them or forked from it, [anchor-unavailable] when a
    required one can't be asked; of another one that is said.
    """
    for answer in ask_anchors(directory, key, anchors):
        if answer.refused is None:
            continue
        if answer.contradicts or answer.anchor.required:
            raise answer.refused
        notice(str(answer.refused))


@dataclass(frozen=True, slots=True)
class AnchorAnswer:
    """What an anchor said when it was asked; `refused` tells what is against the log, or why it can't be asked."""

    anchor: Anchor
    said: str
    refused: RefusedError | None = None

    @property
    def contradicts(self) -> bool:
        """Whether the log can't be what it should be, and not just unknown to the anchor."""
        return self.refused is not None and ReasonCode.LOG_MISMATCH in self.refused.codes


def ask_anchors(directory: Directory, key: NoteKey, anchors: Iterable[Anchor]) -> Iterator[AnchorAnswer]:
    """Ask each anchor what it says of a log. Changes nothing."""
    for anchor in anchors:
        try:
            note = anchor.latest()
        except (MvmnixError, OSError) as error:
            refused = unavailable(anchor, error)
            yield AnchorAnswer(anchor, f"can't be asked: {_why(refused)}", refused)
            continue
        if note is None:
            said = "keeps no checkpoint yet" if anchor.put_away else "takes checkpoints, and gives none back"
            yield AnchorAnswer(anchor, said)
            continue
        try:
            ours = _checked(directory, key, anchor, note)
        except RefusedError as refused:
            yield AnchorAnswer(anchor, f"can't vouch for the log: {_why(refused)}", refused)
        else:
            yield AnchorAnswer(
                anchor, f"has seen {Checkpoint.verified(note, key).size} of {counted(ours.size, 'record')}"
            )


def _why(refused: RefusedError) -> str:
    return "; ".join(reason.why for reason in refused.reasons)


def _checked(directory: Directory, key: NoteKey, anchor: Anchor, note: bytes) -> Checkpoint:
    """As `check_against_anchor`; names the anchor that objects, and how to begin anew."""
    try:
        return check_against_anchor(directory, key, note)
    except ContradictedError as error:
        (reason,) = error.reasons
        why = f"{reason.why}, says the anchor {anchor.name} ({anchor.where})"
        raise RefusedError(replace(reason, why=why, hint=_begin_anew(directory, anchor, error))) from error


def _begin_anew(directory: Directory, anchor: Anchor, error: ContradictedError) -> str:
    """What to do: the evidence is put away, not deleted."""
    away = f"`{anchor.put_away}`"
    if isinstance(error.__cause__, NoteError):
        return f"{error.hint}: {away}"
    log = f"`{put_away(directory)}`, " if is_begun(directory) else ""
    steps = f"{log}{away}, and the same for any other anchor that objects"
    return f"find out who changed it; until then nothing starts. To begin a new log, put all away as evidence: {steps}"


def unavailable(anchor: Anchor, error: MvmnixError | OSError) -> RefusedError:
    """What is said of an anchor that can't do its work."""
    hint = f"{error.hint}; or change [[anchors]] in config.toml" if isinstance(error, MvmnixError) else _HINT
    match error:
        case RefusedError():
            why = "; ".join(f"{reason.what}: {reason.why}" for reason in error.reasons)
        case MvmnixError():
            why = ": ".join(error.message.splitlines())
        case _:
            why = f"{anchor.where}: {error.strerror}"
    refused = refuse(ReasonCode.ANCHOR_UNAVAILABLE, f"the log's anchor {anchor.name}", why, hint)
    refused.__cause__ = error
    return refused


def _failure(anchor: Anchor, time: datetime) -> Record:
    """That a checkpoint could not be handed over; the anchor is named by the digest of its name.

    The digest's name in the record is the one that it had first, so that old and new records read alike.
    """
    name = Digest.of(strict.canonical(anchor.name))
    reasons = (ReasonCode.ANCHOR_UNAVAILABLE,)
    return Record(kind=RecordKind.ANCHOR, time=time, digests={"witness": name}, reasons=reasons)
