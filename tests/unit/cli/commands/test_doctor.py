"""`mvm doctor`: says what works and what repairs the rest; exits with 1 when something does not work."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.api import doctor
from mvmnix.api.doctor import Finding, Health, isolation, probed
from mvmnix.builder.nix.host_nix import NIX, HostNix
from mvmnix.builder.nix.store_choice import NixStore, StoreKind
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.formats.strict import show_time
from mvmnix.launch.runtime.accelerator import KvmVerdict
from mvmnix.provenance.isolation import Boundary
from mvmnix.sandbox.subordinate_ids import SubordinateIds
from mvmnix.sandbox.trusted_executables import Candidates
from mvmnix.system.control_groups import ControlGroups
from mvmnix.vmm.jail import delegated_scope
from mvmnix.vmm.jail.delegated_scope import Obtained
from tests.repository import ROOT
from tests.unit.cli.station import Station

WORKS = KvmVerdict(usable=True, seen="a probe guest booted under KVM", recalled=True)
FAILS = KvmVerdict(usable=False, seen="failed to set MSR", recalled=True)


def found(station: Station) -> dict[str, Any]:
    said = station.mvm("doctor", "--json")
    findings = said.answer("doctor")
    assert said.code == int(any(finding["health"] == "bad" for finding in findings))
    assert len({finding["what"] for finding in findings}) == len(findings)
    return {finding["what"]: finding for finding in findings}


def test_on_a_machine_where_nothing_was_run(station: Station) -> None:
    findings = found(station)
    assert findings["mvm"]["health"] == "good"
    assert (findings["keys"]["health"], findings["audit log"]["health"]) == ("note", "note")
    assert findings["KVM"]["health"] == "note"
    assert not list(station.home.rglob("*.pem"))


def test_after_a_run(settled: Station) -> None:
    assert settled.mvm("run", settled.flake(), "--", "true").code == 0
    findings = found(settled)
    assert findings["audit log"]["said"] == "3 records verify"
    assert findings["keys"]["said"].startswith("builder.pem, host.pem, planner.pem in ")
    assert findings["trust policy"]["said"].startswith("3 signers, sha256:")


def test_without_programs(station: Station) -> None:
    for name in ("NIX", "GIT", "APT_GET", "BUBBLEWRAP"):
        it = getattr(doctor, name)
        station.monkeypatch.setattr(doctor, name, replace(it, paths=(f"/proc/nonexistent/{it.what}",)))
    findings = found(station)
    for program, package in (("nix", "nix-bin"), ("git", "git"), ("apt-get", "apt"), ("bubblewrap", "bubblewrap")):
        assert findings[program]["health"] == "bad"
        assert findings[program]["next"] == f"apt-get install {package}"
    said = station.mvm("doctor")
    assert said.code == 1
    assert "✗ nix is missing" in said.out
    assert "→ apt-get install nix-bin" in said.out


@pytest.mark.parametrize("kind", StoreKind)
def test_which_nix_store_is_used_and_why(station: Station, kind: StoreKind) -> None:
    """examples/demo reads which kind it is."""
    store = NixStore(kind, "that is why", "/own" if kind is StoreKind.OWN else "")
    look = classmethod(lambda cls, _: cls("/n/nix", "/n/nix-store", store))
    station.monkeypatch.setattr(HostNix, "look", look)
    finding = found(station)["Nix store"]
    words = f"/nix/store ({kind}): "
    assert (finding["health"], finding["said"]) == ("good", f"{store.root}{words}that is why")
    assert f"*'{words}'*)" in (ROOT / "examples/demo").read_text()


@pytest.mark.parametrize(
    ("what", "where", "package"),
    [
        ("QEMU", "mvmnix.vmm.qemu.EXECUTABLES", "qemu-system-x86"),
        ("jail", "mvmnix.vmm.jail.sandbox.BUBBLEWRAP", "bubblewrap"),
    ],
)
def test_without_what_runs_machines(station: Station, what: str, where: str, package: str) -> None:
    nowhere = Candidates(what=what, paths=("/proc/nonexistent/program",), hint=f"apt-get install {package}")
    station.monkeypatch.setattr(where, nowhere)
    finding = found(station)[what]
    assert (finding["health"], finding["next"]) == ("bad", f"apt-get install {package}")
    assert "/proc/nonexistent/program" in finding["said"]


def test_a_sandbox_of_the_jail_is_really_entered(station: Station) -> None:
    finding = found(station)["jail"]
    assert (finding["health"], "/usr/bin/bwrap" in finding["said"]) == ("good", True)
    refused = lambda _sandbox, argv: ("/bin/sh", "-c", "echo No permissions to create a new namespace >&2; exit 1")  # noqa: E731
    station.monkeypatch.setattr("mvmnix.vmm.jail.jail.BubblewrapSandbox.command", refused)
    finding = found(station)["jail"]
    assert finding["health"] == "bad"
    assert "No permissions to create a new namespace" in finding["said"]
    assert "user.max_user_namespaces" in finding["next"]


SUBORDINATE = SubordinateIds(3_000_032_768, 3_000_032_768, 4096, "/usr/bin/newuidmap", "/usr/bin/newgidmap")


def no_range(_: type[SubordinateIds]) -> SubordinateIds:
    raise MvmnixError("ada has no range", hint="an administrator gives some")


def mapped(*_: object) -> int:
    return os.open("/dev/null", os.O_RDONLY)


def unmapped(*_: object) -> int:
    raise MvmnixError("newuidmap: write to uid_map failed", hint="see /etc/subuid")


@pytest.mark.parametrize(
    ("found_by", "namespace_of", "health", "said", "hint"),
    [
        (lambda _: SUBORDINATE, mapped, "good", "of your subordinate uids 3000032768 to 3000036863", ""),
        (lambda _: SUBORDINATE, unmapped, "note", "each in a user namespace of its own: newuidmap", "see /etc"),
        (no_range, mapped, "note", "machines have your uid, each in a user namespace of its own: ada", "admin"),
    ],
    ids=["subordinate", "newuidmap fails", "no range"],
)
def test_which_uid_a_machine_has(
    monkeypatch: pytest.MonkeyPatch,
    found_by: Callable[[type[SubordinateIds]], SubordinateIds],
    namespace_of: Callable[..., int],
    health: str,
    said: str,
    hint: str,
) -> None:
    monkeypatch.setattr(SubordinateIds, "find", classmethod(found_by))
    monkeypatch.setattr(SubordinateIds, "namespace_of", namespace_of)
    finding = doctor._uids()
    assert (finding.what, finding.health) == ("uids", health)
    assert said in finding.said
    assert hint in finding.next


def test_code_that_a_second_uid_cannot_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SubordinateIds, "find", classmethod(lambda _: SUBORDINATE))
    monkeypatch.setattr(SubordinateIds, "namespace_of", mapped)
    monkeypatch.setattr(doctor, "is_readable_by_all", lambda _: False)
    finding = doctor._uids()
    assert finding.health == "note"
    assert "one for each machine" in finding.said
    assert "gateways and dialers have yours" in finding.said
    assert finding.next.startswith("chmod -R go+rX /")


def test_walls_that_a_host_lacks_are_named(station: Station) -> None:
    station.monkeypatch.setattr("mvmnix.sandbox.landlock.abi", lambda: 0)
    station.monkeypatch.setattr(delegated_scope, "obtain", lambda: Obtained(ControlGroups(())))
    findings = found(station)
    assert findings["jail"]["health"] == "good"
    assert (findings["Landlock"]["health"], findings["control groups"]["health"]) == ("note", "note")
    assert "nothing limits a hypervisor's memory, tasks, processor time" in findings["control groups"]["said"]
    assert "for writing" in findings["control groups"]["next"]


@pytest.mark.parametrize("backend", ["Firecracker (Planned)", "Cloud Hypervisor (Planned)"])
def test_a_backend_that_is_not_started_yet_is_no_fault(station: Station, backend: str) -> None:
    finding = found(station)[backend]
    assert finding["health"] == "note"
    assert finding["said"].startswith("not usable: this version of mvm can't start it: ")
    assert finding["next"] == "sign a plan with --backend qemu"


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda config: (config / "trust.toml").unlink(), "trust"),
        (lambda config: (config / "trust.toml").write_text("nonsense"), "trust"),
        (lambda config: (config / "keys").chmod(0o777), "trust"),
        (lambda config: (config / "keys/host.pem").chmod(0o644), "audit log"),
    ],
)
def test_a_check_that_fails_is_a_finding(settled: Station, spoil: Any, what: str) -> None:
    assert settled.mvm("run", settled.flake(), "--", "true").code == 0
    spoil(settled.config)
    finding = found(settled)[what]
    assert finding["health"] == "bad"
    assert finding["said"]


def test_a_tampered_log(settled: Station) -> None:
    assert settled.mvm("run", settled.flake(), "--", "true").code == 0
    (segment,) = (settled.state / "audit").glob("*.jsonl")
    segment.write_bytes(segment.read_bytes().rstrip(b" ")[:-20])
    finding = found(settled)["audit log"]
    assert finding["health"] == "bad"
    assert "log-mismatch" in finding["said"]


def test_a_log_that_lost_the_room_ahead(settled: Station) -> None:
    """Blanks behind the last record are no part of the log, so there is nothing to find."""
    flake = settled.flake()
    assert settled.mvm("run", flake, "--", "true").code == 0
    (segment,) = (settled.state / "audit").glob("*.jsonl")
    segment.write_bytes(segment.read_bytes()[:-20])
    assert found(settled)["audit log"]["said"] == "3 records verify"
    assert settled.mvm("audit", "verify").code == 0
    assert settled.mvm("run", flake, "--", "true").code == 0
    assert settled.mvm("audit", "verify").code == 0


def test_names_are_escaped(station: Station) -> None:
    evil = Path(f"{station.path}/\x1b[2J")
    evil.mkdir()
    (evil / "nix").write_text("#!/bin/sh\n")
    (evil / "nix").chmod(0o755)
    station.monkeypatch.setattr(doctor, "NIX", replace(NIX, paths=(f"{evil}/nix",)))
    said = station.mvm("doctor")
    assert "\x1b" not in said.out
    assert "\\u001b[2J/nix" in said.out


@pytest.mark.parametrize(
    ("change", "health", "said"),
    [
        (lambda text: text, "good", "expires on 20"),
        (lambda text: text.replace("expires = 20", "expires = 19"), "bad", "[policy-expired]"),
        (lambda text: text.replace("serial = 2", "serial = 1"), "bad", "[policy-rollback]"),
        (lambda text: re.sub("expires = .*Z", f"expires = {soon()}", text), "note", "expires on 20"),
    ],
)
def test_a_policy_s_age(settled: Station, change: Any, health: str, said: str) -> None:
    path = settled.config / "trust.toml"
    path.write_text(path.read_text().replace("serial = 1", "serial = 2"))
    assert settled.mvm("run", settled.flake(), "--", "true").code == 0
    path.write_text(change(path.read_text()))
    told = [it for it in settled.mvm("doctor", "--json").answer("doctor") if it["what"] == "trust policy"]
    assert (told[0]["health"], said in told[0]["said"]) == (health, True)
    assert bool(told[0]["next"]) == (health != "good")


def soon() -> str:
    return show_time(now() + timedelta(days=3))


@pytest.mark.parametrize(("kvm", "health", "boundary"), [(True, "good", "hardware"), (False, "note", "sandbox")])
def test_what_holds_a_guest_here(kvm: bool, health: str, boundary: str) -> None:
    finding = isolation(kvm=kvm)
    assert finding.health == health
    assert Boundary(boundary).explained in finding.said


@pytest.mark.parametrize(
    ("verdicts", "health", "said"),
    [
        ((), "note", "/dev/kvm is there; whether a guest boots in it, the first run finds out"),
        ((WORKS,), "good", "a probe guest booted under KVM"),
        ((FAILS,), "note", "not usable, guests run under TCG: failed to set MSR"),
        ((WORKS, FAILS), "note", "not usable (1 of 2 probes), guests run under TCG: failed to set MSR"),
    ],
)
def test_what_probes_of_kvm_found(verdicts: tuple[KvmVerdict, ...], health: str, said: str) -> None:
    finding = probed(verdicts)
    assert (finding.health, finding.said) == (health, said)


def test_without_a_floor_each_user_s_policy_counts_alone(settled: Station) -> None:
    finding = found(settled)["policy floor"]
    assert (finding["health"], "there is none (" in finding["said"]) == ("note", True)


@pytest.mark.parametrize(
    ("spoil", "health", "said"),
    [
        (lambda user, floor: None, "good", "your trust.toml is within it; it holds for every user of this machine"),
        (lambda user, floor: user.unlink(), "good", "you have none of your own, so it is your policy"),
        (
            lambda user, floor: floor.write_text(
                floor.read_text().replace('"path:*"', '"path:/only"').replace("true", "false")
            ),
            "bad",
            "yours is refused under it: [policy-widens]",
        ),
        (lambda user, floor: floor.write_text("nonsense"), "bad", "[policy-malformed]"),
        (lambda user, floor: floor.chmod(0o666), "bad", "[state-permissions]"),
    ],
)
def test_whom_a_floor_holds_for(settled: Station, spoil: Any, health: str, said: str) -> None:
    floor = settled.path / "etc/trust.toml"
    floored(settled, owner=0)
    spoil(settled.config / "trust.toml", floor)
    finding = found(settled)["policy floor"]
    assert (finding["health"], said in finding["said"]) == (health, True), finding
    if health == "good":
        assert f"{floor}, {Digest.of(floor.read_bytes())}, belongs to uid 0 (root); " in finding["said"]


def test_a_floor_that_is_not_root_s(settled: Station) -> None:
    floored(settled, owner=54321)
    finding = found(settled)["policy floor"]
    floor = f"{settled.path}/etc/trust.toml"
    replaced = f"chown root: {settled.path}/etc && install -m 644 {floor} {floor}.new && mv {floor}.new {floor}"
    assert (finding["health"], finding["next"]) == ("note", f"read it; then as root: {replaced}")
    assert "other users' mvm refuses it" in finding["said"]


def floored(station: Station, *, owner: int) -> None:
    """The user's policy is the machine's, too; its file belongs to that uid, as a look at the owner says."""
    etc = station.path / "etc"
    etc.mkdir(mode=0o755)
    (etc / "trust.toml").write_bytes((station.config / "trust.toml").read_bytes())
    (etc / "trust.toml").chmod(0o644)
    real = doctor._owner
    station.monkeypatch.setattr(doctor, "_owner", lambda path: None if real(path) is None else owner)


def test_commands_are_printed_as_they_are(settled: Station) -> None:
    """However narrow the terminal is: what is copied from it has no line breaks but the command's own."""
    assert settled.mvm("run", settled.flake(), "--", "true").code == 0
    lines = ("chown -Rh ada: " + " ".join(f"/home/ada/.local/state/mvmnix/{number}" for number in range(9)), "exit 0")
    finding = Finding("files of root's", Health.BAD, "9 files belong to root", "give them to yourself:", lines)
    settled.monkeypatch.setattr(doctor, "CHECKS", (("files of root's", lambda _: iter([finding])),))
    settled.monkeypatch.setenv("COLUMNS", "40")
    commands = found(settled)["files of root's"]["commands"]
    assert len(max(commands, key=len)) > 100
    assert "\n".join(f"    {line}" for line in commands) in settled.mvm("doctor").out


def test_no_finding_is_wrapped_into_a_pipe(settled: Station) -> None:
    settled.monkeypatch.setenv("COLUMNS", "40")
    plain = settled.mvm("doctor").out.splitlines()
    for finding in settled.mvm("doctor", "--json").answer("doctor"):
        hint = f"  → {finding['next']}" if finding["next"] else ""
        assert [line for line in plain if line.endswith(f"{finding['what']} {finding['said']}{hint}")], finding


@pytest.mark.parametrize(
    ("routes", "health", "said"),
    [
        ({socket.AF_INET}, "good", "IPv4: "),
        ({socket.AF_INET, socket.AF_INET6}, "good", "IPv4 and IPv6: "),
        (set(), "note", "none: "),
    ],
)
def test_the_ways_of_this_host(station: Station, routes: set[int], health: str, said: str) -> None:
    asked = lambda _, family: ["a route"] if family in routes else []  # noqa: E731
    station.monkeypatch.setattr("pyroute2.IPRoute.get_default_routes", asked, raising=False)
    finding = found(station)["default route"]
    assert (finding["health"], finding["said"].startswith(said)) == (health, True)


def test_routes_are_read_of_the_kernel() -> None:
    """In a network namespace of its own there are none."""
    program = "from mvmnix.api.doctor import _routes; print(_routes().health)"
    argv = ["unshare", "--user", "--net", sys.executable, "-c", program]
    assert subprocess.run(argv, cwd=ROOT, capture_output=True, check=True, text=True).stdout == "note\n"
