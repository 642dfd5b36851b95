"""The verbs that `mvm run` grants unasked: what its user needs to enter a machine, and when there are none."""

from pathlib import Path
from typing import Any

import pytest

from mvmnix.launch.gate import signatures
from mvmnix.launch.gate.checks import plan_of
from mvmnix.machines.machine_dir import PLAN
from mvmnix.provenance.bundle import statement
from tests.unit.cli.machines import machines, workload
from tests.unit.cli.policies import policy
from tests.unit.cli.station import Station

ALL = ("copy", "exec", "shell")
SAID = "the plan grants copy, exec and shell"


def granted(station: Station) -> tuple[str, ...]:
    """The verbs of the plan of the one machine that there is."""
    (machine,) = machines(station)
    payload = signatures.payload((machine / PLAN).read_bytes())
    return tuple(sorted(plan_of(statement.parse(payload)).verbs))


def forbid(station: Station) -> None:
    """Have the trust policy refuse verbs that nobody asked for."""
    policy(station, lambda text: text.replace("[launch]", "[launch]\nunasked-verbs = false"))


def test_one_enters_a_machine_that_one_started(settled: Station, tmp_path: Path) -> None:
    settled.monkeypatch.setattr("mvmnix.launch.runtime.supervisor.GRACE", 0.1)
    said = settled.mvm("run", "-d", "--name", "web", settled.flake(verbs=[*ALL, "stream"]), "--", "linger")
    assert (said.code, SAID in said.err, "--no-verbs" in said.err) == (0, True, True), said.err
    assert granted(settled) == ALL, "stream takes ports, and nobody named one"
    assert settled.mvm("exec", "web", "echo", "there").out == "there\n"
    (tmp_path / "words").write_text("in")
    assert settled.mvm("cp", tmp_path / "words", f"web:{tmp_path}/copied").code == 0


def test_an_image_that_offers_less_is_granted_less(settled: Station) -> None:
    said = settled.mvm("run", settled.flake(verbs=["exec"]), "--", "true")
    assert (said.code, granted(settled), "the plan grants exec, to" in said.err) == (0, ("exec",), True), said.err


@pytest.mark.parametrize(
    ("options", "manifest", "verbs"),
    [
        ((), {"posture": "sealed", "verbs": []}, ()),
        ((), {"verbs": []}, ()),
        (("--secret", "a=env:HOME"), {}, ()),
        (("--secret-env", "A=env:HOME"), {}, ()),
        (("--no-verbs",), {}, ()),
        (("--verb", "copy"), {}, ("copy",)),
        (("--verb", "exec", "--secret", "a=env:HOME"), {}, ("exec",)),
    ],
    ids=["sealed", "none offered", "secret file", "secret variable", "--no-verbs", "--verb", "--verb and a secret"],
)
def test_no_verb_is_granted_unasked(
    settled: Station, options: tuple[str, ...], manifest: dict[str, Any], verbs: tuple[str, ...]
) -> None:
    said = settled.mvm("run", *options, settled.flake(**{"verbs": list(ALL)} | manifest), "--", "true")
    assert (said.code, granted(settled), "the plan grants" in said.err) == (0, verbs, False), said.err


@pytest.mark.parametrize("options", [(), ("--verb", "exec")])
def test_a_policy_may_forbid_what_nobody_asked_for(settled: Station, options: tuple[str, ...]) -> None:
    forbid(settled)
    said = settled.mvm("run", *options, settled.flake(), "--", "true")
    assert (said.code, granted(settled), "the plan grants" in said.err) == (0, options[1:], False), said.err


def test_a_plan_that_one_makes_oneself_grants_what_is_named(settled: Station) -> None:
    out = settled.path / "plan.json"
    said = settled.mvm("plan", "create", "-o", out, settled.flake(), "--", "true")
    assert (said.code, "the plan grants" in said.err) == (0, False)
    assert plan_of(statement.parse(out.read_bytes())).verbs == frozenset()
    assert settled.mvm("plan", "create", "--no-verbs", settled.flake("other"), "--", "true").code == 2


def test_no_verbs_and_a_verb_exclude_each_other(settled: Station) -> None:
    said = settled.mvm("run", "--no-verbs", "--verb", "exec", settled.flake(), "--", "true")
    assert (said.code, "--no-verbs grants none" in said.err) == (2, True), said.err
    assert not machines(settled)


def test_without_a_command_nothing_starts(settled: Station) -> None:
    """A run is its command: the verb that nobody asked for makes no machine of a plan that would be none."""
    said = settled.mvm("run", settled.flake(workload=workload()))
    assert (said.code, "there is no command" in said.err) == (2, True), said.err
    assert not machines(settled)
