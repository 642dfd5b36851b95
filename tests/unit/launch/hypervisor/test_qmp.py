"""QEMU's monitor: events in any portions, and what is no QMP."""

import pytest

from mvmnix.launch.hypervisor.port import MonitorEvent
from mvmnix.launch.hypervisor.qmp import LINE_LIMIT, QmpMonitor

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 13}}, "capabilities": ["oob"]}}\r\n{"return": {}}\r\n'


def shutdown(reason: str) -> bytes:
    data = f'{{"guest": true, "reason": "{reason}"}}'
    return f'{{"timestamp": {{"seconds": 1}}, "event": "SHUTDOWN", "data": {data}}}\r\n'.encode()


@pytest.mark.parametrize(
    ("data", "event"),
    [
        (b'{"return": {"status": "running", "running": true}}\r\n', MonitorEvent.READY),
        (b'{"return": {"status": "internal-error", "running": false}}\r\n', MonitorEvent.INTERNAL_ERROR),
        (shutdown("guest-reset"), MonitorEvent.GUEST_RESET),
        (shutdown("guest-shutdown"), MonitorEvent.GUEST_SHUTDOWN),
        (shutdown("guest-panic"), MonitorEvent.GUEST_PANIC),
        (shutdown("host-qmp-quit"), MonitorEvent.HOST_QUIT),
        (shutdown("host-error"), MonitorEvent.INTERNAL_ERROR),
        (shutdown("something-new"), MonitorEvent.GUEST_SHUTDOWN),
        (b'{"event": "GUEST_PANICKED", "data": {"action": "pause"}}\r\n', MonitorEvent.GUEST_PANIC),
        (b'{"event": "STOP"}\r\n', MonitorEvent.INTERNAL_ERROR),
        (b'{"event": "RESUME"}\r\n{"return": {"status": "paused", "running": false}}\r\n', MonitorEvent.PAUSED),
    ],
)
def test_events(data: bytes, event: MonitorEvent) -> None:
    assert QmpMonitor().received(GREETING + data) == (event,)


def test_a_stop_that_was_asked_for_is_told_from_any_other() -> None:
    monitor = QmpMonitor()
    assert b'"stop"' in monitor.pause()
    stopped = b'{"event": "STOP"}\r\n{"return": {}}\r\n{"return": {"status": "%s"}}\r\n'
    assert monitor.received(stopped % b"paused") == (MonitorEvent.PAUSED,)
    assert b'"cont"' in monitor.resume()
    assert monitor.received(b'{"event": "RESUME"}\r\n{"return": {"status": "running"}}\r\n') == (MonitorEvent.READY,)
    assert monitor.received(b'{"event": "STOP"}\r\n') == (MonitorEvent.INTERNAL_ERROR,)
    monitor.pause()
    assert monitor.received(stopped % b"internal-error") == (MonitorEvent.INTERNAL_ERROR,), "it had stopped before"


def test_bytes_may_come_one_by_one() -> None:
    monitor = QmpMonitor()
    data = GREETING + b'{"event": "RTC_CHANGE", "data": {}}\r\n' + shutdown("guest-reset")
    found = [event for index in range(len(data)) for event in monitor.received(data[index : index + 1])]
    assert found == [MonitorEvent.GUEST_RESET]


@pytest.mark.parametrize(
    "data",
    [
        b"hello\n",
        b"[]\n",
        b'{"error": {"class": "CommandNotFound"}}\n',
        b'{"event": "STOP", "event": "RESUME"}\n',
        b"x" * (LINE_LIMIT + 1),
        b"x" * (LINE_LIMIT + 1) + b"\n",
        b"\xff\xfe\n",
        b"[" * 5000 + b"\n",
    ],
)
def test_what_is_no_qmp_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        QmpMonitor().received(data)
