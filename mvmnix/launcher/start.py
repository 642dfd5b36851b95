"""Performs a caller's request, in the process that will be its machine's supervisor.

The steps, which the code repeats by number:

1. The caller reaches mvm's own directories itself: it hands over descriptors of all four, and of the file in the state
   directory that is there for this (PROBE), open for writing; they are those of this process.
2. The plan, which is sealed memory, passes the gate under the policy, the floor and the revocations of this moment, for
   an image that is kept here or whose files were handed over, open for reading alone.
3. What the plan names of its caller's is asked of the caller, once the plan is verified (conversation.py).
4. The machine starts (launch/runtime/start.py); the caller hears of it; it runs to its end.
5. Once the caller was told the last of it, a machine that booted for want of a template is counted, and one may be made
   (api/unasked_templates.py): not in a private launcher, which is its caller's child, and for kept images alone.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from mvmnix.api import held_files
from mvmnix.api.admission import (
    admit_created,
    admit_plan,
    create_machine,
    host_for,
    refuse_terminal,
    retain,
)
from mvmnix.api.context import Context
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, UsageError, refuse
from mvmnix.launch.agent.endpoints import PipeSink, Sink, discard_output
from mvmnix.launch.agent.port_forward import ServiceFactory
from mvmnix.launch.container.run import run_container
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.messages import Shell, Stream
from mvmnix.launch.control.server import Control, is_stream
from mvmnix.launch.control.start_messages import Created, Ended, Mode, Started, StartRequest, TerminalSize
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.finalize import Ended as MachineEnd
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.save_template import save_template
from mvmnix.launch.runtime.start import start_machine
from mvmnix.launch.runtime.supervisor import SupervisedEnd, supervise
from mvmnix.launch.runtime.waiting import WaitingMachine
from mvmnix.launch.templates.template import NOTHING_HELD, Held
from mvmnix.launcher.conversation import Conversation
from mvmnix.launcher.guest_relay import GuestRelay
from mvmnix.launcher.handed_over import misplaced, open_for, read_plan
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.machines.registry import keep_successor
from mvmnix.machines.retention import MachineKind
from mvmnix.plan.backend import Backend
from mvmnix.plan.plan import Plan
from mvmnix.system.stop_signals import StopRequestedError, stopping_signals

if TYPE_CHECKING:
    from mvmnix.launch.gate.snapshot import VerifiedSnapshot
    from mvmnix.launch.snapshots.statement import SnapshotClaim
    from mvmnix.launch.snapshots.store import KeptSnapshot


@dataclass(frozen=True, slots=True)
class Performed:
    """What the caller is told last, and what is done after that, which raises nothing."""

    answer: Created | Ended
    follow_up: Callable[[], None] | None = None


def perform(
    conversation: Conversation,
    check: CallerCheck,
    request: StartRequest,
    descriptors: Mapping[str, int],
    *,
    held: Held | None = None,
    waiting: WaitingMachine | None = None,
) -> Performed:
    """Do what was asked, to its end. Raises what goes wrong, for the caller to hear.

    `held` are the templates that were opened before; None in a private launcher, which holds none. `waiting` is a
    machine of a pool, with which it may start.
    """
    try:
        with open_for(conversation, descriptors) as context:  # 1
            performance = _Performance(
                context, conversation, check, request, descriptors, held=held or NOTHING_HELD, waiting=waiting
            )
            answer = performance.run()
            return Performed(answer, performance.follow_up if held is not None else None)
    except MvmnixError as error:
        from mvmnix.api.failure_log import keep_failure  # noqa: PLC0415 - only failures pay for it

        keep_failure(error)  # only here is known what the children said
        raise


def machine_of(ended: MachineEnd) -> str:
    """The id of a machine that has ended."""
    return os.path.basename(os.path.dirname(ended.receipt_path))  # noqa: PTH119, PTH120 - a text


def _follow_cold_start(plan: Plan, key: Digest) -> None:
    """5."""
    from mvmnix.api.unasked_templates import follow_cold_start  # noqa: PLC0415 - it imports what finds images

    follow_cold_start(plan, key)


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A plan that passed the gate; the id of the machine that was created from it, or the snapshot that goes on."""

    plan: VerifiedPlan
    created: str = ""
    restored: "tuple[VerifiedSnapshot, KeptSnapshot] | None" = None


class _Performance:
    """One request."""

    def __init__(
        self,
        context: Context,
        conversation: Conversation,
        check: CallerCheck,
        request: StartRequest,
        descriptors: Mapping[str, int],
        *,
        held: Held,
        waiting: WaitingMachine | None,
    ) -> None:
        self._context = context
        self._held = held
        self._waiting = waiting
        self._conversation = conversation
        self._check = check
        self._request = request
        self._descriptors = descriptors
        self._pipes = {stream: descriptors[stream] for stream in request.streams}
        self._image = request.image_path if request.image else ""
        self._summary = request.summary_path if request.has_summary else ""
        self.follow_up: Callable[[], None] | None = None

    def run(self) -> Created | Ended:
        """Do it."""
        self._hold_files()
        self._check_pipes()
        if self._request.mode is Mode.CREATED:
            name, bundle = self._request.name, read_plan(self._descriptors["plan"])
            return Created(create_machine(self._context, bundle, name=name, image=self._image, vsa=self._summary))
        with self._admit() as admitted:  # 2
            plan = admitted.plan
            if self._request.terminal is not None:
                refuse_terminal(self._context, plan)
            host = host_for(self._context, plan, self._conversation, self._held)
            if self._waiting is not None:
                host = replace(host, loop=self._waiting.loop)
            self._conversation.watch(host.loop)
            kind = MachineKind.BUILD if self._request.is_build else MachineKind.RUN
            with retain(host, self._request.retention, kind) as mark_ready:
                finished = self._finish(admitted, host, mark_ready)  # 3, 4
            if (
                host.templates.missed is not None
                and not self._image
                and not self._request.created
                and finished.ended.reason.is_clean
            ):
                self.follow_up = partial(_follow_cold_start, plan.plan, host.templates.missed)
        ended = finished.ended
        machine = machine_of(ended)
        return Ended(finished.exit_code, machine, ended.reason, str(ended.receipt), ended.receipt_path, ended.status)

    def _hold_files(self) -> None:
        """Have an exported image's files, and a summary, be those that were handed over."""
        names = self._request.image
        try:
            if names:
                held_files.hold_handed(self._image, {name: self._descriptors[f"image {name}"] for name in names})
            if self._request.has_summary:
                held_files.hold_handed(self._summary, {"": self._descriptors["summary"]})
        except (ValueError, OSError) as error:
            raise misplaced("an exported image", error) from error

    def _check_pipes(self) -> None:
        for stream, fd in self._pipes.items():
            if not is_stream(stream, fd):
                hint = "hand over a pipe's end, and copy to and from it"
                raise UsageError(f"{stream} is not a pipe that is open for it", hint=hint)

    @contextmanager
    def _admit(self) -> Iterator[_Admitted]:
        """What passed the gate."""
        request = self._request
        if request.mode is Mode.SAVED and (request.created or request.snapshot):
            raise UsageError("a machine that was created or restored is started, not saved", hint="mvm warm IMAGE")
        if request.snapshot and (request.created or self._image):
            raise UsageError("what goes on from a snapshot is of a kept image", hint="name no other image")
        if request.created:
            with admit_created(self._context, request.created) as (plan, created):
                yield _Admitted(plan, created=created)
        elif request.snapshot:
            from mvmnix.api.snapshots import admit_restored  # noqa: PLC0415 - only restores pay for it

            bundle = read_plan(self._descriptors["plan"])
            with admit_restored(self._context, bundle, request.snapshot) as (snapshot, kept):
                yield _Admitted(snapshot.plan, restored=(snapshot, kept))
        else:
            with admit_plan(self._context, read_plan(self._descriptors["plan"]), self._image, self._summary) as plan:
                yield _Admitted(plan)

    def _finish(self, admitted: _Admitted, host: Host, mark_ready: Callable[[str], None]) -> SupervisedEnd:
        plan = admitted.plan
        if self._request.mode is Mode.SAVED:
            with stopping_signals(host.loop):
                ended = save_template(plan, host)
            mark_ready(machine_of(ended))
            return SupervisedEnd(0, ended)
        if plan.plan.backend is Backend.CONTAINER:
            host.templates.close()
            return self._run_container(plan, host, mark_ready)
        relay = partial(GuestRelay, self._conversation, host.loop)
        services: dict[int, ServiceFactory] = {port: partial(relay, port) for port in self._request.ports}

        def work(machine: Machine, control: Control) -> ExitStatus | None:
            mark_ready(machine.id)
            if admitted.restored is not None:
                self._keep_successor(admitted.restored[0].claim, machine.id)
            self._conversation.serve(control)
            self._tell_started(plan, machine.id, machine.acceleration)
            return self._work(plan, host, machine)

        start = self._starter(admitted, host, services)
        return supervise(plan, host, start, work, check=self._check, is_listening=not self._request.is_build)

    def _keep_successor(self, claim: "SnapshotClaim", machine: str) -> None:
        """Have lists say that the machine of a snapshot is no longer cold, where it ended with that."""
        if claim.ended_with and claim.imported is None:  # another host's machine is none of ours
            with suppress(MvmnixError, OSError):  # nothing but lists depends on it
                keep_successor(self._context.machines, claim.machine, machine)

    def _starter(
        self, admitted: _Admitted, host: Host, services: Mapping[int, ServiceFactory]
    ) -> Callable[[], Machine]:
        if admitted.restored is not None:
            from mvmnix.launch.runtime.restore import restore_machine  # noqa: PLC0415 - only restores pay for it

            return partial(restore_machine, *admitted.restored, host, name=self._request.name)
        return partial(
            start_machine,
            admitted.plan,
            host,
            name=self._request.name,
            created=admitted.created,
            services=services,
            reboots_panic=self._request.is_build,
            waiting=self._waiting,
        )

    def _run_container(self, plan: VerifiedPlan, host: Host, mark_ready: Callable[[str], None]) -> SupervisedEnd:
        if self._request.mode is not Mode.ATTACHED:
            why, hint = "a container is not a machine", "run it in the foreground: `mvm launch` without --detach"
            with self._context.recorded(plan=plan.digest):
                raise refuse(ReasonCode.BACKEND_UNAVAILABLE, "the plan's backend", why, hint)

        def started(container: str) -> None:
            mark_ready(container)
            self._tell_started(plan, container, "")

        out, err = self._outputs(host)
        stdin, name = self._pipes.get(Stream.STDIN), self._request.name
        finished = run_container(plan, host, stdout=out, stderr=err, stdin=stdin, started=started, name=name)
        self._explain(plan, host, finished.ended.status)
        return finished

    def _tell_started(self, plan: VerifiedPlan, machine: str, accelerator: str) -> None:
        """Raises StopRequestedError where the caller is gone, which would never hear of its machine."""
        names = tuple(signer.name for signer in plan.signers)
        backend = plan.plan.backend.logged
        if not self._conversation.say(
            Started(machine, accelerator, str(plan.digest), str(plan.policy), names, backend)
        ):
            raise StopRequestedError(signal.SIGHUP)

    def _work(self, plan: VerifiedPlan, host: Host, machine: Machine) -> ExitStatus | None:
        match self._request.mode:
            case Mode.DETACHED:
                self._conversation.is_detached = True
                self._conversation.close()
                if not machine.has_command:
                    return self._wait(machine)
                return machine.run(stdout=discard_output, stderr=discard_output, attached=False)
            case Mode.HELD:
                return self._wait(machine)
            case _:
                status = self._run_attached(plan, host, machine, self._request.terminal)
                self._explain(plan, host, status)
                return status

    @staticmethod
    def _wait(machine: Machine) -> None:
        machine.wait()
        machine.raise_failure()

    def _run_attached(
        self, plan: VerifiedPlan, host: Host, machine: Machine, terminal: TerminalSize | None
    ) -> ExitStatus:
        out, err = self._outputs(host)
        stdin = self._pipes.get(Stream.STDIN)
        if terminal is None:
            return machine.run(stdout=out, stderr=err, stdin=stdin)
        asked = Shell(plan.plan.workload.argv, terminal.rows, terminal.columns, terminal.kind)
        command = machine.start_verb(asked, stdout=out, stderr=discard_output, stdin=stdin)
        self._conversation.drive(command)
        return machine.finish(command)

    def _outputs(self, host: Host) -> tuple[Sink, Sink]:
        out, err = (self._pipes.get(stream) for stream in (Stream.STDOUT, Stream.STDERR))
        return (
            discard_output if out is None else PipeSink(host.loop, out),
            discard_output if err is None else PipeSink(host.loop, err),
        )

    @staticmethod
    def _explain(plan: VerifiedPlan, host: Host, status: ExitStatus | None) -> None:
        """Tell the user of a command that did not end by itself."""
        if status is not None and (why := status.explain(next(iter(plan.plan.workload.argv), ""))):
            host.notice(why)
