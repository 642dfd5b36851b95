"""`mvm exec` as a user sees it: granted by the plan alone, exit codes, streams, and a terminal that only gets text."""

import signal
from typing import Any

import pytest

from tests.patience import EVENT_PATIENCE, until
from tests.unit.cli.machines import kinds, launch_web, on_a_terminal, typed
from tests.unit.cli.station import Station


def test_a_granted_command(settled: Station) -> None:
    launch_web(settled, "--verb", "exec")
    said = settled.mvm("exec", "web", "echo", "--help", "-i", "words")
    assert (said.code, said.out, said.err) == (0, "--help -i words\n", "")
    said = settled.mvm("exec", "web", "--", "complain", "no")
    assert (said.code, said.out, said.err) == (3, "", "no")
    said = settled.mvm("exec", "web", "nosuch")
    assert said.code == 127
    assert "command not found in the guest: nosuch\n" in said.err
    assert kinds(settled).count("exec") == 3
    assert settled.mvm("audit", "verify").code in {0, 3}
    settled.mvm("kill", "web")
    assert settled.mvm("exec", "web", "true").code == 2


@pytest.mark.parametrize("posture", ["dev", "sealed"])
def test_what_the_plan_does_not_grant_is_refused(settled: Station, posture: str) -> None:
    launch_web(settled, posture=posture, verbs=["exec"] if posture == "dev" else [])
    said = settled.mvm("exec", "web", "true")
    assert said.code == 126
    assert "refused [verb-not-granted]" in said.err
    assert ("sealed" in said.err) == (posture == "sealed")
    assert kinds(settled)[-1] == "refusal"


@pytest.mark.parametrize(
    ("verb", "manifest"),
    [
        ("exec", {"posture": "sealed", "verbs": []}),
        ("exec", {"posture": "dev", "verbs": []}),
        ("shell", {"posture": "dev", "verbs": ["exec"]}),
    ],
)
def test_a_verb_that_the_image_does_not_offer_is_refused_at_the_plan(
    settled: Station, verb: str, manifest: dict[str, Any]
) -> None:
    flake = settled.flake(**manifest)
    for command in (("plan", "create"), ("run",)):
        said = settled.mvm(*command, "--verb", verb, flake)
        assert said.code == 126
        assert "refused [verb-not-granted]" in said.err
    assert settled.mvm("plan", "create", "--verb", "fly", flake).code == 2


def test_standard_input_is_handed_over_when_asked_for(settled: Station) -> None:
    launch_web(settled, "--verb", "exec")
    assert typed(settled, "exec", "-i", "web", "cat", stdin=b"typed").stdout == b"typed"
    assert typed(settled, "exec", "web", "cat", stdin=b"typed").stdout == b""


def test_a_terminal_gets_text_unless_it_is_asked_for_raw(settled: Station) -> None:
    launch_web(settled, "--verb", "exec")
    odd = "a\x1b]0;mine\x07b"
    assert on_a_terminal(settled, "exec", "web", "echo", odd) == (0, b"a\\u001b]0;mine\\u0007b\r\n")
    assert on_a_terminal(settled, "exec", "--raw", "web", "echo", odd) == (0, odd.encode() + b"\r\n")
    end_of_input = b"\x04"
    assert on_a_terminal(settled, "exec", "-i", "web", "complain", odd, keys=end_of_input)[0] == 3


def test_a_killed_caller_takes_his_command_along(settled: Station) -> None:
    launch_web(settled, "--verb", "exec")
    calling = settled.start("exec", "web", "linger")
    until(lambda: kinds(settled)[-1] == "exec")
    calling.kill()
    calling.communicate()
    assert settled.mvm("exec", "web", "echo", "still there").out == "still there\n"


def test_an_interruption_is_the_commands(settled: Station) -> None:
    launch_web(settled, "--verb", "exec")
    calling = settled.start("exec", "web", "linger")
    until(lambda: kinds(settled)[-1] == "exec")
    calling.send_signal(signal.SIGINT)
    assert calling.wait(EVENT_PATIENCE) == 128 + signal.SIGINT
    calling.communicate()


def test_odd_arguments(settled: Station) -> None:
    launch_web(settled, "--verb", "exec")
    for arguments in (
        ("-w", "relative", "web", "true"),
        ("-e", "A", "web", "true"),
        ("web", "x" * 70_000),
        ("web",),
        ("web", "--"),
    ):
        said = settled.mvm("exec", *arguments)
        assert said.code == 2, said.err
