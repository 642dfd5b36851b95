"""`mvm audit`: reads, proves and exports the audit log; for a log elsewhere its public key is all that it takes."""

import json
import os
import re
from pathlib import Path

import click

from mvmnix.api import Context, StatementFinder, begin_new_log, file_bytes, find_machine, open_context, write_export
from mvmnix.audit.note import Checkpoint, NoteError
from mvmnix.audit.proof import ConsistencyProof, InclusionProof
from mvmnix.audit.reading import SealedRecord, last_records, leaf_hashes, records_backwards
from mvmnix.audit.tail import foreign_checkpoint, hold_writers, is_begun, no_log, read_head, rolled_back
from mvmnix.cli.commands.audit_verify import verify
from mvmnix.cli.options.audit import DIRECTORY, KEY, KEY_LIMIT, AuditSource, audit_verdicts
from mvmnix.cli.options.outputs import Destination, OutputType
from mvmnix.cli.output import TERMINAL, answer
from mvmnix.errors import ReasonCode, RefusedError, UsageError, refuse
from mvmnix.keys import Role
from mvmnix.output_files import NewDirectory, OutputFile
from mvmnix.plural import counted
from mvmnix.private_dirs import Directory
from mvmnix.strict import MAX_INTEGER

_OUT = click.option(
    "--out", default="-", type=OutputType(OutputFile, "FILE", prints=True), help="A file. Default: standard output."
)
_COUNT = click.IntRange(1)
_INDEX = re.compile("[0-9]{1,11}")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


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
@_JSON
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
        if not is_begun(place.log):
            raise no_log(place.log)
        with hold_writers(place.log):
            note = read_head(place.log, place.note_key).checkpoint.note
        out.write(note)
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
        if not is_begun(place.log):
            raise no_log(place.log)
        with hold_writers(place.log):
            head = read_head(place.log, place.note_key)
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
