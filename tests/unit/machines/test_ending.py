"""How each combination of observations is judged."""

import pytest

from mvmnix.machines.ending import ChannelEnd, EndReason, HostAction, judge_end, with_disk
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
def test_a_corrupted_disk_explains_every_end_that_nobody_meant(reason: EndReason) -> None:
    assert with_disk(reason, (3,)) is (reason if reason.is_clean else EndReason.VERITY_CORRUPTION)
    assert with_disk(reason, ()) is reason
