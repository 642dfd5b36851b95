"""How each combination of observations is judged."""

import pytest

from mvmnix.machines.ending import ChannelEnd, EndReason, HostAction, judge_end, with_command, with_disk
from mvmnix.machines.exit_status import End, ExitStatus
from mvmnix.vmm.port import MonitorEvent

RESET = (MonitorEvent.READY, MonitorEvent.GUEST_RESET)


@pytest.mark.parametrize(
    ("action", "last_word", "events", "reason"),
    [
        (HostAction.NOTHING, ChannelEnd.FAREWELL, RESET, EndReason.GUEST_EXIT),
        (HostAction.NOTHING, ChannelEnd.FAREWELL, (MonitorEvent.GUEST_SHUTDOWN,), EndReason.GUEST_EXIT),
        (HostAction.ASKED_TO_STOP, ChannelEnd.FAREWELL, RESET, EndReason.STOPPED),
        (HostAction.KILLED_ON_STOP, ChannelEnd.NONE, (), EndReason.STOPPED),
        (HostAction.KILLED_ON_TIMEOUT, ChannelEnd.NONE, (), EndReason.TIMEOUT),
        (HostAction.KILLED_ON_STALL, ChannelEnd.NONE, (), EndReason.BOOT_STALLED),
        (HostAction.KILLED_ON_IDLE, ChannelEnd.NONE, RESET, EndReason.IDLE),
        (HostAction.KILLED_ON_SHARE_LIMIT, ChannelEnd.NONE, (), EndReason.SHARE_LIMIT),
        (HostAction.KILLED_ON_TIMEOUT, ChannelEnd.NONE, RESET, EndReason.TIMEOUT),
        (HostAction.NOTHING, ChannelEnd.NONE, RESET, EndReason.GUEST_PANIC),
        (HostAction.ASKED_TO_STOP, ChannelEnd.NONE, RESET, EndReason.GUEST_PANIC),
        (HostAction.NOTHING, ChannelEnd.FAREWELL, (MonitorEvent.GUEST_PANIC,), EndReason.GUEST_PANIC),
        (HostAction.NOTHING, ChannelEnd.FAILURE, RESET, EndReason.GUEST_FAILED),
        (HostAction.KILLED_ON_FAILURE, ChannelEnd.FAILURE, (MonitorEvent.READY,), EndReason.GUEST_FAILED),
        (HostAction.NOTHING, ChannelEnd.FAILURE, (MonitorEvent.READY,), EndReason.HYPERVISOR_DIED),
        (HostAction.KILLED_ON_FAREWELL, ChannelEnd.FAREWELL, (MonitorEvent.READY,), EndReason.GUEST_EXIT),
        (HostAction.NOTHING, ChannelEnd.MOUNT_POINT, RESET, EndReason.MOUNT_POINT),
        (HostAction.KILLED_ON_FAILURE, ChannelEnd.MOUNT_POINT, (MonitorEvent.READY,), EndReason.MOUNT_POINT),
        (HostAction.NOTHING, ChannelEnd.NONE, (), EndReason.HYPERVISOR_DIED),
        (HostAction.NOTHING, ChannelEnd.FAREWELL, (MonitorEvent.READY,), EndReason.HYPERVISOR_DIED),
        (HostAction.NOTHING, ChannelEnd.NONE, (MonitorEvent.INTERNAL_ERROR,), EndReason.HYPERVISOR_DIED),
        (HostAction.NOTHING, ChannelEnd.VIOLATION, (), EndReason.CHANNEL_VIOLATION),
        (HostAction.KILLED_ON_TIMEOUT, ChannelEnd.VIOLATION, RESET, EndReason.CHANNEL_VIOLATION),
    ],
)
def test_judge(action: HostAction, last_word: ChannelEnd, events: tuple[MonitorEvent, ...], reason: EndReason) -> None:
    assert judge_end(action, last_word, events) is reason


@pytest.mark.parametrize("reason", EndReason)
def test_an_orderly_end_after_a_command_that_failed(reason: EndReason) -> None:
    hungry, late = ExitStatus(End.SIGNALED, code=9, is_out_of_memory=True), ExitStatus(End.TIMED_OUT)
    is_own = reason is EndReason.GUEST_EXIT
    assert with_command(reason, hungry) is (EndReason.OUT_OF_MEMORY if is_own else reason)
    assert with_command(reason, late) is (EndReason.TIMEOUT if reason.is_clean else reason)
    for status in (None, ExitStatus(End.SIGNALED, code=9), ExitStatus(End.EXITED, code=1)):
        assert with_command(reason, status) is reason


@pytest.mark.parametrize("reason", EndReason)
def test_a_corrupted_disk_explains_every_end_that_nobody_meant(reason: EndReason) -> None:
    assert with_disk(reason, (3,)) is (reason if reason.is_clean else EndReason.VERITY_CORRUPTION)
    assert with_disk(reason, ()) is reason
