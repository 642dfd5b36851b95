"""`mvm doctor`: says what works and what repairs the rest; exits with 1 when something does not work."""

from pathlib import Path
from typing import Any

import pytest

from mvmnix.launch.executables import Candidates
from tests.unit.cli.station import Station


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
    station.monkeypatch.setenv("PATH", "")
    findings = found(station)
    for program, package in (("nix", "nix-bin"), ("git", "git"), ("apt-get", "apt")):
        assert findings[program]["health"] == "bad"
        assert findings[program]["next"] == f"apt-get install {package}"
    said = station.mvm("doctor")
    assert said.code == 1
    assert "✗ nix is missing" in said.out
    assert "→ apt-get install nix-bin" in said.out


def test_without_a_hypervisor(station: Station) -> None:
    nowhere = Candidates(what="QEMU", paths=("/nonexistent/qemu",), hint="apt-get install qemu-system-x86")
    station.monkeypatch.setattr("mvmnix.launch.backends.qemu.EXECUTABLES", nowhere)
    finding = found(station)["QEMU"]
    assert finding["health"] == "bad"
    assert "/nonexistent/qemu" in finding["said"]
    assert finding["next"] == "apt-get install qemu-system-x86"


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
    segment.write_bytes(segment.read_bytes()[:-20])
    finding = found(settled)["audit log"]
    assert finding["health"] == "bad"
    assert "log-mismatch" in finding["said"]


def test_names_are_escaped(station: Station) -> None:
    evil = Path(f"{station.path}/\x1b[2J")
    evil.mkdir()
    (evil / "nix").write_text("#!/bin/sh\n")
    (evil / "nix").chmod(0o755)
    station.monkeypatch.setenv("PATH", str(evil))
    said = station.mvm("doctor")
    assert "\x1b" not in said.out
    assert "\\u001b[2J/nix" in said.out
