"""mvm kill and its signals; stop, pause and stats as users of podman type them."""

import json
import signal

import pytest

from tests.unit.cli.machines import launched
from tests.unit.cli.station import Station


@pytest.mark.parametrize(
    ("word", "numbers"),
    [
        *((word, [signal.SIGTERM, signal.SIGINT]) for word in ("KILL", "SIGKILL", "9")),
        *((word, [signal.SIGTERM]) for word in ("term", "SIGTERM", "15")),
    ],
)
def test_signals(settled: Station, word: str, numbers: list[int]) -> None:
    """The supervisor asks the guest upon the first signal, and ends the machine upon the second."""
    machine = launched(settled, "linger", name="web")
    send, sent = signal.pidfd_send_signal, list[int]()

    def record(pidfd: int, number: int) -> None:
        sent.append(number)
        send(pidfd, number)

    settled.monkeypatch.setattr("signal.pidfd_send_signal", record)
    assert settled.mvm("kill", "-s", word, "web").out == f"{machine}\n"
    assert sent == numbers
    assert settled.mvm("inspect", "web", "--format", "{{.state}} {{.ended}}").out == "ended stopped\n"


def test_a_signal_that_a_machine_does_not_take(settled: Station) -> None:
    machine = launched(settled, "linger", name="web")
    said = settled.mvm("kill", "--signal", "USR1", "web")
    assert (said.code, said.out) == (2, "")
    assert "a machine takes no signal 'USR1'" in said.err
    assert "mvm exec MACHINE -- kill -s USR1 PID" in said.err
    assert settled.mvm("pause", "web").out == settled.mvm("unpause", "web").out == f"{machine}\n"
    assert json.loads(settled.mvm("stats", "--no-stream", "--format", "json").out)["result"][0]["id"] == machine
    assert settled.mvm("stop", "-t", "5", "web").out == f"{machine}\n"
