"""What a caller of a running machine may ask: by which verb, what the log has of it, what the guest is told; pure.

A verb is granted by the verified plan alone.
"""

from collections.abc import Mapping
from typing import assert_never

from mvmnix.audit.record import RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, refuse
from mvmnix.formats import strict
from mvmnix.launch.agent.requests import CopyRequest, ExecRequest, FilesRequest, ShellRequest
from mvmnix.launch.control.messages import Copy, Exec, Files, GuestCall, Shell
from mvmnix.model import Posture, User, Verb, Workload
from mvmnix.plan.plan import Plan


def needed_verb(asked: GuestCall) -> Verb:
    """The verb that has to be granted."""
    match asked:
        case Exec():
            return Verb.EXEC
        case Shell():
            return Verb.SHELL
        case Copy() | Files():
            return Verb.COPY


def require_verb(plan: Plan, verb: Verb) -> None:
    """Return if the plan grants the verb. Raises RefusedError [verb-not-granted] otherwise."""
    match plan.posture:
        case Posture.SEALED:
            why, hint = "the machine is sealed: it runs its command and takes no verb", "run an image of posture dev"
        case Posture.DEV if verb in plan.verbs:
            return
        case Posture.DEV:
            why = "the plan doesn't grant this verb"
            hint = f"start another one with `mvm run --verb {verb}`, or plan it so: `mvm plan create --verb {verb}`"
        case _:
            assert_never(plan.posture)
    raise refuse(ReasonCode.VERB_NOT_GRANTED, verb, why, hint)


def logged_call(asked: GuestCall) -> tuple[RecordKind, Mapping[str, Digest]]:
    """What the audit log has of it before it happens: the kind of record, and digests of what must not stand there."""
    match asked:
        case Exec():
            user = {"user": _digest((asked.user,))} if asked.user else {}
            return RecordKind.EXEC, _command(asked) | user
        case Shell():
            return RecordKind.SHELL, _command(asked)
        case Copy():
            return RecordKind.COPY, {f"copied-{asked.way}": _digest((asked.path,))}
        case Files():
            return RecordKind.COPY, {f"files-{asked.operation}": _digest(_paths(asked))}


def _command(asked: Exec | Shell) -> dict[str, Digest]:
    """The digests of a command's arguments, and of the variables and the directory that aren't the plan's."""
    found = {"argv": _digest(asked.argv)}
    if asked.environment:
        found["environment"] = Digest.of(strict.canonical(dict(asked.environment)))
    if asked.directory:
        found["directory"] = _digest((asked.directory,))
    return found


def guest_request(asked: GuestCall, plan: Plan) -> ExecRequest:
    """What the guest is told; as the plan's user, with its environment and directory. Raises ValueError."""
    own = plan.workload
    environment = dict(own.environment)
    match asked:
        case Exec():
            environment |= dict(asked.environment)
            user = User.parse(asked.user) if asked.user else own.user
            work = Workload(asked.argv, environment, asked.directory or own.directory, user)
            return ExecRequest(work, asked.seconds * 1000)
        case Shell():
            environment |= {"TERM": asked.term} | dict(asked.environment)
            work = Workload(asked.argv, environment, asked.directory or own.directory, own.user)
            return ShellRequest(work, 0, asked.rows, asked.columns)
        case Copy():
            words = (asked.path, asked.name) if asked.name else (asked.path,)
            work = Workload(words, {}, own.directory, own.user)
            return CopyRequest(work, way=asked.way, replaces=asked.replaces)
        case Files():
            work = Workload(_paths(asked), {}, own.directory, own.user)
            return FilesRequest(work, operation=asked.operation, recursive=asked.recursive, parents=asked.parents)


def _paths(asked: Files) -> tuple[str, ...]:
    return (asked.path, asked.target) if asked.target else (asked.path,)


def _digest(argv: tuple[str, ...]) -> Digest:
    return Digest.of(strict.canonical(list(argv)))
