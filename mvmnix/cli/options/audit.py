"""What the `mvm audit` commands share: which log, with whose key, and which exit code says what of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Self

import click

from mvmnix.api import EXPORT_LOG, Context, file_bytes, is_export, key_file
from mvmnix.audit.note import NoteKey
from mvmnix.audit.tail import NoLogError
from mvmnix.cli.output import answer, tell
from mvmnix.errors import MvmnixError, RefusedError, UnreadableError, UsageError
from mvmnix.keys import Algorithm, PublicKey, Role
from mvmnix.system.private_dirs import Directory

KEY_LIMIT = 65_536
KEY = click.option("--key", "key_path", default="", help="The host's public key, PEM. Default: this host's own.")
DIRECTORY = click.option(
    "--directory", type=click.Path(path_type=Path), help="A log or an export elsewhere. Default: this host's log."
)


class AuditVerdict(StrEnum):
    """What was found of a log."""

    VERIFIED = "verified"
    MISMATCH = "mismatch"
    UNSEALED = "unsealed-tail"
    NOT_FOUND = "not-found"

    @property
    def exit_code(self) -> int:
        """What a command exits with; 2 is kept for what could not be verified."""
        return {
            AuditVerdict.VERIFIED: 0,
            AuditVerdict.MISMATCH: 1,
            AuditVerdict.UNSEALED: 3,
            AuditVerdict.NOT_FOUND: 4,
        }[self]


@dataclass(slots=True)
class VerdictCode:
    """The exit code so far."""

    code: int = 0

    def not_found(self, what: str, *, as_json: bool = False, hint: str = "mvm audit tail shows what it has") -> int:
        """Say that something isn't there; returns the exit code."""
        if as_json:
            answer("log", {"verdict": AuditVerdict.NOT_FOUND, "what": what})
        tell(MvmnixError(what, hint=hint))
        self.code = AuditVerdict.NOT_FOUND.exit_code
        return self.code


@contextmanager
def audit_verdicts(*, as_json: bool = False, elsewhere: bool = False) -> Iterator[VerdictCode]:
    """Tell what is refused, and turn it into the exit code of a mismatch.

    `elsewhere`: it is about a log or an export that is not this host's own, whose hints would be about that.
    """
    verdict_code = VerdictCode()
    try:
        yield verdict_code
    except RefusedError as error:
        refused = _of_a_copy(error) if elsewhere else error
        if as_json:
            reasons = [{"code": reason.code, "what": reason.what, "why": reason.why} for reason in refused.reasons]
            answer("log", {"verdict": AuditVerdict.MISMATCH, "reasons": reasons})
        tell(refused)
        verdict_code.code = AuditVerdict.MISMATCH.exit_code
    except NoLogError as error:
        verdict_code.not_found(error.message, as_json=as_json, hint=error.hint)
    except (UnreadableError, UsageError):
        raise
    except MvmnixError as error:  # such as a key that is not there
        raise UnreadableError(error.message, hint=error.hint) from error


def _of_a_copy(error: RefusedError) -> RefusedError:
    hint = "compare the key with the host's; if it is right, keep this copy as evidence, and get another from the host"
    return RefusedError(*(replace(reason, hint=hint) for reason in error.reasons))


@dataclass(frozen=True, slots=True)
class AuditSource:
    """A log, or the export of one, and the key that it is checked with."""

    log: Directory
    key: PublicKey

    @property
    def note_key(self) -> NoteKey:
        """The key in the form that checkpoints are checked with."""
        return NoteKey.of_log(self.key.raw)

    @classmethod
    def of(cls, context: Context, key_path: str, directory: Path | None) -> Self:
        """What was named on the command line. Raises UsageError, UnreadableError, RefusedError."""
        key = public_key(context, key_path, elsewhere=directory is not None)
        return cls(context.audit if directory is None else _log_in(context, directory), key)


def _log_in(context: Context, path: Path) -> Directory:
    """The log in what `mvm audit export` wrote, or the directory as it is. Raises NoLogError, UsageError."""
    directory = open_named(context, path)
    if not is_export(directory):
        return directory
    if not directory.exists(EXPORT_LOG):
        hint = "check them with mvm audit verify --directory; an export without --machine has the log"
        raise NoLogError(f"{directory.path} holds proofs and no log", hint=hint)
    return context.keep(directory.existing(EXPORT_LOG))


def open_named(context: Context, directory: Path) -> Directory:
    """A directory that was named, open as long as the context is. Raises UsageError."""
    try:
        return context.keep(Directory.open(str(directory.resolve())))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{directory} is not a directory", hint="name the directory of an audit log") from error


def public_key(context: Context, key_path: str, *, elsewhere: bool = False) -> PublicKey:
    """The key that was named, or this host's own. Raises UsageError, MvmnixError.

    What is checked may be from `elsewhere`: then a key that was made now would be of no use.
    """
    if not key_path and elsewhere and not context.keys.exists(key_file(Role.HOST)):
        hint = "name the key of the host whose log it is, with --key: `mvm key show host` prints it there"
        raise UnreadableError("this host has no key of its own to check it with", hint=hint)
    if not key_path:
        _ = context.log_key  # which says what is wrong with a key that a log can't have
        return context.key(Role.HOST).public
    try:
        return log_key(file_bytes(key_path, KEY_LIMIT))
    except ValueError as error:
        raise UsageError(f"{key_path}: {error}", hint="give the output of `mvm key show host`") from error


def log_key(data: bytes) -> PublicKey:
    """A key in PEM that a log can have. Raises ValueError."""
    key = PublicKey.from_pem(data.decode())
    if key.algorithm is not Algorithm.ED25519:
        raise ValueError("a log's key is Ed25519")
    return key


def archive_key(context: Context, key_path: str, export: Directory, name: str) -> PublicKey:
    """The key to check an export with: the one that was named, or the one that came with it, which is then said."""
    if key_path:
        return public_key(context, key_path)
    try:
        key = log_key(export.read(name, KEY_LIMIT))
    except (FileNotFoundError, ValueError) as error:
        where = export.where(name)
        raise UnreadableError(
            f"{where} is not a key of a log: {error}", hint="name the host's key with --key"
        ) from error
    click.echo(f"the key came with the export; compare it with the host's: {key.fingerprint}", err=True)
    return key
