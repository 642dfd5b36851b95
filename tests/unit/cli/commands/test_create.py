"""`mvm create` and `start`: what is verified twice, when a nonce is spent, and what is left if it comes to nothing."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from mvmnix.audit.log import AuditLog, Entry
from mvmnix.audit.record import Record, RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.provenance.policy.trust_text import FILE_NAME
from mvmnix.vmm.port import Acceleration
from tests.patience import until
from tests.unit.cli.machines import edited, kinds, supervisor_of
from tests.unit.cli.plans import signed
from tests.unit.cli.shown import directory
from tests.unit.cli.station import Station


@pytest.fixture(autouse=True)
def grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends a machine ends it at once."""
    monkeypatch.setattr("mvmnix.launch.runtime.supervisor.GRACE", 0.1)


def created(station: Station, *options: str, name: str = "web", command: tuple[str, ...] = ("echo", "hello")) -> str:
    """The id of a machine that waits."""
    said = station.mvm("create", "--name", name, signed(station, *options, command=command))
    assert said.code == 0, said.err
    return said.out.strip()


def state(station: Station, machine: str = "web") -> str:
    return str(station.mvm("inspect", machine).answer("machine")["state"])


def spent(station: Station) -> set[str]:
    return {path.name for path in (station.state / "replay").rglob("*") if len(path.name) == 64}


def test_a_machine_waits_and_starts(settled: Station) -> None:
    machine = created(settled, "--single-use", command=("linger",))
    assert settled.mvm("ps", "--json").answer("machines") == [], "it doesn't live"
    (listed,) = settled.mvm("ps", "--all", "--json", "--filter", "state=created").answer("machines")
    assert (listed["id"], listed["name"], listed["accelerator"]) == (machine, "web", "")
    assert kinds(settled)[-2:] == ["admission", "creation"], "nothing was started"
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


def other_machine(station: Station, *, command: tuple[str, ...]) -> Path:
    """The directory of another machine that waits, of a plan that the same key signed."""
    return directory(station, created(station, name="other", command=command))


def refused_creation(station: Station, said: str) -> None:
    """Nothing of the machine starts; the refusal is in the log, and no admission of another plan."""
    before = kinds(station)
    answer = station.mvm("start", "--attach", "web")
    assert (answer.code, answer.out) == (126, ""), answer
    assert "refused [creation-mismatch]" in answer.err
    assert said in answer.err
    last = json.loads(station.mvm("audit", "tail", "-n", "1").out)
    assert (last["kind"], last["reasons"]) == ("refusal", ["creation-mismatch"])
    assert kinds(station) == [*before, "refusal"][-20:]


def test_another_signed_plan_in_its_place_is_refused(settled: Station) -> None:
    """With all that its directory says of it; both are plans that the planner signed, under the policy in force."""
    machine = directory(settled, created(settled))
    other = other_machine(settled, command=("echo", "other"))
    for name in ("plan.sigstore.json", "machine.json"):
        (machine / name).write_bytes((other / name).read_bytes())
    edited(machine, machine=machine.name, name="web")
    refused_creation(settled, "plan: expected sha256:")
    assert settled.mvm("start", "--attach", "other").out == "other\n"


def test_another_machine_under_its_name_is_refused(settled: Station) -> None:
    web, other = directory(settled, created(settled)), other_machine(settled, command=("echo", "other"))
    edited(web, name="other")
    edited(other, name="web")
    refused_creation(settled, "digest of the name: expected sha256:")


def test_a_policy_that_it_was_not_created_under_is_refused(settled: Station) -> None:
    """The record of its start would name that one."""
    edited(directory(settled, created(settled)), policy="a" * 64)
    refused_creation(settled, f"got sha256:{'a' * 64}")


def test_a_machine_whose_creation_the_log_does_not_have_is_refused(settled: Station) -> None:
    """One whose caller was killed before it recorded it, or that somebody copied there."""
    machine = directory(settled, created(settled))
    copy = machine.with_name("0123456789ab")
    shutil.copytree(machine, copy)
    edited(copy, machine=copy.name)
    assert settled.mvm("rm", machine.name).code == 0
    refused_creation(settled, "no record of the creation")


def test_a_machine_that_ended_does_not_start_again_as_one_that_waits(settled: Station) -> None:
    machine = directory(settled, created(settled))
    before = (machine / "machine.json").read_bytes()
    assert settled.mvm("start", "--attach", "web").code == 0
    (machine / "machine.json").write_bytes(before)
    refused_creation(settled, "the log has a start of it")


def test_the_creation_is_in_the_log(settled: Station) -> None:
    machine = created(settled)
    last = json.loads(settled.mvm("audit", "tail", "-n", "1").out)
    plan = Digest.of((settled.path / "plan.sigstore.json").read_bytes()).hex
    assert (last["kind"], last["machine"], last["plan"]) == ("creation", machine, plan)
    assert last["digests"] == {"name": Digest.of(b"web").hex}


def test_a_machine_whose_creation_can_not_be_recorded_is_not_made(settled: Station) -> None:
    bundle = signed(settled)
    real = AuditLog.append

    def append(self: AuditLog, record: Record) -> Entry:
        if record.kind is RecordKind.CREATION:
            raise MvmnixError("the audit log cannot be written: No space left on device")
        return real(self, record)

    settled.monkeypatch.setattr(AuditLog, "append", append)
    assert settled.mvm("create", bundle).code == 125
    assert [path.name for path in (settled.state / "machines").iterdir()] == ["register.lock"]


def test_a_start_without_a_terminal_says_what_holds_the_guest(settled: Station) -> None:
    """By the caller, for its supervisor has nowhere to say it; the id alone is on stdout."""
    machine = created(settled, command=("linger",))
    for command in (("start", machine), ("launch", "--detach", settled.path / "plan.sigstore.json")):
        said = settled.mvm(*command)
        assert (said.code, len(said.out.split())) == (0, 1)
        (listed,) = (it for it in settled.mvm("ps", "--json").answer("machines") if it["id"] == said.out.strip())
        held = Acceleration(listed["accelerator"]).boundary.explained
        assert f"isolation: {held}" in said.err
        settled.mvm("kill", said.out.strip())


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
    os.kill(supervisor_of(settled, machine), signal.SIGKILL)
    until(lambda: settled.mvm("ps", "--json").answer("machines") == [])
    assert (state(settled), kinds(settled)[-1]) == ("ended", "end")
