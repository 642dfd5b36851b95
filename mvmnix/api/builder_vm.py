"""Starts a builder VM, a guest like any other, by a plan that is signed for this one start; calls it, and answers it.

The VM is supervised by the process that verified its plan. This one sends it commands, and answers what it asks on its
one forwarded port: all of that in one loop, beside the threads that fetch.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, override

from mvmnix.api.build_limits import AS_THE_IMAGE_SAYS, BuildLimits
from mvmnix.api.context import Context
from mvmnix.api.frontend import Progress
from mvmnix.api.launch import ContextCaller, RunningMachine, StartOptions, start_machine
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session.cache import Connection
from mvmnix.builder.session.worker_pool import Threads, WorkerPool
from mvmnix.clock import now
from mvmnix.errors import MvmnixError
from mvmnix.images.store import VerifiedImage
from mvmnix.keys import Role
from mvmnix.launch.control.calls import GRACE, Exchange
from mvmnix.launch.control.connection import ConnectionLostError
from mvmnix.launch.control.drivers import run, run_on_loop
from mvmnix.launch.control.failure import MachineEndedError
from mvmnix.launch.control.messages import Exec, Stream
from mvmnix.launch.control.start_messages import Ended, Mode
from mvmnix.launch.control.starts import next_event
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.machines.retention import Retention
from mvmnix.model import Verb
from mvmnix.plan import plan as plans
from mvmnix.plan.plan import Use
from mvmnix.provenance.slsa.provenance import BuilderLimits
from mvmnix.system.loop import Loop

#: Makes what answers one connection of the VM's; it is given what tells that an answer is there.
type Connect = Callable[[Callable[[], None]], Connection]

#: Bytes that are moved at once.
_CHUNK: Final = 65536
#: Seconds in which a VM that has ended says why.
_AFTERMATH: Final = 60.0


def builder_plan(context: Context, builder: VerifiedImage, limits: BuildLimits = AS_THE_IMAGE_SAYS) -> plans.Plan:
    """The plan of one builder VM, which starts once: it may be sent commands, and may ask on one port."""
    made = plans.Plan.for_image(
        builder.image,
        policy=context.policy.digest,
        provenance=builder.provenance.bundle,
        now=now(),
        use=Use.ONCE,
        verbs=frozenset({Verb.EXEC, Verb.STREAM}),
        ports=(nix_commands.CACHE_PORT,),
    )
    return replace(
        made,
        vcpus=limits.vcpus or made.vcpus,
        memory_mib=limits.memory_mib or made.memory_mib,
        scratch_mib=limits.scratch_mib or made.scratch_mib,
        timeouts=replace(made.timeouts, wall_seconds=limits.seconds or made.timeouts.wall_seconds),
    )


def limits_of(plan: plans.Plan) -> BuilderLimits:
    """What the plan lets a build use, as provenance says it."""
    return BuilderLimits(plan.vcpus, plan.memory_mib, plan.scratch_mib, plan.timeouts.wall_seconds)


class BuilderVm:
    """One session: a loop that calls and answers the VM, and worker threads. Made before the VM starts."""

    def __init__(
        self,
        context: Context,
        progress: Progress,
        builder: VerifiedImage,
        plan: plans.Plan,
        *,
        step: str = "starting the builder VM",
    ) -> None:
        self._context = context
        self._builder = builder
        self._plan = plan
        self._progress = progress
        progress.step(step)
        self._loop = Loop()
        self._loop.listen()
        self._threads = Threads(self._loop.post)
        self.workers: WorkerPool = self._threads

    @contextmanager
    def running(self, connect: Connect) -> Iterator["BuilderMachine"]:
        """The VM, whose questions `connect` answers; it is gone at the end, however that comes."""
        bundle = self._context.sign(Role.PLANNER, plans.plan_statement(self._plan).to_bytes())
        options = StartOptions(
            mode=Mode.HELD,
            name=f"builder-{os.getpid()}",
            retention=Retention.LAST,
            ports=(nix_commands.CACHE_PORT,),
            is_build=True,
        )
        caller = _BuildCaller(self._context, self._progress, self._loop, connect)
        try:
            with (
                self._context.frontend.interruptible(self._loop),
                self._context.recorded(),
                run_on_loop(start_machine(self._context, bundle, options, caller), self._loop) as started,
            ):
                machine = BuilderMachine(started, self._loop)
                try:
                    yield machine
                except BaseException:
                    machine.kill()
                    raise
                machine.stop()
        finally:
            caller.close()
            self._threads.close()
            self._loop.close()


class _BuildCaller(ContextCaller):
    """Answers the start as any caller, tells of it as a build does, and serves the VM's connections."""

    def __init__(self, context: Context, progress: Progress, loop: Loop, connect: Connect) -> None:
        super().__init__(context)
        self._progress = progress
        self._loop = loop
        self._connect = connect
        self._connections: list[_GuestConnection] = []

    @override
    def notice(self, text: str) -> None:
        self._progress.notice(text)

    @override
    def guest_connected(self, port: int, descriptor: int) -> None:
        self._connections = [each for each in self._connections if each.is_open]
        self._connections.append(_GuestConnection(self._loop, descriptor, self._connect))

    def close(self) -> None:
        """Break off what is left."""
        for each in self._connections:
            each.close()


class BuilderMachine:
    """A VM that runs (builder/session/exec.py, BuilderMachine); made by `BuilderVm.running`."""

    def __init__(self, machine: RunningMachine, loop: Loop) -> None:
        self._machine = machine
        self._loop = loop
        self._failure: MvmnixError | None = None
        loop.watch(machine.connection.fileno(), read=self._event)

    @property
    def id(self) -> str:
        """Its id: 12 hexadecimal digits."""
        return self._machine.id

    def exec(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdout: Callable[[bytes], object],
        stderr: Callable[[bytes], object],
        timeout: float | None = None,
        directory: str = "/",
    ) -> ExitStatus:
        """Run a command to its end, at most `timeout` seconds. Raises why the machine has ended, if it does."""
        if self._failure is not None:
            raise self._failure
        try:
            connection = run_on_loop(self._machine.connect(), self._loop)
            outputs = {Stream.STDOUT: stdout, Stream.STDERR: stderr}
            with Exchange(connection, outputs, has_input=False) as exchange:
                seconds = 0 if timeout is None else max(1, int(timeout))
                request = Exec(tuple(argv), environment, directory, seconds, streams=exchange.streams)
                limit = None if timeout is None else timeout + GRACE
                return run_on_loop(exchange.run(request, limit), self._loop)
        except MvmnixError as error:
            raise self._cause(error) from error

    def stop(self) -> None:
        """End it in order, and wait for that."""
        self._machine.stop()
        self._wait_for_end()

    def kill(self) -> None:
        """End it at once, and wait for that."""
        self._machine.stop()
        self._machine.stop()
        self._wait_for_end()

    def _wait_for_end(self) -> None:
        late = self._loop.after(_AFTERMATH, lambda: None)
        while self._failure is None and late.pending:
            self._loop.turn()
        late.cancel()

    def _cause(self, error: MvmnixError) -> MvmnixError:
        """Return why the machine has ended, where that is what the error comes from."""
        if not isinstance(error, ConnectionLostError | MachineEndedError):
            return error
        self._wait_for_end()
        return self._failure or error

    def _event(self) -> None:
        """Take in one packet of the VM's supervisor."""
        try:
            event = run(next_event(self._machine.connection, self._machine.caller))
        except MvmnixError as error:
            self._end(error)
            return
        if isinstance(event, Ended):
            self._end(MvmnixError(f"the builder VM has ended: {event.reason}", hint="mvm ps --all says how"))

    def _end(self, error: MvmnixError) -> None:
        self._failure = error
        self._loop.forget(self._machine.connection.fileno())


class _GuestConnection:
    """A connection that the VM opened, between its socket and what answers it (builder/session/cache.py)."""

    def __init__(self, loop: Loop, descriptor: int, connect: Connect) -> None:
        self.is_open = True
        self._loop = loop
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._pending = memoryview(b"")
        self._is_asking = True
        self._answers = connect(self._pump)
        self._watch()

    def close(self) -> None:
        """Break it off. A second call does nothing."""
        if self.is_open:
            self.is_open = False
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._answers.reset()

    def _watch(self) -> None:
        if self.is_open:
            read = self._read if self._is_asking else None
            self._loop.watch(self._socket.fileno(), read=read, write=self._pump if self._pending else None)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if data:
            self._answers.data(data)
        else:
            self._is_asking = False
            self._answers.eof()
        self._pump()

    def _pump(self) -> None:
        """Send answers as far as the VM takes them."""
        try:
            while self.is_open:
                if not self._pending:
                    data = self._answers.pull(_CHUNK)
                    if data is None:
                        self.close()
                        return
                    if not data:
                        break
                    self._pending = memoryview(data)
                self._pending = self._pending[self._socket.send(self._pending) :]
        except BlockingIOError:
            self._watch()
        except OSError:
            self.close()
        else:
            self._watch()
