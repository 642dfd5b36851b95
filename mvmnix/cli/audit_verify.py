"""`mvm audit verify`: checks a log, an export of one, or a proof out of one, and says in one word what it found."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from mvmnix.audit.head import NoLogError, is_begun, lost
from mvmnix.audit.note import NoteKey
from mvmnix.audit.proof import MAGIC, MAX_PROOF, ConsistencyProof, InclusionProof
from mvmnix.audit.reading import Listed
from mvmnix.audit.verify import LogEvidence, Visit, verify_log
from mvmnix.cli.audit_place import DIRECTORY, KEY, KEY_LIMIT, Place, Verdict, archive_key, opened, public_key, verdicts
from mvmnix.cli.house import House, file_bytes, house
from mvmnix.cli.telling import answer, notice
from mvmnix.cli.witnesses import heard, kept_by
from mvmnix.errors import Reason, RefusedError, UnreadableError, UsageError
from mvmnix.launch.records import archive
from mvmnix.launch.records.archive import Archive
from mvmnix.launch.records.registry import entries
from mvmnix.launch.records.traces import Traces
from mvmnix.launch.replay.clock import HostClock, looked_at
from mvmnix.launch.replay.unkept import Unkept
from mvmnix.plural import counted

_WITNESS = "witness:"


@click.command()
@click.option(
    "--pinned", default="", help="A checkpoint kept elsewhere, or witness:NAME: finds a fork or a rollback too."
)
@click.option("--proof", default="", help="Check a proof that `mvm audit prove` wrote, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print what was verified as JSON.")
@KEY
@DIRECTORY
def verify(pinned: str, proof: str, as_json: bool, key_path: str, directory: Path | None) -> int:
    """Check every record of the log against its seal; or an export, or a proof.

    Exit codes: 0 verified, 1 mismatch, 2 could not verify, 3 verified but for an unsealed tail, 4 not found.
    """
    if proof and directory is not None:
        raise UsageError("--proof and --directory exclude each other", hint="a proof is checked with the key alone")
    with house() as rooms, verdicts(as_json=as_json, elsewhere=directory is not None) as told:
        note = _pinned(rooms, pinned) if pinned else None
        if proof:
            key = NoteKey.of_log(public_key(rooms, key_path, elsewhere=True).raw)
            _proof(file_bytes(proof, MAX_PROOF), key, note, as_json=as_json)
            return told.code
        exported = None if directory is None else opened(rooms, directory)
        if exported is not None and archive.is_archive(exported):
            key_of_it = archive_key(rooms, key_path, exported, archive.KEY)
            if note is not None:
                raise UsageError("--pinned goes with a log", hint="name the directory `log` of the export, with --key")
            _archive(archive.check(exported, key_of_it), as_json=as_json)
            return told.code
        place = Place.of(rooms, key_path, directory)
        evidence = _own(rooms, place, note) if directory is None else verify_log(place.log, place.note_key, note)
        unended = _lost(rooms, evidence.unended) if directory is None else evidence.unended
        told.code = _log(evidence, unended, as_json=as_json)
    return told.code


def _pinned(rooms: House, text: str) -> bytes:
    """A checkpoint in a file, or with one of this host's witnesses."""
    name = text.removeprefix(_WITNESS)
    return file_bytes(text, KEY_LIMIT) if name == text else kept_by(name, rooms.config.witnesses)


def _witnesses(rooms: House, place: Place) -> list[Reason]:
    """Say what this host's witnesses say of its log; what contradicts it is returned."""
    against: list[Reason] = []
    try:
        rules = rooms.config.witnesses
    except RefusedError as error:  # which is no verdict on the log
        raise UnreadableError(error.message, hint=error.hint) from error
    for each in heard(place.log, place.note_key, rules):
        if each.contradicts and each.refused is not None:
            against += each.refused.reasons
        else:
            notice(f"the witness {each.witness.name} {each.said}")
    return against


def _own(rooms: House, place: Place, note: bytes | None) -> LogEvidence:
    """This host's own log, against its witnesses, what it had recorded elsewhere, and the nonces. Raises RefusedError.

    NoLogError where there is none, and never was one as far as can be told.
    """
    against = _witnesses(rooms, place)
    if not is_begun(place.log) and (traces := Traces.of(rooms.roots.state).said):
        against.append(lost(place.log, traces))
    starts = Unkept(rooms.nonces)
    evidence = _verified(place, note, against, starts.visit)
    if unkept := starts.reasons(_past(rooms)):
        raise RefusedError(*unkept)
    return evidence


def _past(rooms: House) -> datetime:
    """No nonce of a plan that was valid longer was forgotten. Raises RefusedError [clock-went-back, state-mismatch]."""
    with looked_at(rooms.nonces):
        return HostClock(rooms.nonces, notice).look().past


def _verified(place: Place, note: bytes | None, against: Sequence[Reason], visit: Visit) -> LogEvidence:
    """The whole log, unless a witness is against it. Raises RefusedError with all reasons, NoLogError."""
    try:
        evidence = verify_log(place.log, place.note_key, note, visit)
    except RefusedError as refused:
        found = [*refused.reasons, *(reason for reason in against if reason not in refused.reasons)]
        raise RefusedError(*found) from refused
    except NoLogError:
        if against:
            raise RefusedError(*against) from None
        raise
    if against:
        raise RefusedError(*against)
    return evidence


def _log(evidence: LogEvidence, lost: Sequence[Listed], *, as_json: bool) -> int:
    checkpoint = evidence.checkpoint
    verdict = Verdict.UNSEALED if evidence.tail else Verdict.VERIFIED
    if as_json:
        result = {"verdict": verdict, "records": checkpoint.size, "root": str(checkpoint.root)}
        answer("log", result | {"unsealedBytes": evidence.tail, "startsWithoutEnd": _indices(lost)})
    else:
        click.echo(f"{counted(checkpoint.size, 'record verifies', 'records verify')}, root {checkpoint.root}")
    if evidence.tail:
        said = f"{evidence.tail} bytes that no seal covers: a writer was interrupted; the next record sets them aside"
        click.echo(said, err=True)
    _tell_lost(lost)
    return verdict.exit_code


def _archive(found: Archive, *, as_json: bool) -> None:
    lost = _unended(found.records)
    if as_json:
        answer(
            "log",
            {
                "verdict": Verdict.VERIFIED,
                "records": len(found.records),
                "root": str(found.checkpoint.root),
                "whole": found.is_whole,
                "receipts": found.receipts,
                "missing": [str(digest) for digest in found.missing],
                "startsWithoutEnd": _indices(lost),
            },
        )
    else:
        records, receipts = counted(len(found.records), "record"), counted(found.receipts, "receipt")
        if not found.is_whole:
            records = f"{len(found.records)} of {counted(found.checkpoint.size, 'record')}"
        click.echo(f"{records} and {receipts} verify, root {found.checkpoint.root}")
    if found.missing:
        click.echo(f"{counted(len(found.missing), 'bundle')} that records name did not come with it", err=True)
    _tell_lost(lost)


def _proof(data: bytes, key: NoteKey, pinned: bytes | None, *, as_json: bool) -> None:
    if data.startswith(MAGIC.encode()):
        proven = InclusionProof.parse(data).verified(key)
        index, size = proven.listed.index, proven.checkpoint.size
        result = {"index": index, "record": proven.listed.record.line.decode()}
        line, root = f"record {index} of {size} is proven: {result['record']}", proven.checkpoint.root
    elif pinned is None:
        raise UsageError("which checkpoint does the log go on from?", hint="name the one that was kept, with --pinned")
    else:
        consistency = ConsistencyProof.parse(data)
        newer = consistency.verified(key, pinned)
        result, size, root = {"old": consistency.old}, newer.size, newer.root
        line = f"the log of {counted(size, 'record')} goes on from the {consistency.old} that were seen, root {root}"
    if as_json:
        answer("log", {"verdict": Verdict.VERIFIED, "records": size, "root": str(root)} | result)
    else:
        click.echo(line)


def _unended(records: Sequence[Listed]) -> tuple[Listed, ...]:
    ended = {listed.record.machine for listed in records if listed.record.kind == "end"}
    return tuple(one for one in records if one.record.kind == "start" and one.record.machine not in ended)


def _lost(rooms: House, unended: Sequence[Listed]) -> tuple[Listed, ...]:
    """Those starts without an end whose machine doesn't live, by the kernel's word."""
    living = {entry.status.machine for entry in entries(rooms.machines) if entry.alive} if unended else set()
    return tuple(listed for listed in unended if listed.record.machine not in living)


def _indices(lost: Sequence[Listed]) -> list[dict[str, object]]:
    return [{"machine": listed.record.machine, "record": listed.index} for listed in lost]


def _tell_lost(lost: Sequence[Listed]) -> None:
    for listed in lost:
        said = f"record {listed.index}: the machine {listed.record.machine} started, and no record tells its end"
        click.echo(said, err=True)
