"""mvm kill and its signals; stop, pause and stats as users of podman type them."""

import json

import pytest

from mvmnix.api.calls import change
from mvmnix.launch.control.messages import Request, Stop
from mvmnix.machines import control_socket
from mvmnix.system.private_dirs import Directory
from tests.unit.cli.machines import launched
from tests.unit.cli.station import Station


@pytest.mark.parametrize(
    ("word", "now"),
    [
        *((word, True) for word in ("KILL", "SIGKILL", "9")),
        *((word, False) for word in ("term", "SIGTERM", "15")),
    ],
)
def test_signals(settled: Station, word: str, now: bool) -> None:
    """The supervisor is told by its control socket, and by no signal."""
    machine = launched(settled, "linger", name="web")
    requests = list[Request]()

    def record(machines: Directory, text: str, request: Request, *, seconds: float) -> None:
        requests.append(request)
        change(machines, text, request, seconds=seconds)

    settled.monkeypatch.setattr("mvmnix.api.machines.change", record)
    settled.monkeypatch.setattr("signal.pidfd_send_signal", lambda *_: pytest.fail("a signal"))
    assert settled.mvm("kill", "-s", word, "web").out == f"{machine}\n"
    assert requests == [Stop(now=now)]
    assert settled.mvm("inspect", "web", "--format", "{{.state}} {{.ended}}").out == "ended stopped\n"


def test_a_supervisor_that_accepts_no_calls_gets_a_signal(settled: Station) -> None:
    machine = launched(settled, "linger", name="web")
    (settled.state / "machines" / machine / control_socket.NAME).unlink()
    assert settled.mvm("stop", "web").out == f"{machine}\n"
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
