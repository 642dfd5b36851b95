"""How each combination of observations is judged."""

import pytest

from mvmnix.launch.machines.ending import Ending, EndReason, HostAction, LastWord, judge_end, with_disk
from mvmnix.launch.vmm.port import MonitorEvent

RESET = (MonitorEvent.READY, MonitorEvent.GUEST_RESET)


@pytest.mark.parametrize(
    ("action", "last_word", "events", "reason"),
    [
        (HostAction.NOTHING, LastWord.FAREWELL, RESET, EndReason.GUEST_EXIT),
        (HostAction.NOTHING, LastWord.FAREWELL, (MonitorEvent.GUEST_SHUTDOWN,), EndReason.GUEST_EXIT),
        (HostAction.ASKED_TO_STOP, LastWord.FAREWELL, RESET, EndReason.STOPPED),
        (HostAction.KILLED_ON_STOP, LastWord.NONE, (), EndReason.STOPPED),
        (HostAction.KILLED_ON_TIMEOUT, LastWord.NONE, (), EndReason.TIMEOUT),
        (HostAction.KILLED_ON_STALL, LastWord.NONE, (), EndReason.BOOT_STALLED),
        (HostAction.KILLED_ON_IDLE, LastWord.NONE, RESET, EndReason.IDLE),
        (HostAction.KILLED_ON_SHARE_LIMIT, LastWord.NONE, (), EndReason.SHARE_LIMIT),
        (HostAction.KILLED_ON_TIMEOUT, LastWord.NONE, RESET, EndReason.TIMEOUT),
        (HostAction.NOTHING, LastWord.NONE, RESET, EndReason.GUEST_PANIC),
        (HostAction.ASKED_TO_STOP, LastWord.NONE, RESET, EndReason.GUEST_PANIC),
        (HostAction.NOTHING, LastWord.FAREWELL, (MonitorEvent.GUEST_PANIC,), EndReason.GUEST_PANIC),
        (HostAction.NOTHING, LastWord.FAILURE, RESET, EndReason.GUEST_FAILED),
        (HostAction.NOTHING, LastWord.NONE, (), EndReason.HYPERVISOR_DIED),
        (HostAction.NOTHING, LastWord.FAREWELL, (MonitorEvent.READY,), EndReason.HYPERVISOR_DIED),
        (HostAction.NOTHING, LastWord.NONE, (MonitorEvent.INTERNAL_ERROR,), EndReason.HYPERVISOR_DIED),
        (HostAction.NOTHING, LastWord.VIOLATION, (), EndReason.CHANNEL_VIOLATION),
        (HostAction.KILLED_ON_TIMEOUT, LastWord.VIOLATION, RESET, EndReason.CHANNEL_VIOLATION),
    ],
)
def test_judge(action: HostAction, last_word: LastWord, events: tuple[MonitorEvent, ...], reason: EndReason) -> None:
    assert judge_end(Ending(action, last_word, events)) is reason


@pytest.mark.parametrize("reason", EndReason)
def test_a_corrupted_disk_explains_every_end_that_nobody_meant(reason: EndReason) -> None:
    assert with_disk(reason, (3,)) is (reason if reason.orderly else EndReason.VERITY_CORRUPTION)
    assert with_disk(reason, ()) is reason
