"""QEMU's monitor: events in any portions, and what is no QMP."""

import json

import pytest

from mvmnix.vmm.port import MonitorEvent
from mvmnix.vmm.qmp import ANSWER_LIMIT, LINE_LIMIT, QmpMonitor

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


def migration(status: str) -> bytes:
    return f'{{"event": "MIGRATION", "data": {{"status": "{status}"}}}}\r\n'.encode()


def steps(data: bytes) -> list[tuple[str, object]]:
    """What QEMU is told, line by line."""
    lines = [json.loads(line) for line in data.splitlines()]
    return [(line["execute"], line.get("arguments")) for line in lines]


TEMPLATING = [
    (
        "migrate-set-capabilities",
        {"capabilities": [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]},
    )
]
READ, WRITTEN = {"uri": "file:/dev/fdset/14"}, {"uri": "file:/dev/fdset/15"}


@pytest.mark.parametrize(("status", "event"), [("completed", MonitorEvent.SAVED), ("failed", MonitorEvent.SAVE_FAILED)])
def test_a_guest_is_saved_and_stands_still_then(status: str, event: MonitorEvent) -> None:
    monitor = QmpMonitor()
    monitor.received(GREETING)
    assert steps(monitor.save()) == [*TEMPLATING, ("migrate", WRITTEN)]
    answers = b'{"return": {}}\r\n' * 2
    begun = answers + migration("setup") + migration("active") + b'{"event": "STOP"}\r\n' + migration("device")
    assert monitor.received(begun) == ()
    assert monitor.received(migration(status)) == (event,)
    assert monitor.received(b'{"event": "STOP"}\r\n') == (MonitorEvent.INTERNAL_ERROR,), "that one was not asked for"


def test_a_guest_that_is_restored_runs_once_and_is_none_that_was_saved() -> None:
    """QEMU says that it goes on before it says that all was read."""
    monitor = QmpMonitor()
    asked = monitor.greeting(restores=True)
    assert asked.startswith(QmpMonitor().greeting())
    assert steps(asked)[2:] == [*TEMPLATING, ("migrate-incoming", READ)]
    waiting = GREETING + b'{"return": {"status": "inmigrate", "running": false}}\r\n'
    assert monitor.received(waiting + migration("setup") + migration("active")) == ()
    resumed = b'{"event": "RESUME"}\r\n' + migration("completed") + b'{"return": {}}\r\n'
    assert monitor.received(resumed) == (MonitorEvent.READY,)
    assert monitor.received(b'{"event": "RESUME"}\r\n') == (), "when it goes on again it is asked"


def test_one_that_boots_is_ready_by_its_status_alone() -> None:
    monitor = QmpMonitor()
    monitor.greeting()
    assert monitor.received(GREETING + b'{"event": "RESUME"}\r\n' + migration("completed")) == ()


def answer(name: str, value: object, *, kind: str = "return") -> bytes:
    return json.dumps({kind: value, "id": name}).encode() + b"\r\n"


def asked(*, registers: bool = True) -> tuple[QmpMonitor, list[str]]:
    """A monitor that has asked how a guest stands, and its questions."""
    monitor = QmpMonitor()
    monitor.received(GREETING)
    lines = [json.loads(line) for line in monitor.examine(registers=registers).splitlines()]
    return monitor, [line["id"] for line in lines]


def test_a_guest_that_stands_still_is_asked_about() -> None:
    monitor, names = asked()
    assert names == ["query-status", "info registers -a", "info lapic", "info pic", "info irq"]
    (status, registers, *_) = (json.loads(line) for line in monitor.examine(registers=True).splitlines())
    assert status == {"execute": "query-status", "id": "query-status"}
    command = {"command-line": "info registers -a"}
    assert registers == {"execute": "human-monitor-command", "arguments": command, "id": "info registers -a"}
    assert "info registers -a" not in asked(registers=False)[1]


def test_answers_are_no_events() -> None:
    monitor, names = asked()
    for name in names[1:]:
        assert monitor.received(answer(name, f"{name}: 0\r\n")) == ()
    before = monitor.answered
    assert monitor.received(answer("query-status", {"status": "paused"})) == ()
    assert (before, monitor.answered) == (False, True)
    assert monitor.answers["info irq"] == "info irq: 0\r\n"
    assert monitor.answers["query-status"] == '{"status": "paused"}'


def test_an_event_between_answers_is_one() -> None:
    monitor, _ = asked()
    assert monitor.received(answer("info irq", "") + shutdown("guest-panic")) == (MonitorEvent.GUEST_PANIC,)


def test_a_question_that_is_refused_is_answered_too() -> None:
    monitor, names = asked()
    for name in names:
        assert monitor.received(answer(name, {"class": "GenericError", "desc": "no"}, kind="error")) == ()
    assert monitor.answered
    assert monitor.answers["info pic"] == 'error: {"class": "GenericError", "desc": "no"}'


def test_an_answer_to_no_question_is_refused() -> None:
    monitor, _ = asked()
    monitor.received(answer("info irq", "once"))
    for name in ("info irq", "x/64gx 0"):
        with pytest.raises(ValueError, match="no QMP message"):
            monitor.received(answer(name, {"error": 1}, kind="error"))


def test_answers_are_longer_than_events_and_bounded() -> None:
    monitor, names = asked()
    monitor.received(answer("info registers -a", "x" * (ANSWER_LIMIT - 100)))
    with pytest.raises(ValueError, match="more than"):
        monitor.received(b"x" * (ANSWER_LIMIT + 1))
    monitor, names = asked()
    for name in names:
        monitor.received(answer(name, ""))
    with pytest.raises(ValueError, match="more than"):
        monitor.received(b"x" * (LINE_LIMIT + 1))
