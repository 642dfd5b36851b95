"""`mvm snapshot`, `cool`, `thaw`, `restore`, `fork`, with a hypervisor that does nothing."""

import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mvmnix.clock import now
from mvmnix.errors import ReasonCode
from mvmnix.launch.runtime.finalize import Ended, conclude
from mvmnix.launch.snapshots.export import recipient_key, show_recipient
from mvmnix.launch.templates.sealing_key import read_or_make
from mvmnix.machines import retention
from mvmnix.machines.retention import MachineKind
from mvmnix.system.private_dirs import Directory
from tests.hostile.rig import replaced
from tests.patience import until
from tests.unit.cli.machines import edited, workload
from tests.unit.cli.plans import log
from tests.unit.cli.station import Station

#: What the image offers, and what the plan grants.
OFFERED = ["copy", "exec", "shell", "snapshot"]
GRANTED = ("--verb", "exec", "--verb", "snapshot")
#: The recipient of another host.
STRANGERS = show_recipient(recipient_key(bytes(32)).public_key())


@pytest.fixture
def saving(settled: Station) -> Station:
    """A user whose hypervisor saves guests, and whose host's counter is always measured the same."""
    settled.saves_guests()
    settled.monkeypatch.setattr("mvmnix.api.snapshots.disable_core_dumps_and_tracing", lambda: None)
    return settled


@pytest.fixture
def web(saving: Station) -> str:
    """The id of a machine that runs."""
    return started(saving)


def started(station: Station, *words: str) -> str:
    said = station.mvm("run", "-d", "--name", "web", *GRANTED, *words, station.flake(verbs=OFFERED), "--", "linger")
    assert said.code == 0, said.err
    return said.out.strip()


def done(station: Station, *words: str) -> str:
    said = station.mvm(*words)
    assert said.code == 0, said.err
    return said.out.strip()


def listed(station: Station) -> list[dict[str, object]]:
    return list(station.mvm("snapshot", "ls", "--json").answer("snapshots"))


def running(station: Station) -> set[str]:
    return {each["id"] for each in station.mvm("ps", "--json").answer("machines") if each["state"] == "running"}


def states(station: Station, *words: str) -> list[tuple[str, str]]:
    """Of the machines that are listed, ids and states."""
    return [(each["id"], each["state"]) for each in station.mvm("ps", *words, "--json").answer("machines")]


def ended(station: Station, machine: str) -> object:
    return station.mvm("inspect", machine).answer("machine")["ended"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def test_one_is_taken_shown_verified_and_removed(saving: Station, web: str) -> None:
    snapshot = done(saving, "snapshot", "create", "web")
    (line,) = listed(saving)
    assert (line["id"], line["machine"], line["machineEnded"], line["parent"]) == (snapshot, web, False, "")
    assert snapshot in done(saving, "snapshot", "ls")
    claim = saving.mvm("snapshot", "inspect", snapshot).answer("snapshot")
    assert (claim["id"], claim["machine"], claim["sealed"]["bytes"]) == (snapshot, web, line["size"])
    before = saving.mvm("audit", "tail").out
    assert done(saving, "snapshot", "verify", snapshot).startswith(f"verified: snapshot {snapshot}, by ")
    verification = saving.mvm("snapshot", "verify", snapshot, "--json").answer("verification")
    assert [step["verifier"] for step in verification["steps"]] == ["signature"] * 5 + ["snapshot"] * 12
    assert saving.mvm("audit", "tail").out == before, "nothing of it is logged"
    other = done(saving, "restore", snapshot, "--name", "other")
    assert running(saving) == {web, other}
    done(saving, "kill", other)
    statement = next(record for record in log(saving) if record["kind"] == "snapshot")["digests"]["snapshot"]
    assert f", start: restored (snapshot sha256:{statement}) " in done(saving, "show", "other")
    assert done(saving, "snapshot", "rm", snapshot) == snapshot
    assert listed(saving) == []
    for words in (("inspect",), ("verify",), ("rm",)):
        assert saving.mvm("snapshot", *words, snapshot).code == 2
    assert saving.mvm("restore", snapshot).code == 2
    done(saving, "kill", web)


@pytest.mark.parametrize("file", ["memory.sealed", "key.wrapped", "plan.json", "snapshot.json"])
def test_verify_says_what_a_restore_would(saving: Station, web: str, file: str) -> None:
    snapshot = done(saving, "snapshot", "create", "web")
    flip(saving.state / "snapshots" / snapshot / file)
    verified, restored = (saving.mvm(*words, snapshot) for words in (("snapshot", "verify"), ("restore",)))
    assert (verified.code, restored.code) == (126, 126), (verified.err, restored.err)
    assert restored.err.endswith(verified.err), "what is said before is of the machine that would start"
    assert running(saving) == {web}
    done(saving, "kill", web)


@pytest.mark.parametrize("file", ["memory.sealed", "key.wrapped", "plan.json", "snapshot.json"])
def test_one_that_lacks_a_file_is_removed(saving: Station, web: str, file: str) -> None:
    snapshot = done(saving, "cool", "web")
    assert ended(saving, web) == "cooled"
    (saving.state / "snapshots" / snapshot / file).unlink()
    assert "refused [snapshot-damaged]" in saving.mvm("restore", snapshot).err
    assert done(saving, "snapshot", "rm", snapshot) == snapshot
    assert [*(saving.state / "snapshots").glob("[!l]*")] == []


def test_one_that_says_nothing_is_told_of(saving: Station, web: str) -> None:
    snapshot = done(saving, "cool", "web")
    assert ended(saving, web) == "cooled"
    (saving.state / "snapshots" / snapshot / "snapshot.json").write_bytes(b"{}")
    said = saving.mvm("snapshot", "ls")
    assert (said.code, snapshot in said.out) == (0, False)
    assert f"the snapshot {snapshot} says can't be read; remove it: mvm snapshot rm {snapshot}" in said.err


def test_one_with_the_statement_of_another_is_not_listed_as_that(saving: Station, web: str) -> None:
    first, second = done(saving, "snapshot", "create", web), done(saving, "snapshot", "create", web)
    directory = saving.state / "snapshots"
    (directory / second / "snapshot.json").write_bytes((directory / first / "snapshot.json").read_bytes())
    said = saving.mvm("snapshot", "ls", "--json")
    assert [line["id"] for line in said.answer("snapshots")] == [first]
    assert f"mvm snapshot rm {second}" in said.err


def test_a_machine_of_another_policy_is_not_cooled(saving: Station, web: str) -> None:
    policy = saving.config / "trust.toml"
    policy.write_text(policy.read_text() + "# changed\n")
    said = saving.mvm("cool", web)
    assert (said.code, "started under another trust policy" in said.err) == (2, True), said.err
    assert running(saving) == {web}


def test_thaw_says_what_it_takes(saving: Station, web: str) -> None:
    snapshot = done(saving, "cool", "web")
    said = saving.mvm("thaw", snapshot)
    assert (said.code, f"next: mvm restore {snapshot}" in said.err) == (2, True), said.err


def test_a_name_that_a_cold_machine_and_one_that_runs_have(saving: Station, web: str) -> None:
    kept = done(saving, "snapshot", "create", web)
    done(saving, "cool", "web")
    done(saving, "restore", kept, "--name", "web")
    said = saving.mvm("thaw", "web")
    assert (said.code, f"next: mvm thaw {web} --name web-2" in said.err) == (2, True), said.err
    assert saving.mvm("thaw", web, "--name", "web-2").code == 0


def test_a_cooled_machine_is_thawed_under_its_name(saving: Station, web: str) -> None:
    assert saving.mvm("thaw", "web").code == 2, "it runs"
    snapshot = done(saving, "cool", "web")
    assert ended(saving, web) == "cooled"
    other = done(saving, "thaw", "web")
    (machine,) = saving.mvm("ps", "--json").answer("machines")
    assert (machine["id"], machine["name"]) == (other, "web")
    assert [line["id"] for line in listed(saving)] == [snapshot], "it is kept until it is removed"
    said = saving.mvm("thaw", "web")
    assert (said.code, "the machine 'web' is running" in said.err) == (2, True), said.err
    again = done(saving, "thaw", web, "--name", "again")
    assert running(saving) == {other, again}
    done(saving, "kill", other, again)


class Held:
    """Keeps machines from letting go of their locks, at their ends, until `release` is called in this process."""

    def __init__(self, station: Station) -> None:
        self._mark = station.path / "released"
        station.monkeypatch.setattr("mvmnix.launch.runtime.machine.conclude", self._conclude)

    def _conclude(self, *observed: Any) -> Ended:
        until(self._mark.exists)
        return conclude(*observed)

    def release(self, _seconds: float = 0) -> None:
        self._mark.touch()


def test_a_machine_has_ended_once_it_was_cooled(saving: Station) -> None:
    """Its name is free from then on."""
    held = Held(saving)
    web = started(saving)
    waiting = SimpleNamespace(sleep=held.release, monotonic=time.monotonic)
    with saving.monkeypatch.context() as patched:
        patched.setattr("mvmnix.machines.registry.time", waiting)
        done(saving, "cool", "web")
    assert states(saving, "--all") == [(web, "cold")]
    done(saving, "kill", done(saving, "thaw", "web"))


def test_of_one_that_does_not_end_the_snapshot_is_told(saving: Station) -> None:
    held = Held(saving)
    saving.monkeypatch.setattr("mvmnix.api.calls.END_PATIENCE", 0.0)
    web = started(saving)
    said = saving.mvm("cool", "web")
    (snapshot,) = listed(saving)
    assert (said.code, said.out) == (125, "")
    assert f"the snapshot {snapshot['id']} is kept, and its machine {web} doesn't end" in said.err
    assert states(saving) == [(web, "running")]
    held.release()
    until(lambda: states(saving) == [(web, "cold")])


def test_a_cold_machine_is_listed_until_another_one_goes_on(saving: Station, web: str) -> None:
    snapshot = done(saving, "cool", "web")
    (machine,) = saving.mvm("ps", "--json").answer("machines")
    assert (machine["id"], machine["state"], machine["ended"], machine["exitCode"]) == (web, "cold", "cooled", None)
    found = saving.mvm("inspect", "web").answer("machine")
    assert (found["state"], found["snapshot"], found["supervisor"]) == ("cold", snapshot, None)
    assert states(saving, "--filter", "state=cold") == states(saving, "--all") == [(web, "cold")]
    assert states(saving, "--all", "--filter", "state=ended") == []
    assert "next: mvm thaw web" in saving.mvm("exec", "web", "true").err
    used = {Path(it["path"]).name: it["bytes"] for it in saving.mvm("system", "df", "--json").answer("disk")}
    assert used["snapshots"] >= (saving.state / "snapshots" / snapshot / "memory.sealed").stat().st_size
    other = done(saving, "thaw", "web")
    assert states(saving) == [(other, "running")]
    assert saving.mvm("inspect", web).answer("machine")["snapshot"] is None
    done(saving, "cool", "web")
    assert states(saving) == [(other, "cold")]
    edited(saving.state / "machines" / web, created="2100-01-01T00:00:00Z")
    third = done(saving, "thaw", "web")
    assert (saving.state / "machines" / other / "successor").read_text() == third, "the cold one is meant"
    assert states(saving) == [(third, "running")]
    done(saving, "kill", third)


@pytest.mark.parametrize("why", ["removed", "booted", "of another one", "unproven", "restored", "unreadable"])
def test_what_is_not_cold(saving: Station, web: str, why: str) -> None:
    snapshot = done(saving, "cool", "web")
    home, others = saving.state / "snapshots" / snapshot, set[str]()
    match why:
        case "removed":
            done(saving, "snapshot", "rm", snapshot)
        case "booted":
            saving.monkeypatch.setattr("mvmnix.api.cold_machines.boot_id", lambda: "another")
        case "of another one":
            home.rename(home.with_name("0" * 12))
        case "unproven":
            (saving.state / "machines" / web / "end.note").unlink()
        case "restored":
            others = {done(saving, "restore", snapshot)}
        case _:
            (home / "snapshot.json").write_bytes(b"{}")
    assert states(saving) == [(other, "running") for other in others]
    assert (web, "ended") in states(saving, "--all")


def test_a_snapshot_with_which_no_machine_ended_makes_none_cold(saving: Station, web: str) -> None:
    snapshot = done(saving, "snapshot", "create", "web")
    done(saving, "kill", done(saving, "restore", snapshot), "web")
    assert states(saving) == []


def test_where_there_are_no_snapshots_none_are_looked_for(saving: Station, web: str) -> None:
    done(saving, "kill", "web")
    saving.monkeypatch.setattr("mvmnix.api.cold_machines.add_snapshots", None)
    assert states(saving, "--all") == [(web, "ended")]


def test_a_cold_machine_is_removed_without_its_snapshot(saving: Station, web: str) -> None:
    snapshot = done(saving, "cool", "web")
    said = saving.mvm("rm", "web")
    assert (said.code, said.out) == (0, f"{web}\n")
    assert f"mvm restore {snapshot} has it go on, mvm snapshot rm {snapshot} removes it" in said.err
    other = done(saving, "restore", snapshot, "--name", "web")
    assert states(saving, "--all") == [(other, "running")]
    done(saving, "kill", other)


def test_a_cold_machine_is_not_pruned_until_another_one_goes_on(saving: Station) -> None:
    saving.monkeypatch.setattr(retention, "KEPT", {MachineKind.RUN: 1})
    flake, idle = saving.flake(verbs=OFFERED), saving.flake("idle", verbs=OFFERED, workload=workload())
    cooled = list[str]()
    for name, words in (("a", (flake, "--", "linger")), ("b", (idle,))):
        cooled.append(done(saving, "run", "-d", "--rm", "--name", name, *GRANTED, *words))
        done(saving, "cool", name)

    def left() -> set[str]:
        assert saving.mvm("run", flake, "--", "true").code == 0
        return {machine for machine, _ in states(saving, "--all")} & {*cooled}

    assert left() == {*cooled}
    other = done(saving, "thaw", "a")
    assert left() == {cooled[1]}
    done(saving, "snapshot", "rm", *(str(each["id"]) for each in listed(saving)))
    assert left() == set()
    done(saving, "kill", other)


def test_a_fork_is_admitted_once_for_each_and_leaves_no_snapshot(saving: Station, web: str) -> None:
    ids = done(saving, "fork", "web", "-n", "3").split()
    assert len({*ids}) == 3
    assert running(saving) == {web, *ids}
    assert listed(saving) == []
    taken, *rest = [record["kind"] for record in log(saving)[-7:]]
    assert (taken, sorted(rest)) == ("snapshot", ["admission"] * 3 + ["start"] * 3)
    done(saving, "kill", web, *ids)


def test_a_machine_of_a_plan_for_once_is_not_forked_and_thawed_once(saving: Station, tmp_path: Path) -> None:
    plan, signed = str(tmp_path / "plan.json"), str(tmp_path / "signed.json")
    reference = saving.flake(verbs=OFFERED)
    done(saving, "plan", "create", "--single-use", *GRANTED, "-o", plan, reference, "--", "linger")
    done(saving, "plan", "sign", plan, "-o", signed)
    web = done(saving, "launch", "--detach", "--name", "web", signed)
    said = saving.mvm("fork", "web", "-n", "2")
    assert (said.code, said.err.count(f"refused [{ReasonCode.SNAPSHOT_FORBIDDEN}]")) == (126, 2), said.err
    assert (running(saving), listed(saving)) == ({web}, [])
    done(saving, "cool", "web")
    assert ended(saving, web) == "cooled"
    other = done(saving, "thaw", web)
    done(saving, "kill", other)
    assert f"refused [{ReasonCode.REPLAY}]" in saving.mvm("thaw", web).err


def test_its_image_is_kept_as_long_as_its_plan_starts_machines(saving: Station, web: str) -> None:
    snapshot = done(saving, "cool", "web")
    assert ended(saving, web) == "cooled"
    said = saving.mvm("image", "rm", saving.mvm("image", "ls", "--json").answer("images")[-1]["manifest"])
    assert (said.code, f"needed by the snapshot {snapshot}" in said.err) == (2, True), said.err
    done(saving, "snapshot", "rm", snapshot)
    done(saving, "image", "prune", "--all")
    assert [each["name"] for each in saving.mvm("image", "ls", "--json").answer("images")] == ["builder"]


def taking_imports(station: Station) -> None:
    """Have the user's policy take what other hosts export; to be called before a plan is made."""
    policy = station.config / "trust.toml"
    text = policy.read_text().replace('isolation = "microvm"', 'isolation = "microvm"\nimported-snapshots = true')
    replaced(policy, text.encode())


def exported(station: Station, snapshot: str, file: Path, to: str = "") -> None:
    to = to or done(station, "snapshot", "recipient")
    assert done(station, "snapshot", "export", snapshot, "--to", to, "-o", str(file)) == ""


def test_one_is_exported_imported_and_gone_on_from(saving: Station, tmp_path: Path) -> None:
    taking_imports(saving)
    started(saving)
    snapshot, file = done(saving, "cool", "web"), tmp_path / "exported"
    theirs = saving.mvm("snapshot", "inspect", snapshot).answer("snapshot")
    exported(saving, snapshot, file)
    assert f"there is a snapshot {snapshot}" in saving.mvm("snapshot", "import", str(file)).err
    done(saving, "snapshot", "rm", snapshot)
    assert done(saving, "snapshot", "import", str(file)) == snapshot
    ours = saving.mvm("snapshot", "inspect", snapshot).answer("snapshot")
    taken, left, came = (record["digests"] for record in log(saving) if record["kind"] == "snapshot")
    assert (left["snapshot"], came["imported"], ours["imported"]) == (taken["snapshot"],) * 3
    assert ours["sealed"]["key"] != theirs["sealed"]["key"]
    assert saving.mvm("thaw", "web").code == 2, "an imported one is not what a machine here was cooled to"
    other = done(saving, "restore", snapshot)
    assert not list(saving.state.glob("machines/*/successor")), "nor does it say which machine goes on"
    done(saving, "kill", other)
    assert "records verify" in done(saving, "audit", "verify")


@pytest.mark.parametrize("verb", ["verify", "export", "import"])
def test_what_reads_the_memory_of_a_guest_can_not_be_looked_into(saving: Station, tmp_path: Path, verb: str) -> None:
    taking_imports(saving)
    snapshot, file = done(saving, "snapshot", "create", started(saving)), tmp_path / "exported"
    exported(saving, snapshot, file)
    order, to = list[str](), done(saving, "snapshot", "recipient")

    def read(keys: Directory) -> bytes:
        order.append("read")
        return read_or_make(keys)

    for name in ("mvmnix.api.snapshot_store.read_or_make", "mvmnix.api.snapshots.read_or_make"):
        saving.monkeypatch.setattr(name, read)
    saving.monkeypatch.setattr("mvmnix.api.snapshots.disable_core_dumps_and_tracing", lambda: order.append("closed"))
    words = {"verify": (snapshot,), "export": (snapshot, "--to", to, "-o", str(tmp_path / "2")), "import": (str(file),)}
    saving.mvm("snapshot", verb, *words[verb])
    assert order[:2] == ["closed", "read"]


def test_what_is_not_imported(saving: Station, web: str, tmp_path: Path) -> None:
    snapshot, file, another = done(saving, "cool", "web"), tmp_path / "exported", tmp_path / "another"
    exported(saving, snapshot, file)
    exported(saving, snapshot, another, STRANGERS)
    done(saving, "snapshot", "rm", snapshot)
    assert f"refused [{ReasonCode.SNAPSHOT_POLICY}]" in saving.mvm("snapshot", "import", str(file)).err
    flip(file)
    for damaged in (file, another):
        assert f"refused [{ReasonCode.SNAPSHOT_DAMAGED}]" in saving.mvm("snapshot", "import", str(damaged)).err
    assert [record["reasons"] for record in log(saving) if record["kind"] == "refusal"] == [
        [ReasonCode.SNAPSHOT_POLICY],
        [ReasonCode.SNAPSHOT_DAMAGED],
        [ReasonCode.SNAPSHOT_DAMAGED],
    ]
    assert [*(saving.state / "snapshots").glob("[!l]*")] == []


def test_what_is_not_exported(saving: Station, tmp_path: Path) -> None:
    plan, signed, file = (str(tmp_path / name) for name in ("plan.json", "signed.json", "exported"))
    done(saving, "plan", "create", "--single-use", *GRANTED, "-o", plan, saving.flake(verbs=OFFERED), "--", "linger")
    done(saving, "plan", "sign", plan, "-o", signed)
    done(saving, "launch", "--detach", "--name", "web", signed)
    snapshot = done(saving, "cool", "web")
    said = saving.mvm("snapshot", "export", snapshot, "--to", STRANGERS, "-o", file)
    assert (said.code, f"refused [{ReasonCode.SNAPSHOT_FORBIDDEN}]" in said.err) == (126, True)
    said = saving.mvm("snapshot", "export", snapshot, "--to", "me", "-o", file)
    assert (said.code, "--to: not the base64 of a public key" in said.err) == (2, True)
    assert not Path(file).exists()


def made_stale(station: Station, why: str) -> str:
    """Have it be so; what is said of it."""
    policy = station.config / "trust.toml"
    text = policy.read_text()
    match why:
        case "booted":
            station.monkeypatch.setattr("mvmnix.api.snapshots.boot_id", lambda: "another")
            return "the host has booted since"
        case "policy":
            replaced(policy, text.replace("serial = 1 ", "serial = 2 ").encode())
            return "the policy is another one"
        case _:
            station.monkeypatch.setattr("mvmnix.api.kept_plans.now", lambda: now() + timedelta(days=2))
            return "its plan has expired"


@pytest.mark.parametrize("why", ["booted", "policy", "expired"])
def test_what_no_machine_goes_on_from_is_pruned(saving: Station, web: str, why: str) -> None:
    snapshot = done(saving, "cool", "web")
    assert ended(saving, web) == "cooled"
    assert saving.mvm("snapshot", "prune", "--json").answer("snapshots") == []
    text = made_stale(saving, why)
    for words, left in ((("--dry-run",), [snapshot]), ((), [])):
        (line,) = saving.mvm("snapshot", "prune", *words, "--json").answer("snapshots")
        assert (line["id"], line["why"], line["removed"]) == (snapshot, text, not words)
        assert [each["id"] for each in listed(saving)] == left
