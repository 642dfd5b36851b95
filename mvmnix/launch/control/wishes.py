"""What a caller's wish comes down to: the verb it needs, what the log has of it, what the guest is told; pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from mvmnix import strict
from mvmnix.audit import Kind
from mvmnix.launch.agent import ExecRequest, ShellRequest, copy_request
from mvmnix.launch.control.messages import Copy, Exec, Shell, Start
from mvmnix.launch.plan import Plan
from mvmnix.model import Digest, Verb, Workload


@dataclass(frozen=True, slots=True)
class Record:
    """What is written down before it happens: a kind of record, and what must not be written by its digest."""

    kind: Kind
    digests: Mapping[str, Digest]


def needed_verb(asked: Start) -> Verb:
    """The verb that has to be granted."""
    match asked:
        case Exec():
            return Verb.EXEC
        case Shell():
            return Verb.SHELL
        case Copy():
            return Verb.COPY


def call_record(asked: Start) -> Record:
    """What the audit log has of it."""
    match asked:
        case Exec():
            return Record(Kind.EXEC, {"argv": _digest(asked.argv)})
        case Shell():
            return Record(Kind.SHELL, {"argv": _digest(asked.argv)})
        case Copy():
            return Record(Kind.COPY, {f"copied-{asked.way}": _digest((asked.path,))})


def guest_request(asked: Start, plan: Plan) -> ExecRequest:
    """What the guest is told; as the plan's user, with its environment and directory. Raises ValueError."""
    own = plan.workload
    environment = dict(own.environment)
    match asked:
        case Exec():
            environment |= dict(asked.environment)
            work = Workload(asked.argv, environment, asked.directory or own.directory, own.user)
            return ExecRequest(work, asked.seconds * 1000)
        case Shell():
            environment |= {"TERM": asked.term} | dict(asked.environment)
            work = Workload(asked.argv, environment, asked.directory or own.directory, own.user)
            return ShellRequest(work, 0, asked.rows, asked.columns)
        case Copy():
            words = (asked.path, asked.name) if asked.name else (asked.path,)
            work = Workload(words, {}, own.directory, own.user)
            return copy_request(work, asked.way, replaces=asked.replaces)


def _digest(argv: tuple[str, ...]) -> Digest:
    return Digest.of(strict.canonical(list(argv)))
