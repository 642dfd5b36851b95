"""Opens the audit log and its anchors, as config.toml names them."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from mvmnix.audit.anchored_log import AnchorAnswer, AnchoredLog, ask_anchors
from mvmnix.audit.anchors import Anchor, CommandAnchor, FileAnchor, GitAnchor
from mvmnix.audit.log import AuditLog
from mvmnix.audit.note import NoteKey, Signer
from mvmnix.config import AnchorRule
from mvmnix.errors import ReasonCode, RefusedError, UsageError
from mvmnix.system.private_dirs import Directory

#: The log's directory in the state directory.
DIRECTORY: Final = "audit"


def anchor(rule: AnchorRule) -> Anchor:
    """One anchor."""
    if rule.file:
        return FileAnchor(rule.name, rule.required, rule.file)
    if rule.command:
        return CommandAnchor(rule.name, rule.required, rule.command, rule.seconds)
    return GitAnchor(rule.name, rule.required, rule.git, rule.branch, rule.seconds)


@contextmanager
def audit_directory(state: Directory) -> Iterator[Directory]:
    """The audit log's directory; a refusal that says that the log is gone leaves no empty one behind."""
    is_new = not state.exists(DIRECTORY)
    with state.child(DIRECTORY) as room:
        try:
            yield room
        except RefusedError as refused:
            if is_new and ReasonCode.LOG_MISMATCH in refused.codes:
                with suppress(OSError):  # it is not empty
                    os.rmdir(DIRECTORY, dir_fd=state.fd)
            raise


def journal(
    directory: Directory,
    signer: Signer,
    rules: Iterable[AnchorRule],
    state: Directory,
    notice: Callable[[str], None],
) -> AuditLog:
    """The log, with its anchors if it has any; `notice` is told of those that don't answer.

    `state` is searched for traces of an earlier log that is gone.
    """
    traces = partial(log_traces, state)
    if anchors := tuple(map(anchor, rules)):
        return AnchoredLog(directory, signer, anchors, notice, traces)
    return AuditLog(directory, signer, traces)


def log_traces(state: Directory) -> str:
    """Describe what is there that an audit log had recorded; empty where there never was one."""
    from mvmnix.launch.gate.traces import LogTraces  # noqa: PLC0415 - asked for where there is no log

    return LogTraces.of(state).said


def check_anchors(log: Callable[[], AuditLog], rules: Collection[AnchorRule]) -> None:
    """Check the log against what its anchors keep, if it has any. Raises RefusedError, and what `log` raises."""
    if rules and isinstance(anchored := log(), AnchoredLog):
        anchored.check_anchors()


def ask_anchors_of(directory: Directory, key: NoteKey, rules: Iterable[AnchorRule]) -> Iterator[AnchorAnswer]:
    """What each anchor says of the log."""
    return ask_anchors(directory, key, map(anchor, rules))


def kept_checkpoint(name: str, rules: Iterable[AnchorRule]) -> bytes:
    """The checkpoint that the anchor of this name keeps. Raises UsageError, and what `latest` raises."""
    for rule in rules:
        if rule.name == name:
            note = anchor(rule).latest()
            if note is None:
                raise UsageError(f"the anchor {name} gives no checkpoint back", hint="name a file with --pinned")
            return note
    raise UsageError(f"config.toml names no anchor {name!r}", hint="name a file, or an anchor that is there")
