"""How a machine's end is judged from what was observed; a rule without I/O, which never asks for an exit status.

Guests end in ways that look alike: QEMU exits with 0 after a panic, and a reset is both how our agent ends and how a
kernel with `panic=-1` does. So the agent's last word, the hypervisor's events and what the host itself did decide.
"""

from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from mvmnix.machines.exit_status import End, ExitStatus

if TYPE_CHECKING:
    from mvmnix.audit.record import Record
    from mvmnix.vmm.port import MonitorEvent


class EndReason(StrEnum):
    """Why a machine ended."""

    GUEST_EXIT = "guest-exit"
    OUT_OF_MEMORY = "out-of-memory"
    STOPPED = "stopped"
    SAVED = "saved"
    CLAIMED = "claimed"
    COOLED = "cooled"
    TIMEOUT = "timeout"
    BOOT_STALLED = "boot-stalled"
    IDLE = "idle"
    SHARE_LIMIT = "share-limit"
    NETWORK_ENDED = "network-ended"
    GUEST_FAILED = "guest-failed"
    MOUNT_POINT = "mount-point-unusable"
    GUEST_PANIC = "guest-panic"
    VERITY_CORRUPTION = "verity-corruption"
    HYPERVISOR_DIED = "hypervisor-died"
    CHANNEL_VIOLATION = "channel-violation"
    SUPERVISOR_DIED = "supervisor-died"
    NOT_STARTED = "not-started"

    @property
    def is_clean(self) -> bool:
        """Whether it is an intended end."""
        return self in _CLEAN


_CLEAN: Final = frozenset(
    {
        EndReason.GUEST_EXIT,
        EndReason.OUT_OF_MEMORY,
        EndReason.STOPPED,
        EndReason.SAVED,
        EndReason.CLAIMED,
        EndReason.COOLED,
    }
)


class HostAction(StrEnum):
    """What the host did to the machine last, if anything."""

    NOTHING = "nothing"
    ASKED_TO_STOP = "asked-to-stop"
    KILLED_ON_STOP = "killed-on-stop"
    KILLED_ON_TIMEOUT = "killed-on-timeout"
    KILLED_ON_STALL = "killed-on-stall"
    KILLED_ON_IDLE = "killed-on-idle"
    KILLED_ON_SHARE_LIMIT = "killed-on-share-limit"
    KILLED_ON_NETWORK_END = "killed-on-network-end"
    KILLED_ON_FAILURE = "killed-on-failure"
    KILLED_ON_FAREWELL = "killed-on-farewell"
    SAVED = "saved"
    CLAIMED = "claimed"
    COOLED = "cooled"


class ChannelEnd(StrEnum):
    """How the conversation with the agent ended."""

    NONE = "none"
    FAREWELL = "farewell"
    FAILURE = "failure"
    MOUNT_POINT = "mount-point"
    VIOLATION = "violation"


def judge_end(action: HostAction, last_word: ChannelEnd, events: "Collection[MonitorEvent]") -> EndReason:
    """Why the machine ended, as far as that can be told without its disk.

    1. What the host broke off itself: a guest that breaks the protocol, one that took too long, stalled at its
       boot, was idle for too long or wrote too much, one whose network ended, one that was stopped, saved, claimed or
       cooled, one that said why it can't go on and didn't end, one that announced its end and took too long for it.
    2. A hypervisor that failed, or went without a word about its guest.
    3. A guest that said why it can't go on.
    4. A panic, or a reset that the agent did not announce.
    5. An end that the agent announced.

    >>> from mvmnix.vmm.port import MonitorEvent
    >>> judge_end(HostAction.NOTHING, ChannelEnd.FAREWELL, (MonitorEvent.GUEST_RESET,))
    <EndReason.GUEST_EXIT: 'guest-exit'>
    """
    from mvmnix.vmm.port import MonitorEvent  # noqa: PLC0415 - who reads how machines ended doesn't pay for it

    silent = not {MonitorEvent.GUEST_RESET, MonitorEvent.GUEST_SHUTDOWN, MonitorEvent.GUEST_PANIC} & set(events)
    unannounced = last_word is not ChannelEnd.FAREWELL
    steps = (
        (last_word is ChannelEnd.VIOLATION, EndReason.CHANNEL_VIOLATION),  # 1
        (action is HostAction.KILLED_ON_TIMEOUT, EndReason.TIMEOUT),
        (action is HostAction.KILLED_ON_STALL, EndReason.BOOT_STALLED),
        (action is HostAction.KILLED_ON_IDLE, EndReason.IDLE),
        (action is HostAction.KILLED_ON_SHARE_LIMIT, EndReason.SHARE_LIMIT),
        (action is HostAction.KILLED_ON_NETWORK_END, EndReason.NETWORK_ENDED),
        (action is HostAction.KILLED_ON_STOP, EndReason.STOPPED),
        (action is HostAction.SAVED, EndReason.SAVED),
        (action is HostAction.CLAIMED, EndReason.CLAIMED),
        (action is HostAction.COOLED, EndReason.COOLED),
        (action is HostAction.KILLED_ON_FAILURE and last_word is ChannelEnd.MOUNT_POINT, EndReason.MOUNT_POINT),
        (action is HostAction.KILLED_ON_FAILURE, EndReason.GUEST_FAILED),
        (action is HostAction.KILLED_ON_FAREWELL, EndReason.GUEST_EXIT),
        (MonitorEvent.INTERNAL_ERROR in events or silent, EndReason.HYPERVISOR_DIED),  # 2
        (last_word is ChannelEnd.MOUNT_POINT, EndReason.MOUNT_POINT),  # 3
        (last_word is ChannelEnd.FAILURE, EndReason.GUEST_FAILED),
        (MonitorEvent.GUEST_PANIC in events or unannounced, EndReason.GUEST_PANIC),  # 4
        (action is HostAction.ASKED_TO_STOP, EndReason.STOPPED),  # 5
    )
    return next((reason for holds, reason in steps if holds), EndReason.GUEST_EXIT)


def with_command(reason: EndReason, status: ExitStatus | None) -> EndReason:
    """The same, once the guest has told how the plan's command ended, however orderly the machine ended then.

    >>> with_command(EndReason.GUEST_EXIT, ExitStatus(End.SIGNALED, code=9, is_out_of_memory=True))
    <EndReason.OUT_OF_MEMORY: 'out-of-memory'>
    """
    if status is None or not reason.is_clean:
        return reason
    if status.end is End.TIMED_OUT:
        return EndReason.TIMEOUT
    is_killed = reason is EndReason.GUEST_EXIT and status.is_out_of_memory
    return EndReason.OUT_OF_MEMORY if is_killed else reason


def with_disk(reason: EndReason, corrupted: tuple[int, ...]) -> EndReason:
    """The same, once the host has walked the disk's hash tree after an unintended end.

    >>> with_disk(EndReason.GUEST_PANIC, (17,))
    <EndReason.VERITY_CORRUPTION: 'verity-corruption'>
    """
    return EndReason.VERITY_CORRUPTION if corrupted and not reason.is_clean else reason


def end_words(reason: EndReason) -> tuple[str, ...]:
    """How a record of the end says why: with no word for the guest's own end, which is the usual one."""
    return () if reason is EndReason.GUEST_EXIT else (reason,)


def end_reason(end: "Record") -> str:
    """Why a machine ended, by the record of that."""
    return end.reasons[0] if end.reasons else EndReason.GUEST_EXIT
