"""A running machine as a program holds it: how it is called, how it ends, what its plan grants; steps for each face."""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, override

from mvmnix.api.calls import connect
from mvmnix.api.context import Context
from mvmnix.api.frontend import SILENT
from mvmnix.api.launch import ContextCaller, RunningMachine
from mvmnix.api.machine_store import open_machine_store
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats.strict import MalformedError, Problem, show_place
from mvmnix.launch.control import calls
from mvmnix.launch.control.codec import encode
from mvmnix.launch.control.connection import Connection, ConnectionLostError
from mvmnix.launch.control.drivers import Steps, Wait, Work
from mvmnix.launch.control.failure import MachineEndedError
from mvmnix.launch.control.messages import GuestCall, Request, Stop, parse_request
from mvmnix.launch.control.messages import Wait as WaitForEnd
from mvmnix.launch.control.start_messages import Ended
from mvmnix.launch.control.starts import next_event
from mvmnix.machines import registry
from mvmnix.machines.ending import EndReason
from mvmnix.machines.registry import MachineEntry
from mvmnix.model import Verb
from mvmnix.sdk.errors import Cause, InvalidArgument, NotFound, NotGranted, NotRunning, OutcomeUnknown, TimedOut
from mvmnix.sdk.outcome import Outcome
from mvmnix.sdk.results import MachineEnd
from mvmnix.system.private_dirs import Directory

#: Seconds that a machine's end may take when a program leaves it, before its guest is no longer asked.
PATIENCE: Final = 30.0
#: The end of a machine of which nothing says how it ended.
LOST: Final = "lost"
#: Seconds that are waited for how a machine ended, once it hung up.
_END_PATIENCE: Final = 10.0
#: By the request's field, the argument of the SDK that has another name.
_ARGUMENTS: Final = {"environment": "env", "directory": "cwd"}
_FORM: Final = 'a path has 1 to 4096 characters, a terminal a name such as "xterm"'
#: By how a machine ended whose time was up, why, and the argument that gives it more.
_TIMES: Final[Mapping[str, tuple[str, str]]] = {
    EndReason.TIMEOUT: ("took as long as it may run", "Sandbox.run(…, timeout=) gives it more"),
    EndReason.IDLE: ("did nothing for as long as it may", "Sandbox.run(…, idle_timeout=) gives it more"),
}
#: What is raised where the machine, or its process, ended before it answered.
ENDED: Final = (ConnectionLostError, MachineEndedError)


class SandboxCaller(ContextCaller):
    """Answers what a start asks, as long as that takes; afterwards there is no state to answer from."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._has_started = False

    def start_ended(self) -> None:
        """Take note that the machine runs, and that the context is about to be closed."""
        self._has_started = True

    @override
    def notice(self, text: str) -> None:
        """Show a line of prose, while there is a frontend."""
        if not self._has_started:
            super().notice(text)

    @override
    def answer(self, question: str) -> str:
        """Return the secret. Raises MvmnixError once the machine runs."""
        if self._has_started:
            raise MvmnixError(f"no one answers: {question}", hint="name a source of the password in config.toml")
        return super().answer(question)


class Machine(Protocol):
    """A machine that can be called; `verbs` are those that its plan grants."""

    id: str
    verbs: frozenset[Verb]
    labels: Mapping[str, str]

    def connect(self) -> Steps[Connection]:
        """Make a connection for one call. Raises NotRunning."""

    def wait(self, timeout: float | None) -> Steps[MachineEnd]:
        """Wait for its end. Raises TimedOut."""

    def leave(self) -> Steps[None]:
        """Let go of it; a machine of this program's ends."""


class OwnMachine:
    """A machine that was started for this process, and ends with it."""

    def __init__(
        self, running: RunningMachine, caller: SandboxCaller, verbs: frozenset[Verb], labels: Mapping[str, str]
    ) -> None:
        self.id = running.id
        self.verbs = verbs
        self.labels = labels
        self._running = running
        self._caller = caller
        self._end = Outcome(running.connection, self._take_end, lambda: _still_running(self.id))
        self._process = os.getpid()

    def connect(self) -> Steps[Connection]:
        """Make a connection for one call. Raises NotRunning."""
        if os.getpid() != self._process:
            return (yield from self._connect_fork())
        if self._end.value is not None:
            raise not_running(self.id)
        try:
            return (yield from self._running.connect())
        except (ConnectionLostError, OSError) as error:
            raise not_running(self.id) from error

    def _connect_fork(self) -> Steps[Connection]:
        """Make a connection for a fork, which finds the machine as any program does; its own connection may be old."""
        try:
            return (yield from AttachedMachine(self.id, self.verbs, self.labels).connect())
        except (NotRunning, NotFound) as error:
            why = f"it ended at the latest when the process {self._process} left it, of which this one is a fork"
            hint = "box.detach() has a machine outlive its process"
            raise NotRunning(f"the machine {self.id} isn't running: {why}", hint=hint) from error

    def wait(self, timeout: float | None) -> Steps[MachineEnd]:
        """Wait for its end. Raises TimedOut; Unreachable where its process was killed."""
        is_connected = self._running.connection.fileno() >= 0
        if self._end.value is None and not (
            is_connected and os.getpid() == self._process
        ):  # it is the parent's to read
            return (yield from AttachedMachine(self.id, self.verbs, self.labels).wait(timeout))
        return (yield from self._end.wait(timeout))

    def _take_end(self) -> Steps[MachineEnd | None]:
        """Take what the machine says next; its end, if that was it.

        Raises what its process failed with, but for an end that is written down: of a machine whose time was up, or
        whose guest failed.
        """
        try:
            event = yield from next_event(self._running.connection, self._caller)
        except ConnectionLostError:
            raise
        except MvmnixError:
            self._running.close()
            end: MachineEnd | None = yield Work(partial(_written_end, self.id))
            if end is None:
                raise
            return end
        if not isinstance(event, Ended):
            return None
        self._running.close()
        return MachineEnd(event.reason, None if event.status is None else event.status.exit_code)

    def leave(self) -> Steps[None]:
        """End it, and wait for that; a fork of the process that started it only lets go."""
        if self._running.connection.fileno() < 0:
            return
        try:
            if os.getpid() == self._process:
                yield from self._conclude()
        finally:
            self._running.close()

    def _conclude(self) -> Steps[None]:
        try:
            for now in (False, True):
                with suppress(TimedOut):
                    yield from request(self, Stop(now=now), timeout=PATIENCE)
                    yield from self.wait(PATIENCE)
                    return
        except (NotRunning, OutcomeUnknown):
            with suppress(MvmnixError):
                yield from self.wait(PATIENCE)
        self._running.stop(signal.SIGTERM)

    def detach(self) -> Steps[None]:
        """Have it go on without this process."""
        yield from self._running.detach()

    def hang_up(self) -> None:
        """Have it end, without waiting for that."""
        self._running.close()


class AttachedMachine:
    """A machine that goes on without this process."""

    def __init__(self, machine: str, verbs: frozenset[Verb], labels: Mapping[str, str]) -> None:
        self.id = machine
        self.verbs = verbs
        self.labels = labels

    def connect(self) -> Steps[Connection]:
        """Make a connection for one call. Raises NotRunning."""
        made: Connection = yield Work(self._connect, Connection.close)
        return made

    def _connect(self) -> Connection:
        with open_machine_store(SILENT) as machines:
            find_entry(machines, self.id)
            try:
                return connect(machines, self.id)
            except UsageError as error:
                raise not_running(self.id) from error

    def wait(self, timeout: float | None) -> Steps[MachineEnd]:
        """Wait for its end. Raises TimedOut."""
        try:
            yield from request(self, WaitForEnd(), timeout=timeout)
        except TimedOut:
            raise _still_running(self.id) from None
        except (NotRunning, OutcomeUnknown):
            pass  # its end is what was waited for
        end: MachineEnd = yield Work(partial(read_end, self.id))
        return end

    def leave(self) -> Steps[None]:
        """Let it go on."""
        yield from ()


def find_entry(machines: Directory, text: str) -> MachineEntry:
    """Return the machine with this name or id. Raises NotFound."""
    try:
        return registry.find_machine(machines, text)
    except MvmnixError as error:
        raise NotFound(error.message, hint=error.hint) from error


def read_end(machine: str) -> MachineEnd:
    """Return how a machine ended, as its supervisor wrote it down; "lost" where none was left to do so."""
    with open_machine_store(SILENT) as machines:
        status = registry.wait_for_end(machines, machine).status
    return MachineEnd(LOST if status.reason is None else status.reason.value, status.exit_code)


def _written_end(machine: str) -> MachineEnd | None:
    """Return how a machine ended; None where nothing says so."""
    try:
        end = read_end(machine)
    except MvmnixError:
        return None
    return None if end.reason == LOST else end


def request(machine: Machine, message: Request, *, timeout: float | None = None) -> Steps[None]:
    """Ask the machine's supervisor for something, and wait for its answer, at most so many seconds.

    Raises TimedOut, NotRunning, OutcomeUnknown where the machine ended before the answer.
    """
    connection = yield from machine.connect()
    with connection:
        try:
            yield from connection.send(message)
        except ConnectionLostError as error:
            raise not_running(machine.id) from error
        try:
            ready = yield Wait(read=(connection.fileno(),), seconds=timeout)
            if not ready:
                raise TimedOut(f"the machine {machine.id} did not answer in its time", hint="box.kill() ends it")
            yield from calls.answer(connection)
        except ENDED as error:
            raise outcome_unknown(machine.id) from error


def require(machine: Machine, verb: Verb) -> None:
    """Raise NotGranted, before anything is sent, for a verb that the plan doesn't grant."""
    if verb not in machine.verbs:
        granted = ", ".join(sorted(machine.verbs)) or "none"
        why = f"the plan of the machine {machine.id} grants {granted}"
        hint = f'Sandbox.run(…, verbs=["{verb}"]) of an image that offers it; beside secrets none is granted unasked'
        raise NotGranted(
            f"{verb}: refused [verb-not-granted]: {why}",
            hint=hint,
            reasons=(Cause("verb-not-granted", verb, why, hint),),
        )


def check_request(asked: GuestCall) -> None:
    """Raise InvalidArgument, before anything is sent, for what the machine's supervisor would not understand."""
    try:
        parse_request(encode(asked))
    except MalformedError as error:
        wrong = [_argument(each) for each in error.found if isinstance(each, Problem)]
        raise InvalidArgument("; ".join(wrong) or str(error), hint=_FORM) from None
    except ValueError as error:
        raise InvalidArgument(f"this can't be run: {error}", hint="hand over less: write it into a file") from None


def _argument(problem: Problem) -> str:
    """Return what is wrong, by the name of the argument; the first word of the place is the kind of request."""
    _, field, *inner = problem.place
    return f"{show_place((_ARGUMENTS.get(str(field), field), *inner))}: {problem.text}"


def not_running(machine: str) -> NotRunning:
    """Return the error of a call that no machine was there to take."""
    return NotRunning(f"the machine {machine} isn't running", hint="Sandbox.list() has the running ones")


def _still_running(machine: str) -> TimedOut:
    """Return the error of a wait for a machine's end that took too long."""
    why = f"the machine {machine} has not ended within the time that was waited for it: it still runs"
    return TimedOut(why, hint="wait for it again: timeout=")


def outcome_unknown(machine: str) -> OutcomeUnknown:
    """Return the error of a call whose answer will not come."""
    return OutcomeUnknown(f"the machine {machine} ended before it answered", hint="box.wait() says how it ended")


def unanswered(machine: Machine, out: bytes = b"", err: bytes = b"") -> Steps[OutcomeUnknown | TimedOut]:
    """Return the error of what ran in a machine that ended; TimedOut, with its output, where its time was up."""
    with suppress(MvmnixError):
        end = yield from machine.wait(_END_PATIENCE)
        if end.reason in _TIMES:
            why, hint = _TIMES[end.reason]
            return TimedOut(f"the machine {machine.id} {why}, and was ended", hint=hint, stdout=out, stderr=err)
    return outcome_unknown(machine.id)
