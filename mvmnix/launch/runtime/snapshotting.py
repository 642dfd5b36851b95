"""Takes snapshots of a running machine, when callers ask: one at a time, and nothing of it holds up the loop.

The steps, which the code repeats by number:

1. The plan grants the verb, and its machines can have snapshots (launch/snapshots/statement.py, `unfit`); the guest's
   agent can freeze commands. Otherwise that is refused.
2. The guest freezes its commands, and says that they stand. One that can't in that time goes on as it was.
3. The hypervisor saves the guest, which stands still from then on: the state of its devices is in one memfd, its memory
   in another one, its data disk in the file that it always is in.
4. All are sealed, a portion at each turn of the loop.
5. What they are is signed; that is in the log; then the snapshot takes its name.
6. The guest goes on, is renewed, and lets its commands go on; or the machine ends, where that was asked for.

What fails from step 3 on leaves no snapshot, and the guest goes on as in step 6.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from mvmnix.audit.record import RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, UsageError, refuse
from mvmnix.launch.agent.frames import Thaw
from mvmnix.launch.agent.requests import ENTROPY_BYTES
from mvmnix.launch.control.authorize import require_verb
from mvmnix.launch.control.messages import SnapshotKept
from mvmnix.launch.runtime.finalize import RunObservations
from mvmnix.launch.runtime.guest_clock import guest_time
from mvmnix.launch.runtime.pausing import PATIENCE
from mvmnix.launch.runtime.save_files import SaveFiles
from mvmnix.launch.runtime.snapshot_facts import programs_of
from mvmnix.launch.runtime.vm_process import Guest
from mvmnix.launch.snapshots.statement import SnapshotClaim, snapshot_statement, unfit
from mvmnix.launch.snapshots.store import Writer
from mvmnix.machines.status import new_id
from mvmnix.model import Verb
from mvmnix.plan.kernel_command_line import BackendParameter
from mvmnix.system.loop import Timer
from mvmnix.system.procfs import boot_id
from mvmnix.vmm.port import Emulation, Invocation, MonitorEvent

#: Milliseconds within which a guest's commands have to stand still.
_FREEZE_MS: Final = 10_000
#: Steps of sealing, of 1 MiB each, in one turn of the loop, and seconds until the next ones: a timer that is due at
#: once would leave the loop no turn.
_STEPS: Final = 8
_PAUSE: Final = 0.001


#: Is told once how it ended.
type Taken = Callable[[SnapshotKept | MvmnixError], None]


def told_khz(invocation: Invocation) -> int:
    """Return what a guest was told of its counter, in kHz. Raises ValueError where that was nothing."""
    told = (it.value for it in invocation.additions if it.parameter is BackendParameter.TSC_EARLY_KHZ)
    match next(told, None):
        case int(khz):
            return khz
        case _:
            raise ValueError("the guest wasn't told of its counter")


class Snapshotting:
    """Takes snapshots of one machine. `end` ends it, once it has been asked to end with a snapshot."""

    def __init__(self, observations: RunObservations, guest: Guest, end: Callable[[], None]) -> None:
        self._observations = observations
        self._guest = guest
        self._end = end
        self._taken: Taken | None = None
        self._ends = False
        self._is_frozen = self._is_saved = False
        self._outcome: SnapshotKept | MvmnixError | None = None
        self._writer: Writer | None = None
        self._timer: Timer | None = None
        #: What the monitor tells otherwise.
        self._listener = guest.on_event

    @property
    def is_taking(self) -> bool:
        """Whether one is being taken."""
        return self._taken is not None

    def refuse_if_taking(self) -> None:
        """Raise UsageError while one is being taken."""
        if self.is_taking:
            raise UsageError("a snapshot of the machine is being taken", hint="try again in a moment")

    def take(self, taken: Taken, *, ends: bool) -> None:
        """Take one, and return at once; `taken` is called later, from the loop.

        Raises RefusedError [verb-not-granted, snapshot-forbidden], UsageError while another one is taken, ChannelError.
        """
        self.refuse_if_taking()
        plan = self._observations.plan.plan
        require_verb(plan, Verb.SNAPSHOT)  # 1
        if why := self._unfit():
            hint = "start one without that, and take a snapshot of it"
            raise refuse(ReasonCode.SNAPSHOT_FORBIDDEN, "the machine", why, hint)
        self._guest.channel.start_freeze(_FREEZE_MS, self._frozen)  # 2
        self._taken, self._ends = taken, ends
        self._is_frozen = self._is_saved = False
        self._outcome = None

    def _unfit(self) -> str:
        hello = self._observations.hello
        if why := unfit(self._observations.plan.plan):
            return why
        if self._guest.files is None or self._emulation() is None:
            return "the hypervisor can't save its guest"
        return "" if hello is not None and hello.freezes_commands else "its image is of an older mvm"

    def _emulation(self) -> Emulation | None:
        return self._observations.host.hypervisor.emulation(self._observations.acceleration)

    def _frozen(self, why: str | None) -> None:
        if why is not None:
            error = MvmnixError(f"the guest's commands don't stand still: {why}", hint="try again later")
            self._answer(error)
            return
        self._is_frozen = True
        self._listener = self._guest.on_event
        self._guest.on_event = self._on_event
        try:
            self._files.rewind()
            self._guest.save()  # 3
        except (MvmnixError, OSError) as error:
            self._fail(error)
            return
        self._wait("saved its guest")

    @property
    def _files(self) -> SaveFiles:
        if self._guest.files is None:
            raise ValueError("a guest that can't be saved")
        return self._guest.files

    def _on_event(self, event: MonitorEvent) -> None:
        match event:
            case MonitorEvent.SAVED if not self._is_saved:
                self._cancel()
                self._is_saved = True
                self._begin_to_seal()
            case MonitorEvent.SAVE_FAILED if not self._is_saved:
                self._fail(MvmnixError("the hypervisor can't save its guest", hint="its console log may say why"))
            case MonitorEvent.READY if self._outcome is not None:
                self._cancel()
                self._thaw()
            case _:
                self._listener(event)

    def _begin_to_seal(self) -> None:
        snapshot = new_id()
        try:
            state = self._files.read_state()
            self._writer = writer = self._observations.host.snapshots.begin(snapshot)
            memory, size = self._files.memory, self._observations.plan.plan.memory_mib << 20
            self._seal(snapshot, state, writer, writer.seal(state, memory, size, self._files.disk))
        except (MvmnixError, OSError, ValueError) as error:
            self._fail(error)

    def _seal(self, snapshot: str, state: bytes, writer: Writer, steps: Iterator[int]) -> None:
        """4, and 5 once all is sealed."""
        if self._taken is None:
            return  # the machine ends
        try:
            for _, _ in zip(range(_STEPS), steps, strict=False):
                pass
            if next(steps, None) is not None:
                self._timer = self._observations.host.loop.after(
                    _PAUSE, lambda: self._seal(snapshot, state, writer, steps)
                )
                return
            self._keep(snapshot, state, writer)
        except (MvmnixError, OSError, ValueError) as error:
            self._fail(error)

    def _keep(self, snapshot: str, state: bytes, writer: Writer) -> None:
        """5."""
        observations = self._observations
        bundle = observations.host.sign(snapshot_statement(self._claim(snapshot, state, writer)).to_bytes())
        statement = Digest.of(bundle)
        observations.record(RecordKind.SNAPSHOT, digests={"snapshot": statement})
        writer.keep(bundle, observations.plan.bundle)
        self._outcome = SnapshotKept(snapshot, str(statement))
        self._close_writer()
        if self._ends:
            self._restore_listener()
            self._answer(self._outcome)
            self._end()
        else:
            self._resume()

    def _claim(self, snapshot: str, state: bytes, writer: Writer) -> SnapshotClaim:
        observations, plan = self._observations, self._observations.plan.plan
        emulation, hello = self._emulation(), observations.hello
        if emulation is None or hello is None or plan.manifest is None:
            raise ValueError("a machine that can't have snapshots")
        sealed, size = writer.sealed
        return SnapshotClaim(
            id=snapshot,
            created=observations.host.clock().replace(microsecond=0),
            machine=observations.home.status.machine,
            parent="" if observations.snapshot is None else observations.snapshot.id,
            plan=observations.plan.digest,
            policy=observations.plan.policy,
            manifest=plan.manifest,
            image=plan.image,
            files=plan.subjects,
            vcpus=plan.vcpus,
            memory_mib=plan.memory_mib,
            data_mib=0 if plan.data is None else plan.data.size_mib,
            command_line=plan.command_line,
            additions=observations.invocation.additions,
            tsc_khz=told_khz(observations.invocation),
            boot=boot_id(),
            programs=programs_of(observations.host.hypervisor, emulation.program),
            machine_type=emulation.machine,
            processor=emulation.processor,
            hello=hello,
            runs=self._guest.channel.has_run,
            ended_with=self._ends,
            network=plan.network is not None,
            state_bytes=len(state),
            sealed=sealed,
            sealed_bytes=size,
            key=writer.key,
            secrets=observations.secret_versions,
        )

    def _fail(self, error: Exception) -> None:
        """Have the guest go on, and the caller hear why there is no snapshot."""
        self._close_writer()
        self._outcome = error if isinstance(error, MvmnixError) else MvmnixError(f"there is no snapshot: {error}")
        self._resume()

    def _resume(self) -> None:
        """6."""
        self._cancel()
        if not self._is_saved:
            self._thaw()
            return
        try:
            self._guest.resume()
        except MvmnixError:
            self._guest.kill()  # it would stand still for ever
            return
        self._wait("let its guest go on")

    def _thaw(self) -> None:
        self._restore_listener()
        plan, clock = self._observations.plan.plan, self._observations.host.clock
        thaw = Thaw(is_renewed=False, time_ns=guest_time(plan, clock), entropy=os.urandom(ENTROPY_BYTES))
        with suppress(MvmnixError):  # the channel has ended, and the machine with it
            self._guest.channel.start_thaw(thaw, self._thawed)

    def _thawed(self) -> None:
        if self._outcome is not None:
            self._answer(self._outcome)

    def _restore_listener(self) -> None:
        self._guest.on_event = self._listener

    def _wait(self, what: str) -> None:
        def late() -> None:
            self._observations.host.notice(f"the hypervisor hasn't {what} for {PATIENCE:.0f} seconds, and is ended")
            self._guest.kill()

        self._timer = self._observations.host.loop.after(PATIENCE, late)

    def cancel(self) -> None:
        """The machine ends: what isn't kept is removed, and a guest that stands still goes on, to end in order."""
        self._cancel()
        self._close_writer()
        if self._taken is not None:
            if self._is_saved:
                with suppress(MvmnixError):  # then it is ended otherwise
                    self._guest.resume()
            self._restore_listener()
            self._answer(MvmnixError("the machine has ended", hint="mvm ps --all says how"))

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):  # a sweep removes it
                writer.close()

    def _answer(self, outcome: SnapshotKept | MvmnixError) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            taken(outcome)
