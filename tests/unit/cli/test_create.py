"""`mvm create` and `start`: what is verified twice, when a nonce is spent, and what is left if it comes to nothing."""

import json
import os
import signal
from pathlib import Path

from mvmnix.provenance.policy_text import FILE_NAME
from tests.unit.cli.station import Station
from tests.unit.launch.test_guest import wait_until


def signed(station: Station, *options: str, command: tuple[str, ...] = ("echo", "hello")) -> Path:
    """A signed plan."""
    station.monkeypatch.setattr("mvmnix.launch.supervisor.GRACE", 0.1)
    statement, bundle = station.path / "plan.json", station.path / "plan.sigstore.json"
    flake = station.path / "flakes/hello"
    reference = f"path:{flake}" if flake.exists() else station.flake()
    made = station.mvm("plan", "create", *options, "--out", statement, reference, "--", *command)
    assert made.code == 0, made.err
    assert station.mvm("plan", "sign", statement, "--out", bundle).code == 0
    return bundle


def created(station: Station, *options: str, name: str = "web", command: tuple[str, ...] = ("echo", "hello")) -> str:
    """The id of a machine that waits."""
    said = station.mvm("create", "--name", name, signed(station, *options, command=command))
    assert said.code == 0, said.err
    return said.out.strip()


def state(station: Station, machine: str = "web") -> str:
    return str(station.mvm("inspect", machine).answer("machine")["state"])


def kinds(station: Station) -> list[str]:
    return [json.loads(line)["kind"] for line in station.mvm("audit", "tail").out.splitlines()]


def spent(station: Station) -> set[str]:
    return {path.name for path in (station.state / "replay").rglob("*") if len(path.name) == 64}


def test_a_machine_waits_and_starts(settled: Station) -> None:
    machine = created(settled, "--single-use", command=("linger",))
    assert settled.mvm("ps", "--json").answer("machines") == [], "it doesn't live"
    (listed,) = settled.mvm("ps", "--all", "--json", "--filter", "state=created").answer("machines")
    assert (listed["id"], listed["name"], listed["accelerator"]) == (machine, "web", "")
    assert kinds(settled)[-1] == "admission", "nothing was started"
    before = spent(settled)
    for command in ("stop", "kill", "wait", "pause", "exec"):
        assert settled.mvm(command, "web", *(["true"] if command == "exec" else [])).code == 2
    assert f"mvm start {machine}" in settled.mvm("wait", "web").err
    assert settled.mvm("show", "web").code in {0, 2}
    said = settled.mvm("start", "web")
    assert (said.code, said.out) == (0, f"{machine}\n"), said.err
    assert state(settled) == "running"
    assert len(spent(settled) - before) == 1, "the nonce is spent at the start"
    assert settled.mvm("start", "web").code == 2
    assert settled.mvm("kill", "web").code == 0
    assert (state(settled), kinds(settled)[-2:]) == ("ended", ["start", "end"])
    assert "it is ended" in settled.mvm("start", "web").err
    assert settled.mvm("show", "web").code == 0
    assert settled.mvm("audit", "verify").code in {0, 3}
    assert settled.mvm("rm", "web").code == 0


def test_attached_it_exits_as_its_command(settled: Station) -> None:
    created(settled, command=("complain", "words"))
    said = settled.mvm("start", "--attach", "web")
    assert (said.code, said.err.splitlines()[-1]) == (3, "words")
    assert state(settled) == "ended"


def test_a_plan_that_nobody_signed_makes_none(settled: Station) -> None:
    signed(settled)
    said = settled.mvm("create", settled.path / "plan.json")
    assert said.code == 126
    assert settled.mvm("ps", "--all", "--json").answer("machines") == []


def test_it_is_verified_under_the_policy_of_the_start(settled: Station) -> None:
    machine = created(settled)
    policy = settled.config / FILE_NAME
    policy.write_text(policy.read_text().replace("serial = 1", "serial = 2"))
    said = settled.mvm("start", "web")
    assert (said.code, "refused [" in said.err) == (126, True)
    assert state(settled) == "created"
    assert kinds(settled)[-1] == "refusal"
    assert settled.mvm("rm", machine).code == 0
    assert [path.name for path in (settled.state / "machines").iterdir()] == ["register.lock"]


def test_a_plan_that_was_changed_since_is_refused(settled: Station) -> None:
    machine = created(settled)
    kept = settled.state / "machines" / machine / "plan.sigstore.json"
    kept.write_bytes(kept.read_bytes() + b"\n")
    said = settled.mvm("start", "web")
    assert said.code == 126
    assert "refused [plan-mismatch]" in said.err
    kept.unlink()
    assert "is gone" in settled.mvm("start", "web").err


def test_what_was_spent_meanwhile_is_refused(settled: Station) -> None:
    """Two machines may wait for one plan for once: the first that starts spends it."""
    created(settled, "--single-use")
    bundle = settled.path / "plan.sigstore.json"
    other = settled.mvm("create", "--name", "other", bundle)
    assert other.code == 0
    assert settled.mvm("start", "--attach", "web").code == 0
    said = settled.mvm("start", "other")
    assert (said.code, "refused [replay]" in said.err) == (126, True)
    assert state(settled, "other") == "created"
    again = settled.mvm("create", bundle)
    assert (again.code, "refused [replay]" in again.err) == (126, True)


def test_a_name_is_its_own_while_it_waits(settled: Station) -> None:
    created(settled)
    bundle = settled.path / "plan.sigstore.json"
    for command in (("create",), ("launch",)):
        said = settled.mvm(*command, "--name", "web", bundle)
        assert (said.code, "is there already" in said.err) == (2, True)


def test_its_image_is_kept(settled: Station) -> None:
    created(settled)
    (settled.state / "plans").rename(settled.path / "plans")  # a signed plan keeps it as well
    image = settled.mvm("inspect", "web").answer("machine")["digests"]["manifest"]
    said = settled.mvm("image", "rm", image)
    assert said.code != 0
    assert "the machine web" in said.err
    settled.mvm("rm", "web")
    assert settled.mvm("image", "rm", image).code == 0


def test_a_killed_start_leaves_an_end(settled: Station) -> None:
    machine = created(settled, command=("linger",))
    settled.mvm("start", "web")
    os.kill(int(settled.mvm("inspect", machine).answer("machine")["supervisor"]), signal.SIGKILL)
    wait_until(lambda: settled.mvm("ps", "--json").answer("machines") == [])
    assert (state(settled), kinds(settled)[-1]) == ("ended", "end")
