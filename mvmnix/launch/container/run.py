"""The only starter of containers, and of nothing but what was verified: a plan that says the word, in the foreground.

The steps are those of `launch/runtime/start.py`, but for what boots. A verified plan's root filesystem is hashed as a
whole, into sealed memory, since nothing checks its blocks while they are read.
"""

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, override

from mvmnix.errors import ReasonCode, refuse
from mvmnix.formats.escaping import escape_bytes
from mvmnix.launch.agent.endpoints import PipeSink, Sink, Stdin, open_source
from mvmnix.launch.container.crun import Crun, Descriptors
from mvmnix.launch.container.oci_config import USERS, configuration
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.creation import start_home
from mvmnix.launch.runtime.finalize import Ended, RunObservations, conclude, end_failure, never_ran
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.start import begin_start, refusals_logged
from mvmnix.launch.runtime.supervisor import SupervisedEnd
from mvmnix.machines.ending import ChannelEnd, EndReason, HostAction
from mvmnix.machines.exit_status import End, ExitStatus, Step
from mvmnix.machines.receipt import HostFile
from mvmnix.machines.status import MachineState
from mvmnix.model import SystemCalls
from mvmnix.plan.backend import Backend
from mvmnix.plan.limits import NO_LIMITS
from mvmnix.sandbox import seccomp, trusted_executables
from mvmnix.sandbox.entry import NamespaceEntry
from mvmnix.sandbox.profiles.container import CONTAINER
from mvmnix.sandbox.subordinate_ids import SubordinateIds
from mvmnix.system import store
from mvmnix.system.loop import Loop
from mvmnix.system.stop_signals import StopRequestedError, stopping_signals
from mvmnix.vmm.boot_files import sealed_copy
from mvmnix.vmm.confinement import IsolationLayer, ProcessSandbox
from mvmnix.vmm.port import Acceleration, MonitorEvent
from mvmnix.vmm.process import JailedProcess

_CHUNK: Final = 65_536
#: Bytes that wait for the caller's side before the container's pipe is read no more.
_WINDOW: Final = 262_144


class Feed:
    """The caller's input, into a pipe. Takes over `fd`, the writing end."""

    def __init__(self, loop: Loop, stdin: Stdin, fd: int) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._source = open_source(stdin, loop, self._pull)
        self._rest = b""
        self._pull()

    def _pull(self) -> None:
        if self._fd < 0:
            return
        data = self._source.pull(_CHUNK)
        if data is None:
            self.close()
        elif data:
            self._rest = data
            self._loop.watch(self._fd, write=self._write)

    def _write(self) -> None:
        try:
            self._rest = self._rest[os.write(self._fd, self._rest) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it reads no more
            self.close()
            return
        if not self._rest:
            self._loop.forget(self._fd)
            self._pull()

    def close(self) -> None:
        """The end of input. A second call does nothing."""
        if self._fd >= 0:
            self._source.close()
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1


class Drain:
    """A container's output, from a pipe to the caller. Takes over `fd`, the reading end."""

    def __init__(self, loop: Loop, fd: int, sink: Sink) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._sink = sink
        self._deaf = False
        if isinstance(sink, PipeSink):
            sink.bind(released=self._resume, broken=self._hang_up)
        loop.watch(fd, read=self._read)

    @property
    def done(self) -> bool:
        """Whether all that came is out, and nothing more will come."""
        pending = self._sink.pending if isinstance(self._sink, PipeSink) else 0
        return self._fd < 0 and not pending

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        if not self._deaf:
            self._sink(data)
        if self._fd >= 0 and isinstance(self._sink, PipeSink) and self._sink.pending > _WINDOW:
            self._loop.forget(self._fd)

    def _resume(self, _count: int) -> None:
        if self._fd >= 0:
            self._loop.watch(self._fd, read=self._read)

    def _hang_up(self) -> None:
        """The caller reads no more, and what comes is thrown away, as a guest's output is."""
        self._deaf = True

    def close(self) -> None:
        """Read no more. A second call does nothing."""
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1


class ContainerSandbox(ProcessSandbox):
    """Adds nothing to the command, which begins with bubblewrap and has root's rights in its namespace alone."""

    def __init__(self) -> None:
        """Make the namespace. Raises OSError, MvmnixError for a user without enough subordinate ids."""
        self._entry = NamespaceEntry(SubordinateIds.find().container_namespace(), 0)
        self._open = True

    @property
    @override
    def descriptors(self) -> tuple[int, ...]:
        return ()

    @property
    @override
    def layers(self) -> tuple[IsolationLayer, ...]:
        return (IsolationLayer.NAMESPACES, IsolationLayer.SECCOMP)

    @override
    def command(self, argv: Sequence[str]) -> tuple[str, ...]:
        return tuple(argv)

    @override
    def enter(self) -> None:
        self._entry.enter_or_exit()

    @override
    def first_process(self, child: int) -> int:
        return child

    @override
    def release(self) -> None:
        if self._open:
            self._open = False
            os.close(self._entry.namespace)


#: Seconds in which the reader has to take what a container said before it ended.
_AFTERMATH: Final = 30.0
#: What crun says of a command that the image lacks, and how much of its words is read, in bytes.
_NOT_FOUND: Final = "executable file"
_COMPLAINT: Final = 4096


def run_container(
    plan: VerifiedPlan,
    host: Host,
    *,
    stdout: Sink,
    stderr: Sink,
    started: Callable[[str], None],
    stdin: Stdin = None,
    name: str = "",
) -> SupervisedEnd:
    """Run the plan's command in a container, to its end; a stopping signal ends it at once.

    `started` is called with the container's id once it runs.

    Raises RefusedError [backend-unavailable, plan-mismatch, artifact-mismatch] before anything is made, and otherwise
    as `start_machine` does.
    """
    with stopping_signals(host.loop), ExitStack() as stack:
        with refusals_logged(plan, host):
            runtime = _runtime(plan, host)
            system_calls = seccomp.program(CONTAINER)
            image = sealed_copy(plan.rootfs, plan.image.rootfs)
        stack.callback(os.close, image)
        host.notice(f"{plan.plan.isolation}: it shares this host's kernel, which plan and policy allow")
        home = start_home(plan, host.machines, host.clock(), name)
        config = store.memfd(
            configuration(plan.plan, plan.image.writable, f"mvm-{home.status.machine}"), name="config.json"
        )
        stack.callback(os.close, config)
        filter_ = store.memfd(system_calls, name="mvmnix-filter")
        stack.callback(os.close, filter_)
        pipes = _Pipes(stack)
        given = Descriptors(image, config, filter_, pipes.marker[1], pipes.stdin[0], pipes.stdout[1], pipes.stderr[1])
        invocation = runtime.container(given, plan.image.rootfs.size)
        observations = RunObservations(plan, host, home, invocation, Acceleration.NONE)
        begin_start(observations)
        running = _Running(observations, runtime, _spawned(observations, given), pipes)
        return running.finish(stdin, stdout, stderr, started)


def _runtime(plan: VerifiedPlan, host: Host) -> Crun:
    """What runs it. Raises RefusedError for a plan that asks for what a container hasn't."""
    runtime, wanted = host.hypervisor, plan.plan
    if wanted.backend is not Backend.CONTAINER or not isinstance(runtime, Crun):
        why = f"it names {wanted.backend}, and what would start it here is {runtime.backend}"
        raise refuse(ReasonCode.BACKEND_UNAVAILABLE, "the plan's backend", why, "name the container in a plan")
    if not wanted.workload.argv or wanted.variation is not None:
        why = "a container runs the plan's command and nothing else, without variations"
        raise refuse(ReasonCode.PLAN_MISMATCH, "the plan", why, "give it a command, or the backend qemu")
    if wanted.secrets:
        why = "a container gets no secrets in this version"
        raise refuse(
            ReasonCode.SECRET_UNAVAILABLE, "the plan", why, "make a plan without them, or for the backend qemu"
        )
    if plan.image.system_calls is SystemCalls.STRICT or wanted.limits != NO_LIMITS:
        why = "a container has limits and a filter of system calls of its own, and not those of a plan or an image"
        raise refuse(ReasonCode.PLAN_MISMATCH, "the plan", why, "run it under the backend qemu")
    if max(wanted.workload.user.uid, wanted.workload.user.gid) >= USERS:
        why = f"a container has the users 0 to {USERS - 1}, and the plan's is {wanted.workload.user.uid}"
        raise refuse(ReasonCode.PLAN_MISMATCH, "the plan", why, "give the image another user, or the backend qemu")
    return runtime


def _spawned(observations: RunObservations, given: Descriptors) -> JailedProcess:
    try:
        observations.open_console()
        return JailedProcess.spawn(observations.invocation, given.all, ContainerSandbox())
    except BaseException:
        never_ran(observations, EndReason.HYPERVISOR_DIED)
        raise


class _Pipes:
    """Four pipes, reading end first. A container gets these and never the caller's own: crun changes their owner."""

    def __init__(self, stack: ExitStack) -> None:
        self._open: set[int] = set()
        self.stdin, self.stdout, self.stderr, self.marker = (self._pipe() for _ in range(4))
        stack.callback(self._close)

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe2(os.O_CLOEXEC)
        os.fchmod(ends[0], 0o666)  # the container's root, another uid, opens it by its name in /proc/self/fd
        self._open |= set(ends)
        return ends

    def given(self, end: int) -> int:
        """This end; its new owner closes it from now on."""
        self._open.remove(end)
        return end

    def close(self, *ends: int) -> None:
        """Close these."""
        for end in ends:
            os.close(self.given(end))

    def _close(self) -> None:
        self.close(*self._open)


class _Running:
    """A container on its way to whatever end it takes."""

    def __init__(self, observations: RunObservations, runtime: Crun, process: JailedProcess, pipes: _Pipes) -> None:
        self._runtime = runtime
        self._observations = observations
        self._process = process
        self._pipes = pipes
        self._action = HostAction.NOTHING
        self._loop = observations.host.loop

    def finish(self, stdin: Stdin, stdout: Sink, stderr: Sink, started: Callable[[str], None]) -> SupervisedEnd:
        """See it to its end, and conclude it."""
        stopped = 0
        try:
            self._look()
            started(self._observations.home.status.machine)
            self._converse(stdin, *self._observations.keep_outputs(stdout, stderr))
        except StopRequestedError as request:
            stopped, self._action = 128 + request.number, HostAction.KILLED_ON_STOP
        finally:
            ended = self._conclude()
        if stopped:
            return SupervisedEnd(stopped, ended)
        if ended.status is None or not ended.reason.is_clean:
            raise end_failure(ended, self._observations, "it shares this host's kernel")
        return SupervisedEnd(ended.status.exit_code, ended)

    def _look(self) -> None:
        """Take the digests of what takes part."""
        program, *others = (self._runtime.executable, *self._runtime.firmware)
        self._observations.confinement = self._process.layers
        self._observations.program = HostFile(program, trusted_executables.digest(program))
        self._observations.firmware = tuple(HostFile(path, trusted_executables.digest(path)) for path in others)

    def _converse(self, stdin: Stdin, stdout: Sink, stderr: Sink) -> None:
        """Carry its streams, until it has ended and all that it said is out."""
        loop, pipes, process = self._loop, self._pipes, self._process
        pipes.close(pipes.stdin[0], pipes.stdout[1], pipes.stderr[1], pipes.marker[1])
        limit = loop.after(self._observations.plan.plan.timeouts.wall_seconds, self._time_is_up)
        feed = Feed(loop, stdin, pipes.given(pipes.stdin[1]))
        drains = (Drain(loop, pipes.given(pipes.stdout[0]), stdout), Drain(loop, pipes.given(pipes.stderr[0]), stderr))
        process.watch(loop, lambda: None)
        self._observations.home.advance(MachineState.RUNNING)
        self._observations.ready = self._observations.host.clock()
        try:
            while not process.ended:
                loop.turn()
            late = loop.after(_AFTERMATH, lambda: None)
            while late.pending and not all(drain.done for drain in drains):
                loop.turn()
            late.cancel()
        finally:
            limit.cancel()
            feed.close()
            for drain in drains:
                drain.close()
            process.forget(loop)

    def _time_is_up(self) -> None:
        self._action = HostAction.KILLED_ON_TIMEOUT
        self._process.kill()

    def _status(self, code: int) -> ExitStatus | None:
        """How the command ended; None where it never began for other reasons than its own name."""
        os.set_blocking(self._pipes.marker[0], False)
        try:
            unpacked, complaint = os.read(self._pipes.marker[0], _COMPLAINT).split(b"\n", 1)
        except (BlockingIOError, ValueError):
            return None  # it was not even unpacked
        if unpacked or code < 0:
            return None
        if not complaint:
            return ExitStatus(End.EXITED, code=code)
        words = escape_bytes(complaint.strip())
        self._observations.last_words = (*self._observations.last_words, words)
        if not words.startswith(_NOT_FOUND):
            return None
        self._observations.host.notice(f"crun: {words}")
        return ExitStatus(End.NOT_STARTED, Step.EXECUTE, errno.ENOENT)

    def _conclude(self) -> Ended:
        """Its end, by what the host saw itself: whether it was unpacked, and with which status it ended."""
        self._process.close()
        observations, code = self._observations, self._process.status
        observations.last_words, observations.usage = self._process.last_words, self._process.usage
        observations.child = self._process.failure()
        observations.status = None if self._action is not HostAction.NOTHING or code is None else self._status(code)
        if observations.status is None:
            return conclude(observations, self._action, ChannelEnd.NONE, ())
        return conclude(observations, self._action, ChannelEnd.FAREWELL, (MonitorEvent.GUEST_SHUTDOWN,))
