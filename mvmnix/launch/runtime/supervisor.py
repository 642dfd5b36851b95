"""Supervises one machine, in the process that verified its plan: turns signals and requests into an orderly end."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from mvmnix.launch.agent.port_forward import ServiceFactory
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.server import Control
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.finalize import Ended
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.machines.status import MachineState
from mvmnix.system.stop_signals import StopRequestedError, stopping_signals

#: Seconds that a guest gets to end its commands when its supervisor is told to stop.
GRACE: Final = 5.0
#: What is done with a machine once its guest is ready; how its command ended, None where it has none.
type Work = Callable[[Machine, Control], ExitStatus | None]
_NO_SERVICES: Final[Mapping[int, ServiceFactory]] = {}


@dataclass(frozen=True, slots=True)
class SupervisedEnd:
    """How a supervised machine ended, and what its caller should exit with: the command's own, or 128 + signal."""

    exit_code: int
    ended: Ended


def supervise(
    plan: VerifiedPlan,
    host: Host,
    start: Callable[[], Machine],
    work: Work,
    *,
    check: CallerCheck,
    is_listening: bool = True,
) -> SupervisedEnd:
    """Start a machine of this plan, do `work` with it once its guest is ready, stop it.

    The first stopping signal lets the guest end in order, the second ends it. `check` judges who calls the machine;
    without `is_listening` no caller finds it. Raises whatever `start` and `work` raise; StopRequestedError when a
    signal came before the guest was ready.
    """
    with stopping_signals(host.loop):
        machine = start()
        try:
            plan.kernel_loaded()
            stop = _Stopping(machine).request
            with Control(machine, check, stop, is_listening=is_listening) as control:
                return _serve(machine, control, work)
        finally:
            machine.kill()


class _Stopping:
    """Ends a machine for callers: the loop raises StopRequestedError, as it does for a signal."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def request(self, now: bool) -> None:
        """Have it end. One that is ending in order already is ended by `now` alone."""
        if now or self._machine.home.status.state is not MachineState.STOPPING:
            self._machine.loop.after(0, lambda: self._raise(now))

    @staticmethod
    def _raise(now: bool) -> NoReturn:
        raise StopRequestedError(signal.SIGTERM, now=now)


def _serve(machine: Machine, control: Control, work: Work) -> SupervisedEnd:
    try:
        status = work(machine, control)
        return SupervisedEnd(0 if status is None else status.exit_code, machine.stop(grace=GRACE))
    except StopRequestedError as request:
        return SupervisedEnd(128 + request.number, _stop(machine, request))


def _stop(machine: Machine, request: StopRequestedError) -> Ended:
    if request.now:
        return machine.kill()
    try:
        return machine.stop(grace=GRACE)
    except StopRequestedError:
        return machine.kill()
