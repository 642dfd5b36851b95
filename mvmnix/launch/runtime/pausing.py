"""Has a machine's guest stand still and go on, when a caller asks."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from mvmnix.audit.record import RecordKind
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.launch.runtime.finalize import RunObservations
from mvmnix.launch.runtime.guest_clock import guest_time
from mvmnix.launch.runtime.vm_process import Guest
from mvmnix.machines.status import MachineState
from mvmnix.system.loop import Timer
from mvmnix.vmm.port import MonitorEvent

#: Is told once that the guest stands still, or goes on, or why that isn't known.
type Done = Callable[[MvmnixError | None], None]

#: Seconds in which a hypervisor has to answer that the guest stands still, goes on, or is saved.
PATIENCE: Final = 30.0
_PAUSED: Final = "let it go on first: mvm resume"


class Pausing:
    """Has a machine's guest stand still and go on, when its user asks: logged and written down before, answered after.

    The hypervisor runs no instruction of the guest meanwhile, and the guest's clocks stand. The host's clock goes on,
    and the plan's wall time with it: a machine that stands still isn't one that lasts. It is the state in
    `machine.json` that says whether the guest stands still.
    """

    def __init__(self, observations: RunObservations, guest: Guest) -> None:
        self._observations = observations
        self._guest = guest
        self._awaited: tuple[MonitorEvent, Done] | None = None
        self._timer: Timer | None = None
        guest.on_event = self._on_event

    @property
    def paused(self) -> bool:
        """Whether the guest stands still."""
        return self._observations.home.status.state is MachineState.PAUSED

    def refuse_if_paused(self) -> None:
        """Raises UsageError when the guest stands still."""
        if self.paused:
            raise UsageError("the machine is paused", hint=_PAUSED)

    def change(self, state: MachineState, done: Done) -> None:
        """Have the guest stand still (PAUSED) or go on (RUNNING); `done` is called later, from the loop.

        Raises UsageError when it does already, or is about to, or the machine is on its way to its end; what the log
        raises, OSError when the state can't be written down, MvmnixError when the hypervisor can't be told: then
        nothing has changed.
        """
        old = self._observations.home.status.state
        if self._awaited is not None:
            raise UsageError("another caller is pausing or resuming the machine", hint="mvm ps says how it is")
        kind, event, tell = self._ways[state]
        if old is state or MachineState.PAUSED not in {old, state} or not old.may_become(state):
            raise UsageError(f"the machine is {old}", hint="mvm pause takes running machines, mvm resume paused ones")
        self._observations.record(kind)
        self._observations.home.advance(state)
        try:
            tell()
        except MvmnixError:
            self._observations.home.advance(old)
            raise
        self._awaited = event, done
        self._timer = self._observations.host.loop.after(PATIENCE, self._unanswered)

    @property
    def _ways(self) -> Mapping[MachineState, tuple[RecordKind, MonitorEvent, Callable[[], None]]]:
        """By the state to come: the record, what the hypervisor says then, and what it is told."""
        return {
            MachineState.PAUSED: (RecordKind.PAUSE, MonitorEvent.PAUSED, self._guest.pause),
            MachineState.RUNNING: (RecordKind.RESUME, MonitorEvent.READY, self._guest.resume),
        }

    def tell_time(self) -> None:
        """Tell a guest that doesn't stand still what time it is."""
        if not self.paused:
            plan, clock = self._observations.plan.plan, self._observations.host.clock
            self._guest.channel.tell_time(guest_time(plan, clock))

    def resume_to_end(self) -> None:
        """Have a guest that stands still go on, so that it can end in order; no caller waits for an answer."""
        if self.paused:
            with suppress(MvmnixError):  # then it is ended otherwise
                self._guest.resume()

    def _on_event(self, event: MonitorEvent) -> None:
        if self._awaited is not None and self._awaited[0] is event:
            self.tell_time()
            self._answer(None)

    def _unanswered(self) -> None:
        why = f"the hypervisor hasn't answered for {PATIENCE:.0f} seconds"
        self._answer(MvmnixError(why, hint="end the machine: mvm kill"))

    def _answer(self, error: MvmnixError | None) -> None:
        awaited, self._awaited = self._awaited, None
        if self._timer is not None:
            self._timer.cancel()
        if awaited is not None:
            awaited[1](error)
