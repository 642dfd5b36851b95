"""Watches one try of a guest to boot, until it is ready; keeps the evidence of one that makes no progress, and ends it.

Before CONFIG is sent a guest holds no secret: then the registers of its processors are part of the evidence; those of
one that goes on from a snapshot never are. A boot that has come to nothing can be begun once more as long as its guest
holds none: where the plan has none, also then.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, Self

from mvmnix.launch.agent.encoding import ChannelClosedError, ChannelError
from mvmnix.launch.agent.frames import Hello, Thaw
from mvmnix.launch.agent.requests import ENTROPY_BYTES, GuestConfig
from mvmnix.launch.runtime.finalize import RunObservations
from mvmnix.launch.runtime.guest_clock import guest_time
from mvmnix.launch.runtime.vm_process import Guest
from mvmnix.launch.shares.setup import WriteQuota
from mvmnix.machines import diagnosis
from mvmnix.machines.ending import HostAction
from mvmnix.plural import counted
from mvmnix.system.loop import Cancellable
from mvmnix.vmm.boot_watchdog import BootWatchdog, Sample, StallReason
from mvmnix.vmm.port import MonitorEvent
from mvmnix.vmm.scheduling import Scheduling

#: Seconds, for the channel: the watchdog ends the guest, and so the waiting.
_NO_LIMIT: Final = 1e6
_WORDS: Final = {
    StallReason.STALLED: "has stalled",
    StallReason.HUNG: "hangs",
    StallReason.PANICKED: "has panicked",
    StallReason.NOT_RESTORED: "can't go on from its template",
}
_ACTIONS: Final = {StallReason.STALLED: HostAction.KILLED_ON_STALL, StallReason.HUNG: HostAction.KILLED_ON_TIMEOUT}

#: What it says of a panic: a kernel with `panic=-1` resets.
_PANICS: Final = frozenset({MonitorEvent.GUEST_PANIC, MonitorEvent.GUEST_RESET})
#: Seconds that the hypervisor of a guest that hung up gets to say what became of it.
_AFTERMATH: Final = 5.0
#: Seconds within which a guest goes on from its template, which takes 0.04 (measured).
_RESTORE: Final = 15.0

#: Starts another guest for the same start, and says what it is to be told.
type Another = Callable[[], tuple[Guest, GuestConfig]]


class Boot:
    """One try, which began when this was made. `end` is called, once, when it is given up: it has to end the guest."""

    def __init__(
        self,
        observations: RunObservations,
        guest: Guest,
        number: int,
        end: Callable[[HostAction], None],
        watches: list[Cancellable],
    ) -> None:
        """Made by `begin` only; `number` counts from 1."""
        self._watches = watches
        self._observations = observations
        self._guest = guest
        self._number = number
        self._end = end
        self._configuring = self._ready = self._is_over = False
        #: Whether a panic before READY makes it one that came to nothing.
        self.reboots_panic = False
        self._began = time.monotonic()
        self._scheduling = Scheduling(guest.process.pid)
        #: Why it was given up, once it was.
        self.verdict: StallReason | None = None
        budget = observations.plan.plan.timeouts.boot_seconds
        self._watchdog = BootWatchdog(observations.host.loop, self._look, budget, self._examine, stalls=True)

    @classmethod
    def begin(
        cls,
        observations: RunObservations,
        guest: Guest,
        end: Callable[[HostAction], None],
        watches: list[Cancellable],
        *,
        number: int = 1,
    ) -> Self:
        """See to it that the guest is watched from now on, by what is added to `watches`, and take its digests."""
        observations.look_at(guest)  # waits until the process has become the hypervisor, whose threads are watched
        boot = cls(observations, guest, number, end, watches)
        watches.append(boot)
        if most := observations.plan.plan.limits.shared_bytes:
            reached = partial(end, HostAction.KILLED_ON_SHARE_LIMIT)
            watches.append(WriteQuota(observations.host.loop, guest.shares.written, most, reached))
        return boot

    def again(self, guest: Guest) -> Self:
        """The next try, with this guest."""
        return type(self).begin(self._observations, guest, self._end, self._watches, number=self._number + 1)

    @property
    def may_begin_again(self) -> bool:
        """Whether it came to nothing in such a way that another try makes sense, and gives no secret away.

        1. Its guest was told no secret: CONFIG was not sent, or the plan has none. 2. It is the first one. 3. It has
        stalled or panicked, or its guest never said a word: one that talks and takes too long would do so again. One
        that began as a template boots cold then.
        """
        untold = not (self._configuring and self._observations.plan.plan.secrets)  # 1
        again = {StallReason.STALLED, StallReason.PANICKED, StallReason.NOT_RESTORED}
        silent = self.verdict in again or self._guest.bytes_received == 0  # 3
        return self.verdict is not None and untold and self._number < diagnosis.MOST_BOOTS and silent  # 2

    def succeeds(self, config: GuestConfig) -> bool:
        """Wait until the guest is what it is told to be, and its network is too; False when it `may_begin_again`.

        Raises ChannelError.
        """
        try:
            self._observations.hello = self._wait_begun()
            if self.verdict is None:
                self._configure(config)
        except ChannelError as error:
            if isinstance(error, ChannelClosedError) and self.reboots_panic and not self._ready:
                self._look_for_panic()
            is_closed = isinstance(error, ChannelClosedError) and self.verdict is None
            if is_closed and self._guest.is_warm and not self._configuring:
                self._keep_evidence(StallReason.NOT_RESTORED, self._look(), {})
            if not self.may_begin_again:
                raise
        if self.verdict is None:
            return True
        if not self.may_begin_again:
            raise ChannelClosedError("the guest answered after it had been given up")
        notice = f"the machine {self._observations.home.status.machine} {_WORDS[self.verdict]} while it boots"
        self._observations.host.notice(f"{notice}; it is started once more")
        return False

    def opens_root(self) -> None:
        """Wait until the guest has reported, and its root file system is open. Raises ChannelError."""
        self._observations.hello = self._guest.channel.wait_hello(idle=_NO_LIMIT)
        self._guest.channel.ping(idle=_NO_LIMIT)  # answered once the root is open (docs/reference/channel.md)
        self.cancel()

    def restores(self) -> None:
        """Wait until the guest goes on from its template, and tell it nothing. Raises ChannelError."""
        self._observations.hello = self._wait_begun()
        self.cancel()

    def goes_on(self, hostname: str) -> None:
        """Wait until a guest that was saved while it ran is renewed, and its commands go on. Raises ChannelError.

        `hostname` is its name from now on. Its network, which is a new one, serves it before that.
        """
        self._configuring = True  # it was told what it is, and maybe secrets, before it was saved
        self._observations.hello = self._wait_begun()
        if self._guest.network is not None:
            self._watchdog.forget_stalls()  # its commands stand still while we wait for its gateway
        self._guest.wait_network()
        done, channel = list[None](), self._guest.channel
        now = guest_time(self._observations.plan.plan, self._observations.host.clock)
        thaw = Thaw(is_renewed=True, time_ns=now, entropy=os.urandom(ENTROPY_BYTES), hostname=hostname)
        channel.start_thaw(thaw, lambda: done.append(None))
        while not done and channel.failure is None:
            self._observations.host.loop.turn()
        if channel.failure is not None:
            raise channel.failure
        self.cancel()

    def _wait_begun(self) -> Hello:
        """Wait until the guest has reported; one that did so before it was saved goes on. Raises ChannelError."""
        if self._guest.is_warm:
            late = self._observations.host.loop.after(_RESTORE, partial(self._end, HostAction.KILLED_ON_STALL))
            while MonitorEvent.READY not in self._guest.events and self._guest.channel.failure is None:
                self._observations.host.loop.turn()
            late.cancel()
            if self._guest.channel.failure is not None:
                raise self._guest.channel.failure
        return self._guest.channel.wait_hello(idle=_NO_LIMIT)

    def _configure(self, config: GuestConfig) -> None:
        """Tell the guest what it is to be, and wait until it is, and its network too. Raises ChannelError."""
        self._configuring = True
        if self._guest.shares.servers or self._guest.network is not None:
            # it may wait for a server of a share, and that for a disk of the host; and we for its gateway
            self._watchdog.forget_stalls()
        now = guest_time(self._observations.plan.plan, self._observations.host.clock)
        self._guest.channel.configure(replace(config, time_ns=now), idle=_NO_LIMIT)
        self._ready = True
        self._guest.wait_network()
        self.cancel()

    def cancel(self) -> None:
        """Watch no longer; a verdict that is on its way counts no more."""
        self._is_over = True
        self._watchdog.cancel()

    def _look(self) -> Sample:
        guest = self._guest
        running = MonitorEvent.READY in guest.events and MonitorEvent.INTERNAL_ERROR not in guest.events
        cpu, schedule = guest.process.cpu_seconds(), self._scheduling.look()
        return Sample(time.monotonic(), cpu, guest.progress, running, schedule)

    def _look_for_panic(self) -> None:
        """Keep the evidence of a guest that hung up before READY, once its hypervisor said that it panicked."""
        self._guest.settle(_AFTERMATH)
        if self.verdict is None and _PANICS & {*self._guest.events}:
            self._keep_evidence(StallReason.PANICKED, self._look(), {})

    def _examine(self, verdict: StallReason) -> None:
        """Ask the hypervisor how its guest stands, before it is ended.

        A guest may move on meanwhile, and be sent CONFIG: what its registers hold isn't kept then.
        """
        seen, registers = self._look(), not self._configuring

        def answered(answers: Mapping[str, str]) -> None:
            self._give_up(verdict, seen, {} if registers and self._configuring else answers)

        self._guest.examine(answered, registers=registers)

    def _give_up(self, verdict: StallReason, seen: Sample, answers: Mapping[str, str]) -> None:
        """Keep the evidence and end the guest; but one that has moved on meanwhile had not stalled."""
        if self._guest.process.ended or self._is_over:
            return
        if verdict is StallReason.STALLED and self._guest.progress != seen.progress:
            self._watchdog.look_on()
            return
        self._keep_evidence(verdict, seen, answers)
        self._end(_ACTIONS[verdict])

    def _keep_evidence(self, verdict: StallReason, seen: Sample, answers: Mapping[str, str]) -> None:
        self.verdict = verdict
        facts = {
            "machine": self._observations.home.status.machine,
            "boot": self._number,
            "seconds since it began": f"{time.monotonic() - self._began:.1f}",
            "seconds of CPU": f"{seen.cpu:.2f}",
            "bytes of its console": self._guest.console_bytes,
            "bytes of its agent": self._guest.channel.bytes_received,
            "HELLO came": self._guest.channel.hello is not None,
            "CONFIG was sent": self._configuring,
            "throttled": counted(seen.schedule.throttled, "time"),
            "accelerator": self._observations.acceleration,
        }
        console = () if self._observations.console is None else self._observations.console.last_lines(40)
        groups = self._scheduling.groups()
        data = diagnosis.write(verdict, seen, facts=facts, answers=answers, groups=groups, console=console)
        self._observations.keep_diagnosis(self._number, verdict, data)
