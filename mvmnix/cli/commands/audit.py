"""`mvm audit`: reads, proves and exports the audit log; for a log elsewhere its public key is all that it takes."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import click

from mvmnix.api import (
    EXPORT_KEY,
    Archive,
    Context,
    OwnLog,
    StatementFinder,
    begin_new_log,
    check_export,
    check_own_log,
    file_bytes,
    find_machine,
    is_export,
    kept_checkpoint,
    open_context,
    unended_starts,
    write_export,
)
from mvmnix.audit.note import Checkpoint, NoteError, NoteKey
from mvmnix.audit.proof import MAGIC, MAX_PROOF, ConsistencyProof, InclusionProof
from mvmnix.audit.reading import SealedRecord, last_records, leaf_hashes, records_backwards
from mvmnix.audit.tail import Head, foreign_checkpoint, hold_writers, is_begun, no_log, read_head, rolled_back
from mvmnix.audit.verify import LogEvidence, verify_log
from mvmnix.cli.options.audit import (
    DIRECTORY,
    KEY,
    KEY_LIMIT,
    AuditSource,
    AuditVerdict,
    archive_key,
    audit_verdicts,
    open_named,
    public_key,
)
from mvmnix.cli.options.outputs import Destination, OutputType
from mvmnix.cli.output import TERMINAL, answer, json_option
from mvmnix.errors import ReasonCode, RefusedError, UsageError, refuse
from mvmnix.formats.strict import MAX_INTEGER
from mvmnix.keys import Role
from mvmnix.plural import counted
from mvmnix.system.output_files import NewDirectory, OutputFile
from mvmnix.system.private_dirs import Directory

_ANCHOR = "anchor:"
_FORMER = "witness:"


@click.command()
@click.option(
    "--pinned", default="", help="A checkpoint kept elsewhere, or anchor:NAME: finds a fork or a rollback too."
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
    with (
        open_context(TERMINAL) as context,
        audit_verdicts(as_json=as_json, elsewhere=directory is not None) as verdict_code,
    ):
        note = _read_pinned(context, pinned) if pinned else None
        if proof:
            key = NoteKey.of_log(public_key(context, key_path, elsewhere=True).raw)
            _proof(file_bytes(proof, MAX_PROOF), key, note, as_json=as_json)
            return verdict_code.code
        exported = None if directory is None else open_named(context, directory)
        if exported is not None and is_export(exported):
            key_of_it = archive_key(context, key_path, exported, EXPORT_KEY)
            if note is not None:
                raise UsageError("--pinned goes with a log", hint="name the directory `log` of the export, with --key")
            _archive(check_export(exported, key_of_it), as_json=as_json)
            return verdict_code.code
        place = AuditSource.of(context, key_path, directory)
        if directory is None:
            own = check_own_log(context, place.note_key, note)
            verdict_code.code = _log(own.evidence, own.lost, own, as_json=as_json)
        else:
            evidence = verify_log(place.log, place.note_key, note)
            verdict_code.code = _log(evidence, evidence.unended, as_json=as_json)
    return verdict_code.code


def _read_pinned(context: Context, text: str) -> bytes:
    """A checkpoint in a file, or with one of this host's anchors."""
    if text.startswith(_FORMER):
        name = text.removeprefix(_FORMER)
        raise UsageError(f"{_FORMER} is called {_ANCHOR} now", hint=f"--pinned {_ANCHOR}{name}, or ./{text} for a file")
    name = text.removeprefix(_ANCHOR)
    return file_bytes(text, KEY_LIMIT) if name == text else kept_checkpoint(name, context.config.anchors)


def _log(evidence: LogEvidence, lost: Sequence[SealedRecord], own: OwnLog | None = None, *, as_json: bool) -> int:
    checkpoint = evidence.checkpoint
    verdict = AuditVerdict.UNSEALED if evidence.tail else AuditVerdict.VERIFIED
    if as_json:
        result = {"verdict": verdict, "records": checkpoint.size, "root": str(checkpoint.root)}
        result |= {"unsealedBytes": evidence.tail, "startsWithoutEnd": _indices(lost)}
        kept = {} if own is None else {"receipts": own.receipts, "removed": own.removed, "missing": list(own.missing)}
        answer("log", result | kept)
    else:
        click.echo(f"{counted(checkpoint.size, 'record verifies', 'records verify')}, root {checkpoint.root}")
        if own is not None and (own.receipts or own.removed):
            receipts = counted(own.receipts, "receipt and its files agree", "receipts and their files agree")
            click.echo(f"{receipts}; of {counted(own.removed, 'machine')} that ended nothing is kept")
    for absent in () if own is None else own.missing:
        click.echo(f"{absent} is not kept any more", err=True)
    if evidence.tail:
        said = f"{evidence.tail} bytes that no seal covers: a writer was interrupted; the next record sets them aside"
        click.echo(said, err=True)
    _tell_lost(lost)
    return verdict.exit_code


def _archive(found: Archive, *, as_json: bool) -> None:
    lost = unended_starts(found.records)
    if as_json:
        answer(
            "log",
            {
                "verdict": AuditVerdict.VERIFIED,
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
        answer("log", {"verdict": AuditVerdict.VERIFIED, "records": size, "root": str(root)} | result)
    else:
        click.echo(line)


def _indices(lost: Sequence[SealedRecord]) -> list[dict[str, object]]:
    return [{"machine": listed.record.machine, "record": listed.index} for listed in lost]


def _tell_lost(lost: Sequence[SealedRecord]) -> None:
    for listed in lost:
        said = f"record {listed.index}: the machine {listed.record.machine} started, and no record tells its end"
        click.echo(said, err=True)


_OUT = click.option(
    "--out", default="-", type=OutputType(OutputFile, "FILE", prints=True), help="A file. Default: standard output."
)
_COUNT = click.IntRange(1)
_INDEX = re.compile("[0-9]{1,11}")


@click.group()
def audit() -> None:
    """Read and check the audit log: one record for each admission, refusal, start and end.

    Exit codes: 0 verified, 1 mismatch, 2 could not verify, 3 verified but for an unsealed tail, 4 not found.
    """


audit.add_command(verify)


@audit.command()
@click.option("--lines", "-n", default=20, show_default=True, type=_COUNT, help="How many records.")
@KEY
@DIRECTORY
def tail(lines: int, key_path: str, directory: Path | None) -> int:
    """Print the last records, verified, one line of JSON each."""
    with open_context(TERMINAL) as context, audit_verdicts(elsewhere=directory is not None) as verdict_code:
        place = AuditSource.of(context, key_path, directory)
        most = min(lines, MAX_INTEGER)  # more than any log holds is all of it
        for listed in last_records(place.log, place.note_key, last=most):
            click.echo(json.dumps(_shown(listed)))
    return verdict_code.code


@audit.command()
@click.argument("which", metavar="INDEX|MACHINE")
@json_option
@KEY
@DIRECTORY
def show(which: str, as_json: bool, key_path: str, directory: Path | None) -> int:
    """Print one record by its index, or all records about a machine, by its id or name; verified."""
    with (
        open_context(TERMINAL) as context,
        audit_verdicts(as_json=as_json, elsewhere=directory is not None) as verdict_code,
    ):
        place = AuditSource.of(context, key_path, directory)
        found = _found(place, which if _is_index(which) else _machine(context, which, directory))
        if not found:
            return verdict_code.not_found(f"the log has no record {which}", as_json=as_json)
        if as_json:
            answer("records", [_shown(listed) for listed in found])
        for listed in () if as_json else found:
            click.echo(json.dumps(_shown(listed)))
    return verdict_code.code


@audit.command()
@_OUT
@KEY
@DIRECTORY
def checkpoint(out: Destination, key_path: str, directory: Path | None) -> int:
    """Print the checkpoint that seals the log, a signed note, to be kept elsewhere."""
    with open_context(TERMINAL) as context, audit_verdicts(elsewhere=directory is not None) as verdict_code:
        place = AuditSource.of(context, key_path, directory)
        out.write(_head(place).checkpoint.note)
    return verdict_code.code


@audit.command()
@click.argument("index", type=click.IntRange(0), required=False)
@click.option("--pinned", default="", help="A checkpoint kept elsewhere: prove that the log goes on from it.")
@_OUT
@KEY
@DIRECTORY
def prove(index: int | None, pinned: str, out: Destination, key_path: str, directory: Path | None) -> int:
    """Print a proof that record INDEX is in the log, or that the log goes on from a checkpoint kept elsewhere.

    `mvm audit verify --proof FILE --key KEY` checks it, with nothing else.
    """
    if (index is None) == (not pinned):
        raise UsageError("one of INDEX and --pinned is needed, and not both", hint="mvm audit prove 0")
    with open_context(TERMINAL) as context, audit_verdicts(elsewhere=directory is not None) as verdict_code:
        place = AuditSource.of(context, key_path, directory)
        head = _head(place)
        note, leaves = head.checkpoint.note, leaf_hashes(place.log, head)
        if index is None:
            old = _pinned(file_bytes(pinned, KEY_LIMIT), place)
            if old.size > len(leaves):
                why = rolled_back(old.size, len(leaves))
                raise refuse(ReasonCode.LOG_MISMATCH, place.log.path, why, "keep both as evidence")
            out.write(ConsistencyProof.make(leaves, old.size, note).text)
        elif found := _found(place, str(index)):
            out.write(InclusionProof.make(leaves, index, found[0].record.line, note).text)
        else:
            return verdict_code.not_found(f"the log has no record {index}")
    return verdict_code.code


@audit.command()
@click.argument("target", metavar="DIRECTORY", type=OutputType(NewDirectory, "DIRECTORY"))
@click.option("--machine", default="", help="Only what is about this machine, by id or name, with a proof for each.")
def export(target: NewDirectory, machine: str) -> int:
    """Write the log into a new directory, with the bundles and receipts that it names and the host's public key.

    `mvm audit verify --directory DIRECTORY` checks it anywhere.
    """
    with open_context(TERMINAL) as context, audit_verdicts() as verdict_code:
        name = _machine(context, machine, None) if machine else ""
        if name and not any(
            listed.record.machine == name for listed in records_backwards(context.audit, context.log_key)
        ):
            return verdict_code.not_found(f"the log has no record about a machine {machine}")
        with target.make(0o700) as made, Directory(os.dup(made.fd), target.path) as place:
            found = write_export(
                place, context.audit, context.key(Role.HOST).public, StatementFinder(context).find, name
            )
        lacking = f"; {counted(len(found.missing), 'bundle is', 'bundles are')} kept no longer" if found.missing else ""
        counts = f"{counted(len(found.records), 'record')} and {counted(found.receipts, 'receipt')}"
        said = f"wrote {counts}, checked, to {target.path}{lacking}"
        click.echo(said, err=True)
    return verdict_code.code


@audit.command("new-log")
def new_log() -> None:
    """Begin a new log where there was one: it was moved away as evidence, or is lost. Its first record says so.

    That record has the digests of the lists of nonces and receipts that are here and that no record is about any more.
    """
    with open_context(TERMINAL) as context:
        origin, traces = begin_new_log(context)
    click.echo(f"began a new log, {origin}; it knows nothing of {traces or 'anything before'}", err=True)


def _head(place: AuditSource) -> Head:
    """The end of the log, read while no writer appends. Raises NoLogError."""
    if not is_begun(place.log):
        raise no_log(place.log)
    with hold_writers(place.log):
        return read_head(place.log, place.note_key)


def _machine(context: Context, text: str, directory: Path | None) -> str:
    """The id of a machine by its name, where its directory is still there; else what was typed."""
    try:
        return text if directory is not None else find_machine(context.machines, text).status.machine
    except UsageError:
        return text


def _is_index(text: str) -> bool:
    """Whether it is a number below those with as many digits as a machine's id, which may have digits only too."""
    return _INDEX.fullmatch(text) is not None


def _found(place: AuditSource, which: str) -> list[SealedRecord]:
    listed = records_backwards(place.log, place.note_key)
    if not _is_index(which):
        return [one for one in listed if one.record.machine == which][::-1]
    return [one for one in listed if one.index == int(which)]


def _shown(listed: SealedRecord) -> dict[str, object]:
    value: dict[str, object] = json.loads(listed.record.line)
    return {"index": listed.index} | value


def _pinned(note: bytes, place: AuditSource) -> Checkpoint:
    try:
        return Checkpoint.verified(note, place.note_key)
    except NoteError as error:
        raise RefusedError(foreign_checkpoint(place.log, error)) from error
