"""A machine of a pool: restored from its template, told nothing, it waits until another plan's machine takes its guest.

What claims it was verified by the gate like any start, and has the same key, so that its guest is what that start would
have restored. The waiting machine ends then, in log and receipt; the guest goes on as the other machine's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Final, Self

from mvmnix.audit.tally import Tally
from mvmnix.digest import Digest
from mvmnix.errors import RefusedError
from mvmnix.launch.agent.port_forward import ServiceFactory
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.finalize import Ended
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.vm_process import ConsoleSink, Guest
from mvmnix.launch.runtime.warm import check_told, template_key
from mvmnix.launch.templates.record import TemplateRecord
from mvmnix.launch.templates.store import NoTemplateError, Templates
from mvmnix.system.loop import Loop
from mvmnix.vmm.port import Acceleration, Invocation, LaunchSpec


@dataclass(frozen=True, slots=True)
class ClaimedGuest:
    """A guest that runs already, in the place of one that is prepared (`vm_process.Preparation`).

    `waited` is the digest of the receipt of the machine that it was until now.
    """

    guest: Guest
    invocation: Invocation
    acceleration: Acceleration
    template: TemplateRecord
    waited: Digest
    #: It was told nothing yet.
    snapshot: ClassVar[None] = None

    def spawn(
        self,
        loop: Loop,  # noqa: ARG002 - as `Preparation.spawn`; it is in that loop already (`WaitingMachine.check`)
        *,
        console: ConsoleSink,
        services: Mapping[int, ServiceFactory],
        tally: Tally | None = None,
    ) -> Guest:
        """Return it, which says to these what it has to say from now on."""
        self.guest.hand_over(console=console, services=services, tally=tally)
        return self.guest

    def discard(self) -> None:
        """End it. A second call does nothing."""
        self.guest.close()


#: What each machine has of its own, though it is of the same shape: descriptors, and the counter as it was measured.
_OWN: Final = frozenset({"kernel", "initrd", "rootfs", "channel", "console", "monitor", "restored", "tsc_khz"})


def _shape(spec: LaunchSpec) -> dict[str, object]:
    """All else that a hypervisor and its jail were started with: a machine can't be given another one later."""
    return {each.name: getattr(spec, each.name) for each in fields(spec) if each.name not in _OWN}


@dataclass(frozen=True, slots=True)
class Origin:
    """What a machine that waits was restored from: a template's record, and the salt of the file that it was in."""

    record: TemplateRecord
    salt: bytes


class WaitingMachine:
    """A machine that waits; a context manager, which ends one that wasn't claimed."""

    def __init__(
        self,
        machine: Machine,
        spec: LaunchSpec,
        origin: Origin,
        invocation: Invocation,
    ) -> None:
        """Made by `start_to_wait` only."""
        self._machine = machine
        self._shape = _shape(spec)
        self._origin = origin
        self._invocation = invocation
        self._is_claimed = False

    @property
    def loop(self) -> Loop:
        """The loop that serves it."""
        return self._machine.loop

    @property
    def id(self) -> str:
        """Its id: 12 hexadecimal digits."""
        return self._machine.id

    @property
    def has_ended(self) -> bool:
        """Whether its guest has ended, or said something that it may not."""
        return self._machine.has_hung_up

    def check_origin(self, templates: Templates, policy: Digest) -> None:
        """Check that machines may start from its template under this state of the policy, revocations included.

        Raises NoTemplateError, OSError, RefusedError.
        """
        if policy != self._origin.record.policy:
            raise NoTemplateError("the waiting machine was started under another policy")
        if not templates.is_there(self._origin.record.key, self._origin.salt):
            raise NoTemplateError("the template of the waiting machine was removed, or there is a newer one")

    def check(self, plan: VerifiedPlan, host: Host, spec: LaunchSpec) -> None:
        """Raise NoTemplateError, which says why, where a machine of this plan can't go on with its guest."""
        if self._is_claimed or self.has_ended:
            raise NoTemplateError("the waiting machine has ended")
        if plan.plan.has_devices:
            raise NoTemplateError("no machine waits that has a network, shares or a data disk")
        if host.loop is not self.loop:
            raise NoTemplateError("the waiting machine is another process's")
        if template_key(plan, host, spec).digest != self._origin.record.key or _shape(spec) != self._shape:
            raise NoTemplateError("the waiting machine is of another shape, or has other limits")
        try:
            self.check_origin(host.templates, host.templates.policy)
        except (OSError, RefusedError) as error:
            raise NoTemplateError(f"its template can't be looked for: {error}") from error
        check_told(self._origin.record, spec)

    def claim(self) -> ClaimedGuest:
        """End it but for its guest, which is the caller's then. Raises MvmnixError where that can't be written down."""
        self._is_claimed = True
        guest, ended = self._machine.hand_over()
        acceleration = self._machine.acceleration
        return ClaimedGuest(guest, self._invocation, acceleration, self._origin.record, ended.receipt)

    def end(self) -> Ended | None:
        """End it, if it wasn't claimed. Raises MvmnixError where that can't be written down."""
        if self._is_claimed:
            return None
        return self._machine.wait() if self.has_ended else self._machine.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
