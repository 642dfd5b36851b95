"""Opens the audit log and its witnesses, as config.toml names them."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress

from mvmnix.audit import (
    AuditLog,
    CommandWitness,
    FileWitness,
    GitWitness,
    NoteKey,
    Signer,
    Witness,
    WitnessAnswer,
    WitnessedLog,
    ask_witnesses,
)
from mvmnix.config import WitnessRule
from mvmnix.errors import ReasonCode, RefusedError, UsageError
from mvmnix.private_dirs import Directory

_DIRECTORY = "audit"


def witness(rule: WitnessRule) -> Witness:
    """One witness."""
    if rule.file:
        return FileWitness(rule.name, rule.required, rule.file)
    if rule.command:
        return CommandWitness(rule.name, rule.required, rule.command, rule.seconds)
    return GitWitness(rule.name, rule.required, rule.git, rule.branch, rule.seconds)


@contextmanager
def audit_directory(state: Directory) -> Iterator[Directory]:
    """The audit log's directory; a refusal that says that the log is gone leaves no empty one behind."""
    is_new = not state.exists(_DIRECTORY)
    with state.child(_DIRECTORY) as room:
        try:
            yield room
        except RefusedError as refused:
            if is_new and ReasonCode.LOG_MISMATCH in refused.codes:
                with suppress(OSError):  # it is not empty
                    os.rmdir(_DIRECTORY, dir_fd=state.fd)
            raise


def journal(
    directory: Directory,
    signer: Signer,
    rules: Iterable[WitnessRule],
    state: Directory,
    notice: Callable[[str], None],
) -> AuditLog:
    """The log, with its witnesses if it has any; `notice` is told of those that don't answer.

    `state` is searched for traces of an earlier log that is gone.
    """

    def traces() -> str:
        from mvmnix.launch.machines import LogTraces  # noqa: PLC0415 - asked for where there is no log

        return LogTraces.of(state).said

    if witnesses := tuple(map(witness, rules)):
        return WitnessedLog(directory, signer, witnesses, notice, traces)
    return AuditLog(directory, signer, traces)


def hold_against(log: Callable[[], AuditLog], rules: Collection[WitnessRule]) -> None:
    """Hold the log against what its witnesses keep, if it has any. Raises RefusedError, and what `log` raises."""
    if rules and isinstance(held := log(), WitnessedLog):
        held.hold()


def ask_witnesses_of(directory: Directory, key: NoteKey, rules: Iterable[WitnessRule]) -> Iterator[WitnessAnswer]:
    """What each witness says of the log."""
    return ask_witnesses(directory, key, map(witness, rules))


def kept_checkpoint(name: str, rules: Iterable[WitnessRule]) -> bytes:
    """The checkpoint that the witness of this name keeps. Raises UsageError, and what `latest` raises."""
    for rule in rules:
        if rule.name == name:
            note = witness(rule).latest()
            if note is None:
                raise UsageError(f"the witness {name} gives no checkpoint back", hint="name a file with --pinned")
            return note
    raise UsageError(f"config.toml names no witness {name!r}", hint="name a file, or a witness that is there")
