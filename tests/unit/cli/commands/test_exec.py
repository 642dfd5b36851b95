"""`mvm exec` as a user sees it: granted by the plan alone, exit codes, streams, and a terminal that only gets text."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.patience import EVENT_PATIENCE, until
from tests.unit.cli.station import ROOT, Station


def launched(station: Station, *options: str, **manifest: Any) -> None:
    """A detached machine named web, whose command runs on."""
    station.monkeypatch.setattr("mvmnix.launch.runtime.supervisor.GRACE", 0.1)
    statement, bundle = station.path / "plan.json", station.path / "plan.sigstore.json"
    flake = station.flake(**manifest)
    made = station.mvm("plan", "create", *options, "--out", statement, flake, "--", "linger")
    assert made.code == 0, made.err
    assert station.mvm("plan", "sign", statement, "--out", bundle).code == 0
    said = station.mvm("launch", "--detach", "--name", "web", bundle)
    assert said.code == 0, said.err


def kinds(station: Station) -> list[str]:
    return [json.loads(line)["kind"] for line in station.mvm("audit", "tail").out.splitlines()]


def test_a_granted_command(settled: Station) -> None:
    launched(settled, "--verb", "exec")
    said = settled.mvm("exec", "web", "echo", "--help", "-i", "words")
    assert (said.code, said.out, said.err) == (0, "--help -i words\n", "")
    said = settled.mvm("exec", "web", "--", "complain", "no")
    assert (said.code, said.out, said.err) == (3, "", "no")
    said = settled.mvm("exec", "web", "nosuch")
    assert said.code == 127
    assert "the command 'nosuch' did not end by itself: it could not be started" in said.err
    assert kinds(settled).count("exec") == 3
    assert settled.mvm("audit", "verify").code in {0, 3}
    settled.mvm("kill", "web")
    assert settled.mvm("exec", "web", "true").code == 2


@pytest.mark.parametrize("posture", ["dev", "sealed"])
def test_what_the_plan_does_not_grant_is_refused(settled: Station, posture: str) -> None:
    launched(settled, posture=posture, verbs=["exec"] if posture == "dev" else [])
    said = settled.mvm("exec", "web", "true")
    assert said.code == 126
    assert "refused [verb-not-granted]" in said.err
    assert ("sealed" in said.err) == (posture == "sealed")
    assert kinds(settled)[-1] == "refusal"


@pytest.mark.parametrize("manifest", [{"posture": "sealed", "verbs": []}, {"posture": "dev", "verbs": []}])
def test_a_verb_that_the_image_does_not_offer_is_refused_at_the_plan(
    settled: Station, manifest: dict[str, Any]
) -> None:
    flake = settled.flake(**manifest)
    for command in (("plan", "create"), ("run",)):
        said = settled.mvm(*command, "--verb", "exec", flake)
        assert said.code == 126
        assert "refused [verb-not-granted]" in said.err
    assert settled.mvm("plan", "create", "--verb", "fly", flake).code == 2


def typed(station: Station, *arguments: str, stdin: bytes) -> "subprocess.CompletedProcess[bytes]":
    argv = [sys.executable, "-m", "mvmnix.cli", *arguments]
    return subprocess.run(
        argv, input=stdin, env={"HOME": str(station.home)}, cwd=ROOT, capture_output=True, check=False
    )


def test_standard_input_is_handed_over_when_asked_for(settled: Station) -> None:
    launched(settled, "--verb", "exec")
    assert typed(settled, "exec", "-i", "web", "cat", stdin=b"typed").stdout == b"typed"
    assert typed(settled, "exec", "web", "cat", stdin=b"typed").stdout == b""


def on_a_terminal(
    station: Station, *arguments: str, keys: bytes = b"", environment: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """The exit code of a command whose three streams are a terminal, and what the terminal got."""
    master, terminal = os.openpty()
    argv = [sys.executable, "-m", "mvmnix.cli", *arguments]
    child = subprocess.Popen(
        argv,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={"HOME": str(station.home)} | dict(environment or {}),
        cwd=ROOT,
    )
    os.close(terminal)
    os.write(master, keys)
    said = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # the terminal hung up
            break
        said += data
    os.close(master)
    return child.wait(EVENT_PATIENCE), said


def test_a_terminal_gets_text_unless_it_is_asked_for_raw(settled: Station) -> None:
    launched(settled, "--verb", "exec")
    odd = "a\x1b]0;mine\x07b"
    assert on_a_terminal(settled, "exec", "web", "echo", odd) == (0, b"a\\u001b]0;mine\\u0007b\r\n")
    assert on_a_terminal(settled, "exec", "--raw", "web", "echo", odd) == (0, odd.encode() + b"\r\n")
    end_of_input = b"\x04"
    assert on_a_terminal(settled, "exec", "-i", "web", "complain", odd, keys=end_of_input)[0] == 3


def test_a_killed_caller_takes_his_command_along(settled: Station) -> None:
    launched(settled, "--verb", "exec")
    calling = settled.start("exec", "web", "linger")
    until(lambda: kinds(settled)[-1] == "exec")
    calling.kill()
    calling.communicate()
    assert settled.mvm("exec", "web", "echo", "still there").out == "still there\n"


def test_an_interruption_is_the_commands(settled: Station) -> None:
    launched(settled, "--verb", "exec")
    calling = settled.start("exec", "web", "linger")
    until(lambda: kinds(settled)[-1] == "exec")
    calling.send_signal(signal.SIGINT)
    assert calling.wait(EVENT_PATIENCE) == 128 + signal.SIGINT
    calling.communicate()


def test_odd_arguments(settled: Station) -> None:
    launched(settled, "--verb", "exec")
    for arguments in (
        ("-w", "relative", "web", "true"),
        ("-e", "A", "web", "true"),
        ("web", "x" * 70_000),
        ("web",),
        ("web", "--"),
    ):
        said = settled.mvm("exec", *arguments)
        assert said.code == 2, said.err
