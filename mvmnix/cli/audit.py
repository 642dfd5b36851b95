"""`mvm audit`: reads and checks the audit log; the check needs the host's public key and nothing secret."""

import json
from pathlib import Path

import click

from mvmnix.audit.note import NoteKey
from mvmnix.audit.reading import records
from mvmnix.audit.verify import verify_log
from mvmnix.cli.house import House, file_bytes, house
from mvmnix.cli.telling import answer
from mvmnix.errors import UsageError
from mvmnix.keys import PublicKey
from mvmnix.state import Directory

_KEY_LIMIT = 65_536
_KEY = click.option("--key", "key_path", default="", help="The host's public key, PEM. Default: this host's own.")
_DIRECTORY = click.option("--directory", type=click.Path(path_type=Path), help="A log elsewhere. Default: this host's.")


def _log(rooms: House, key_path: str, directory: Path | None) -> tuple[Directory, NoteKey]:
    try:
        where = rooms.audit if directory is None else Directory.open(str(directory.resolve()))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{directory} is not a directory", hint="name the directory of an audit log") from error
    if not key_path:
        return where, rooms.log_key
    try:
        return where, NoteKey.of_log(PublicKey.from_pem(file_bytes(key_path, _KEY_LIMIT).decode()).raw)
    except ValueError as error:
        raise UsageError(f"{key_path}: {error}", hint="give the output of `mvm key show host`") from error


@click.group()
def audit() -> None:
    """Read and check the audit log: one record for each admission, refusal, start and end."""


@audit.command()
@click.option("--lines", "-n", default=20, show_default=True, type=click.IntRange(1), help="How many records.")
@_KEY
@_DIRECTORY
def tail(lines: int, key_path: str, directory: Path | None) -> None:
    """Print the last records, verified, one line of JSON each."""
    with house() as rooms:
        where, key = _log(rooms, key_path, directory)
        for listed in records(where, key, last=lines):
            click.echo(json.dumps({"index": listed.index} | json.loads(listed.record.line)))


@audit.command()
@click.option("--pinned", default="", help="A checkpoint kept elsewhere: finds a fork or a rollback too.")
@click.option("--json", "as_json", is_flag=True, help="Print what was verified as JSON.")
@_KEY
@_DIRECTORY
def verify(pinned: str, as_json: bool, key_path: str, directory: Path | None) -> None:
    """Check every record of the log against its signed checkpoint."""
    with house() as rooms:
        where, key = _log(rooms, key_path, directory)
        evidence = verify_log(where, key, file_bytes(pinned, _KEY_LIMIT) if pinned else None)
    checkpoint = evidence.checkpoint
    if as_json:
        answer("log", {"records": checkpoint.size, "root": str(checkpoint.root), "unsealedBytes": evidence.tail})
    else:
        click.echo(f"{checkpoint.size} records verify, root {checkpoint.root}")
