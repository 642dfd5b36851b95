"""A running machine: what can be asked of it, and its way to whatever end it takes; only `start_machine` starts it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Final, Self

from mvmnix.audit.record import RecordKind
from mvmnix.errors import MvmnixError, RefusedError, UsageError
from mvmnix.launch.agent.commands import Command
from mvmnix.launch.agent.encoding import ChannelError, ChannelProtocolError, GuestFailedError, MountPointError
from mvmnix.launch.agent.endpoints import Sink, Stdin
from mvmnix.launch.agent.frames import Hello
from mvmnix.launch.agent.requests import ExecRequest, GuestConfig
from mvmnix.launch.control.authorize import guest_request, logged_call, needed_verb, require_verb
from mvmnix.launch.control.messages import GuestCall
from mvmnix.launch.runtime.boot import Another, Boot
from mvmnix.launch.runtime.finalize import Ended, RunObservations, conclude, end_failure
from mvmnix.launch.runtime.guest_clock import GuestClock
from mvmnix.launch.runtime.idle_watch import IdleWatch
from mvmnix.launch.runtime.pausing import PATIENCE, Pausing
from mvmnix.launch.runtime.snapshotting import Snapshotting, Taken
from mvmnix.launch.runtime.vm_process import Guest
from mvmnix.machines.ending import ChannelEnd, HostAction
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.machines.machine_dir import MachineHome
from mvmnix.machines.status import MachineState
from mvmnix.model import Workload
from mvmnix.network.supervisor_messages import GATEWAY_ENDED, NetworkEvent
from mvmnix.plan.network import WhenGatewayEnds
from mvmnix.system.loop import Cancellable, Loop, Timer
from mvmnix.vmm.port import Acceleration, MonitorEvent
from mvmnix.words import check_words

#: What a hypervisor says that was told to save its guest.
_SAVED: Final = frozenset({MonitorEvent.SAVED, MonitorEvent.SAVE_FAILED, MonitorEvent.INTERNAL_ERROR})

#: Seconds. The host's clock is the one that counts; the guest gets so much longer to end a command by its own.
_GRACE: Final = 10.0
#: Seconds that may pass between a guest's last frame and the hypervisor's end.
_AFTERMATH: Final = 5.0
#: Seconds, for the channel: whatever waits has a limit of its own here, which ends the guest and so the waiting.
_NO_LIMIT: Final = 1e6
_PING: Final = 60.0


class Machine:
    """A running machine; a context manager that leaves nothing running.

    When the guest ends, breaks the protocol or takes too long during a call, the machine is concluded first, and then
    the call raises what `finalize.end_failure` returns; so does every later call.
    """

    def __init__(self, observations: RunObservations, guest: Guest) -> None:
        """Made by `start_machine` only."""
        self._observations = observations
        self._guest = guest
        #: What the guest was told, but for its secrets; None before that.
        self._config: GuestConfig | None = None
        self._action = HostAction.NOTHING
        self._last_word = ChannelEnd.NONE
        self._done = False
        self._timers: list[Cancellable] = []
        self._pausing = Pausing(observations, guest)
        self._snapshotting = self._snapshots_of(guest)
        #: When the plan ends it, by the monotonic clock, and what ends it before that, where a caller said so.
        self._latest = float("inf")
        self._wall: Timer | None = None
        self._lease: Timer | None = None
        self._ended: Ended | None = None
        #: Why its end could not be written down; there is no second try, since its directory is let go of.
        self._lost: MvmnixError | OSError | None = None
        self._watch_network()

    @property
    def id(self) -> str:
        """Its id: 12 hexadecimal digits."""
        return self._observations.home.status.machine

    @property
    def acceleration(self) -> Acceleration:
        """What executes the guest's instructions."""
        return self._observations.acceleration

    @property
    def hello(self) -> Hello | None:
        """What the guest's agent said of itself, once it has."""
        return self._observations.hello

    @property
    def has_hung_up(self) -> bool:
        """Whether its guest has ended, by itself or otherwise."""
        has_gone = self._guest.channel.failure is not None or self._guest.process.ended
        return self._ended is not None or has_gone

    @property
    def ended(self) -> Ended | None:
        """How it ended, once it has."""
        return self._ended

    def boot(self, config: GuestConfig, another: Another, *, reboots_panic: bool = False) -> None:
        """Tell the guest what it is to be, and wait until it is; called by `start_machine`, once.

        `another` starts the guest of a second try.
        """
        with self._talking():
            boot = Boot.begin(self._observations, self._guest, self._break_off, self._timers)
            boot.reboots_panic = reboots_panic
            while not boot.succeeds(config):
                config = self._replace(another)
                boot = boot.again(self._guest)
            self._config = config.without_secrets()
        self._begin_to_run()

    def go_on(self, config: GuestConfig) -> None:
        """Have a guest that was saved while it ran go on; called by `restore_machine`, once. Raises as `boot` does."""
        with self._talking():
            Boot.begin(self._observations, self._guest, self._break_off, self._timers).goes_on(config.hostname)
            self._config = config
        self._begin_to_run()

    def _begin_to_run(self) -> None:
        self._observations.ready = self._observations.host.clock()
        self._observations.home.advance(MachineState.RUNNING)
        self._timers.append(GuestClock(self.loop, self._pausing.tell_time))
        wall = self._observations.plan.plan.timeouts.wall_seconds
        self._latest = time.monotonic() + wall
        self._wall = self._limit(wall)
        if idle := self._observations.plan.plan.limits.idle_seconds:
            too_long = partial(self._break_off, HostAction.KILLED_ON_IDLE)
            self._timers.append(IdleWatch(self.loop, self._signs, idle, too_long))

    def save(self) -> Ended:
        """Wait until the guest's root is open, have it saved untold of anything, and end it.

        Raises what `boot` does; MvmnixError where it can't be saved.
        """
        with self._talking():
            Boot.begin(self._observations, self._guest, self._break_off, self._timers).opens_root()
            limit = self._limit(PATIENCE)
            self._guest.save()
            while not _SAVED & {*self._guest.events} and self._guest.channel.failure is None:
                self.loop.turn()
            limit.cancel()
        is_saved = MonitorEvent.SAVED in self._guest.events and self._action is HostAction.NOTHING
        if is_saved:
            self._action = HostAction.SAVED
        self._guest.kill()
        ended = self._conclude()
        if not is_saved:
            raise end_failure(ended, self._observations, "the hypervisor can't save its guest")
        return ended

    def wait_untold(self) -> None:
        """Wait until the guest goes on from its template; it is told nothing then. Raises what `boot` does."""
        with self._talking():
            Boot.begin(self._observations, self._guest, self._break_off, self._timers).restores()
        self._observations.home.advance(MachineState.WAITING)

    def hand_over(self) -> tuple[Guest, Ended]:
        """End it but for its guest, with which another machine goes on; that, and how this one ended.

        Raises MvmnixError where the end can't be written down: then the guest has ended, too.
        """
        self._unwatch()
        self._action = HostAction.CLAIMED
        try:
            return self._guest, self._write_end()
        except BaseException:
            self._guest.close()
            raise

    def _replace(self, another: Another) -> GuestConfig:
        """Let go of a guest whose boot came to nothing, and take the next one; what that is to be told.

        Without another one, that was the end.
        """
        self._let_go()
        try:
            self._guest, config = another()
        except BaseException:
            self._conclude()
            raise
        self._action = HostAction.NOTHING
        self._pausing = Pausing(self._observations, self._guest)
        self._snapshotting = self._snapshots_of(self._guest)
        self._watch_network()
        return config

    def _snapshots_of(self, guest: Guest) -> Snapshotting:
        return Snapshotting(self._observations, guest, partial(self._break_off, HostAction.COOLED))

    def _watch_network(self) -> None:
        """What the gateway says is written down; when it ends, the machine does or goes on, as the plan says."""
        network = self._observations.plan.plan.network
        self._guest.on_network_event = self._take_network_event
        if network is not None and network.when_gateway_ends is WhenGatewayEnds.CONTINUE:
            self._guest.on_network_end = partial(self._take_network_event, GATEWAY_ENDED)
        elif network is not None:
            self._guest.on_network_end = self._network_ended

    def _network_ended(self) -> None:
        self._take_network_event(GATEWAY_ENDED)
        self._end_without_network()

    def _take_network_event(self, event: NetworkEvent) -> None:
        try:
            self._observations.take_network_event(event)
        except (MvmnixError, OSError):
            self._end_without_network()  # what can't be logged goes no further

    def _end_without_network(self) -> None:
        self._break_off(HostAction.KILLED_ON_NETWORK_END)

    def run(self, *, stdout: Sink, stderr: Sink, stdin: Stdin = None, attached: bool = True) -> ExitStatus:
        """Run the plan's command to its end, and keep its output: see `RunObservations.keep_outputs`.

        One that goes on in a restored guest takes no input. Once; raises UsageError when the plan has none.
        """
        if self._config is None or self._config.workload is None:
            raise UsageError("the plan has no command to run", hint="use exec, or give the plan a command")
        with self._talking():
            stdout, stderr = self._observations.keep_outputs(stdout, stderr, attached=attached)
            channel = self._guest.channel
            command = (
                channel.adopt_run(stdout, stderr)
                if channel.run_goes_on
                else channel.start_run(stdout=stdout, stderr=stderr, stdin=stdin)
            )
        return self.finish(command)

    @property
    def has_command(self) -> bool:
        """Whether `run` has the plan's command to run; in a restored guest, one that goes on: none is begun there."""
        if self._observations.snapshot is not None:
            return self._guest.channel.run_goes_on
        return self._config is not None and self._config.workload is not None

    def finish(self, command: Command) -> ExitStatus:
        """Wait for the end of what stands for the plan's command: the receipt has it as the workload's."""
        # the guest ends the command itself, and has a moment to say so
        self._wall = self._limit(self._latest - time.monotonic() + _GRACE, instead_of=self._wall)
        with self._talking():
            self._observations.status = status = self._guest.channel.wait(command)
            self._done = True
        return status

    def exec(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdout: Sink,
        stderr: Sink,
        stdin: Stdin = None,
        timeout: float | None = None,
        directory: str = "/",
    ) -> ExitStatus:
        """Run another command, if the plan grants the verb exec; `timeout` in seconds.

        The guest ends a command that takes longer; a guest that doesn't is ended itself. Raises RefusedError
        [verb-not-granted], UsageError for what can't be passed on, TypeError for a str as the command.
        """
        workload = Workload(check_words(argv), environment, directory, self._observations.plan.plan.workload.user)
        try:
            request = ExecRequest(workload, 0 if timeout is None else max(1, int(timeout * 1000)))
        except ValueError as error:
            raise UsageError(f"this can't be run: {error}") from error
        with self._talking():
            limit = None if timeout is None else self._limit(timeout + _GRACE)
            status = self._guest.channel.exec(request, stdout=stdout, stderr=stderr, stdin=stdin, idle=None)
            if limit is not None:
                limit.cancel()
        return status

    @property
    def loop(self) -> Loop:
        """The loop that serves it."""
        return self._observations.host.loop

    @property
    def home(self) -> MachineHome:
        """Its directory, and what is written there."""
        return self._observations.home

    def start_verb(self, asked: GuestCall, *, stdout: Sink, stderr: Sink, stdin: Stdin) -> Command:
        """Start something for another process and return at once; the loop serves it.

        Raises RefusedError [verb-not-granted], which is logged; what the log raises, which has the command by its
        digest before the guest does; UsageError for what can't be passed on, or not now; MvmnixError when it has ended.
        """
        plan = self._observations.plan.plan
        try:
            require_verb(plan, needed_verb(asked))
        except RefusedError as refused:
            self._observations.record(RecordKind.REFUSAL, reasons=refused.codes)
            raise
        self._refuse_ended()
        self._pausing.refuse_if_paused()
        self._snapshotting.refuse_if_taking()
        try:
            request, (kind, digests) = guest_request(asked, plan), logged_call(asked)
            self._observations.record(kind, digests=digests)
            return self._guest.channel.start_exec(request, stdout=stdout, stderr=stderr, stdin=stdin)
        except ValueError as error:
            raise UsageError(f"this can't be run: {error}") from error

    def start_snapshot(self, taken: Taken, *, ends: bool) -> None:
        """Have a snapshot taken, and return at once: see `Snapshotting.take`. With `ends` the machine ends with it.

        Raises RefusedError, which is logged; UsageError, MvmnixError.
        """
        self._refuse_ended()
        self._pausing.refuse_if_paused()
        try:
            self._snapshotting.take(taken, ends=ends)
        except RefusedError as refused:
            self._observations.record(RecordKind.REFUSAL, reasons=refused.codes)
            raise

    def _refuse_ended(self) -> None:
        """Raise MvmnixError where the machine has ended, or is about to."""
        is_ending = self._observations.home.status.state is MachineState.STOPPING
        if is_ending or self._ended is not None or self._guest.channel.failure is not None:
            raise MvmnixError("the machine has ended", hint="mvm ps --all says how")

    def set_paused(self, paused: bool, done: Callable[[MvmnixError | None], None]) -> None:
        """Have the guest stand still, or go on, and return at once: see `Pausing.change`."""
        self._snapshotting.refuse_if_taking()
        self._pausing.change(MachineState.PAUSED if paused else MachineState.RUNNING, done)

    def ping(self) -> float:
        """The time in seconds that a frame takes to the guest agent and back."""
        with self._talking():
            limit = self._limit(_PING)
            seconds = self._guest.channel.ping(idle=_NO_LIMIT)
            limit.cancel()
        return seconds

    def extend(self, seconds: float) -> None:
        """Have it end in so many seconds, unless that is asked for again.

        Raises UsageError where its plan ends it before.
        """
        self._refuse_ended()
        if (left := self._latest - time.monotonic()) < seconds:
            why = f"the plan ends the machine in {left:.0f} seconds, and not in {seconds:g}"
            raise UsageError(why, hint="start it from a plan with a longer --timeout")
        self._lease = self._limit(seconds, instead_of=self._lease)

    def start_ping(self, answered: Callable[[], object]) -> None:
        """Have a function called once the guest agent has answered, and return at once. Raises MvmnixError."""
        self._refuse_ended()
        self._guest.channel.start_ping(answered)

    def wait(self) -> Ended:
        """Serve the guest until it ends by itself."""
        while self._ended is None and self._guest.channel.failure is None:
            self._observations.host.loop.turn()
        return self._ended or self._conclude_after(self._guest.channel.failure)

    def raise_failure(self) -> None:
        """Raise why a machine has ended that should not have; nothing for one that ended as it should."""
        if self._ended is not None and not self._ended.reason.is_clean:
            raise end_failure(self._ended, self._observations, "the machine has ended")

    def stop(self, *, grace: float = 5.0) -> Ended:
        """Ask the guest to end, its commands first, and end it after `grace` seconds if it doesn't."""
        if self._ended is not None:
            return self._ended
        if not self._done:
            self._action = HostAction.ASKED_TO_STOP
        if self._observations.home.status.state.may_become(MachineState.STOPPING):
            self._snapshotting.cancel()
            self._pausing.resume_to_end()  # a guest that stands still can't end in order
            self._observations.home.advance(MachineState.STOPPING)
        loop, channel = self._observations.host.loop, self._guest.channel
        self._timers.append(loop.after(grace + _AFTERMATH, partial(self._break_off, HostAction.KILLED_ON_STOP)))
        try:
            channel.shutdown(grace_ms=int(grace * 1000), idle=_NO_LIMIT)
        except ChannelError as error:
            return self._conclude_after(error)
        if channel.farewell:
            self._last_word = ChannelEnd.FAREWELL
        return self._conclude_after(channel.failure)

    def kill(self) -> Ended:
        """End it now, without asking the guest."""
        if self._ended is None:
            self._break_off(HostAction.KILLED_ON_STOP)
        return self._ended or self._conclude()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end = self.stop if error is None else self.kill
        end()

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Turn the end of the conversation into the end of the machine."""
        if self._ended is not None:
            raise end_failure(self._ended, self._observations, "the machine has ended")
        try:
            yield
        except ChannelError as error:
            ended = self._conclude_after(error)
            lingered = self._action is HostAction.KILLED_ON_FAILURE
            words = f"{error.message}; it didn't end by itself, so mvm ended it" if lingered else error.message
            failure = end_failure(ended, self._observations, words)
            raise failure from failure.__cause__ or error

    def _limit(self, seconds: float, *, instead_of: Timer | None = None) -> Timer:
        """End the guest when so many seconds have passed."""
        if instead_of is not None:
            instead_of.cancel()
            self._timers.remove(instead_of)
        timer = self._observations.host.loop.after(seconds, partial(self._break_off, HostAction.KILLED_ON_TIMEOUT))
        self._timers.append(timer)
        return timer

    def _break_off(self, action: HostAction) -> None:
        """End the guest now, for this reason; the call that waits for it concludes the machine."""
        self._action = action
        if action is HostAction.KILLED_ON_SHARE_LIMIT:
            self._guest.shares.kill_soon()
        self._guest.kill()

    def _signs(self) -> int:
        """Another number after each byte to or from the guest, and always while it is paused, which isn't idling."""
        is_still = self._pausing.paused or self._snapshotting.is_taking
        return time.monotonic_ns() if is_still else self._guest.traffic

    def _conclude_after(self, error: ChannelError | None) -> Ended:
        """Conclude, once the hypervisor had time to say what became of its guest."""
        if isinstance(error, ChannelProtocolError):
            self._last_word = ChannelEnd.VIOLATION
            self._guest.kill()
        elif isinstance(error, MountPointError):
            self._last_word = ChannelEnd.MOUNT_POINT
        elif isinstance(error, GuestFailedError):
            self._last_word = ChannelEnd.FAILURE
        self._guest.settle(_AFTERMATH)
        if not self._guest.process.ended:
            self._end_lingering()
        return self._conclude()

    def _end_lingering(self) -> None:
        """End a guest that said its last word and goes on."""
        has_failed = self._last_word in {ChannelEnd.FAILURE, ChannelEnd.MOUNT_POINT}
        if has_failed and self._action is HostAction.NOTHING:
            self._break_off(HostAction.KILLED_ON_FAILURE)
        elif self._last_word is ChannelEnd.FAREWELL:
            lingers = {
                HostAction.NOTHING: HostAction.KILLED_ON_FAREWELL,
                HostAction.ASKED_TO_STOP: HostAction.KILLED_ON_STOP,
            }
            if (action := lingers.get(self._action)) is not None:
                self._break_off(action)

    def _unwatch(self) -> None:
        self._snapshotting.cancel()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _let_go(self) -> None:
        """Of the guest, and of all that watches it."""
        self._unwatch()
        self._guest.close()

    def _conclude(self) -> Ended:
        self._let_go()
        return self._write_end()

    def _write_end(self) -> Ended:
        self._observations.last_words = self._guest.last_words
        self._observations.child = self._guest.failure()
        self._observations.usage = self._guest.process.usage
        if self._lost is not None:
            raise self._lost
        try:
            self._ended = conclude(self._observations, self._action, self._last_word, self._guest.events)
        except (MvmnixError, OSError) as error:
            self._lost = error
            raise
        return self._ended
