"""`mvm audit verify`: checks a log, an export of one, or a proof out of one, and says in one word what it found."""

from collections.abc import Sequence
from pathlib import Path

import click

from mvmnix.api import (
    EXPORT_KEY,
    Archive,
    Context,
    check_export,
    check_own_log,
    file_bytes,
    is_export,
    kept_checkpoint,
    open_context,
    unended_starts,
)
from mvmnix.audit.note import NoteKey
from mvmnix.audit.proof import MAGIC, MAX_PROOF, ConsistencyProof, InclusionProof
from mvmnix.audit.reading import SealedRecord
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
from mvmnix.cli.output import TERMINAL, answer
from mvmnix.errors import UsageError
from mvmnix.plural import counted

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
        note = _pinned(context, pinned) if pinned else None
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
            evidence, unended = check_own_log(context, place.note_key, note)
        else:
            evidence = verify_log(place.log, place.note_key, note)
            unended = evidence.unended
        verdict_code.code = _log(evidence, unended, as_json=as_json)
    return verdict_code.code


def _pinned(context: Context, text: str) -> bytes:
    """A checkpoint in a file, or with one of this host's anchors."""
    if text.startswith(_FORMER):
        name = text.removeprefix(_FORMER)
        raise UsageError(f"{_FORMER} is called {_ANCHOR} now", hint=f"--pinned {_ANCHOR}{name}, or ./{text} for a file")
    name = text.removeprefix(_ANCHOR)
    return file_bytes(text, KEY_LIMIT) if name == text else kept_checkpoint(name, context.config.anchors)


def _log(evidence: LogEvidence, lost: Sequence[SealedRecord], *, as_json: bool) -> int:
    checkpoint = evidence.checkpoint
    verdict = AuditVerdict.UNSEALED if evidence.tail else AuditVerdict.VERIFIED
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
