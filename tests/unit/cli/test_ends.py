"""How a machine ended is what the log's record says, proven by the host's key: no file of its directory is repeated."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mvmnix import strict
from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import Checkpoint, Signer
from mvmnix.audit.proof import InclusionProof
from mvmnix.audit.record import Record
from mvmnix.keys import PrivateKey
from tests.unit.cli.station import Station
from tests.unit.cli.test_machines import launched

PROOF = "end.tlog-proof"


def ran(station: Station, *command: str) -> Path:
    """The directory of a machine that has ended."""
    station.mvm("run", "--name", "web", station.flake(), "--", *command)
    (machine,) = (path for path in (station.state / "machines").iterdir() if path.is_dir())
    return machine


def edited(machine: Path, **changes: object) -> None:
    path = machine / "machine.json"
    path.write_bytes(strict.canonical(json.loads(path.read_bytes()) | changes))


def told(station: Station) -> dict[str, tuple[Any, Any]]:
    """How the machine `web` ended, and its exit code, by each command that says so."""
    (listed,) = station.mvm("ps", "--all", "--json", "--filter", "name=web").answer("machines")
    inspected = station.mvm("inspect", "web").answer("machine")
    waited = station.mvm("wait", "web").out.strip()
    found = {"ps": (listed["ended"], listed["exitCode"]), "inspect": (inspected["ended"], inspected["exitCode"])}
    return found | {"wait": (listed["ended"], int(waited)) if waited.isdigit() else (waited, listed["exitCode"])}


def all_of(ended: str, code: int | str) -> dict[str, tuple[Any, Any]]:
    return dict.fromkeys(("ps", "inspect", "wait"), (ended, code))


def test_a_forged_end_is_not_repeated(settled: Station) -> None:
    machine = ran(settled, "complain")
    assert told(settled) == all_of("guest-exit", 3)
    for forged in ({"exitCode": 0}, {"exitCode": 77, "reason": "timeout"}, {"reason": "verity-corruption"}):
        edited(machine, **forged)
        assert told(settled) == all_of("guest-exit", 3)
    assert settled.mvm("ps", "--all", "--quiet", "--filter", "ended=verity-corruption").out == ""
    assert settled.mvm("ps", "--all", "--quiet", "--filter", "ended=guest-exit").out == f"{machine.name}\n"


def test_a_machine_that_was_stopped_is_told_from_one_that_ended(settled: Station) -> None:
    """Also when its command had an exit code, as one that a stop ends has."""
    launched(settled, "linger", name="web")
    settled.mvm("stop", "web")
    (ended, _), *others = told(settled).values()
    assert [ended, *(other for other, _ in others)] == ["stopped"] * 3


def forged(machine: Path) -> None:
    """A proof that another key signed, of a record that says something else."""
    key = PrivateKey.generate()
    record = InclusionProof.parse((machine / PROOF).read_bytes()).line.replace(b'"exit":3', b'"exit":0')
    tree = CompactRange().extend([record])
    checkpoint = Checkpoint.sign(1, tree.root(), Signer.of_log(key.public.raw, key.sign))
    (machine / PROOF).write_bytes(InclusionProof.of_last(CompactRange(), record, checkpoint).text)


def changed(machine: Path) -> None:
    """The record of the very proof, changed."""
    proof = InclusionProof.parse((machine / PROOF).read_bytes())
    line = proof.line.replace(b'"exit":3', b'"exit":0')
    (machine / PROOF).write_bytes(InclusionProof(proof.index, line, proof.path, proof.note).text)


def directory(machine: Path) -> None:
    (machine / PROOF).unlink()
    (machine / PROOF).mkdir()


NO_PROOF: dict[str, Callable[[Path], object]] = {
    "none, as an older mvm left it": lambda machine: (machine / PROOF).unlink(),
    "empty": lambda machine: (machine / PROOF).write_bytes(b""),
    "too long": lambda machine: (machine / PROOF).write_bytes(b"x" * 1_000_000),
    "a directory": directory,
    "another key's": forged,
    "a changed record's": changed,
}


@pytest.mark.parametrize("way", NO_PROOF)
def test_what_nothing_proves_is_called_so(settled: Station, way: str) -> None:
    machine = ran(settled, "complain")
    NO_PROOF[way](machine)
    edited(machine, exitCode=0)
    assert told(settled) == all_of("unverified", "")
    assert settled.mvm("ps", "--all", "--quiet", "--filter", "ended=unverified").out == f"{machine.name}\n"


@pytest.mark.parametrize("which", ["another machine's end", "its own start"])
def test_the_proof_of_another_record_proves_nothing(settled: Station, which: str) -> None:
    machine = ran(settled, "complain")
    if which == "its own start":
        proof = settled.mvm("audit", "prove", "1").out.encode()
    else:
        other = launched(settled, "true")
        settled.mvm("wait", other)
        proof = (machine.parent / other / PROOF).read_bytes()
    (machine / PROOF).write_bytes(proof)
    assert told(settled) == all_of("unverified", "")


def test_one_without_a_host_key(settled: Station) -> None:
    ran(settled, "complain")
    (settled.config / "keys/host.pem").unlink()
    assert told(settled) == all_of("unverified", "")


def test_an_encrypted_key_s_public_half_is_enough(settled: Station) -> None:
    """As for all that is checked with the log's key: the password comes from where config.toml says."""
    settled.monkeypatch.setenv("PASSWORD", "a long password")
    (settled.config / "config.toml").write_text('version = 1\n[keys]\npassword = "env:PASSWORD"\n')
    (settled.config / "keys/host.pem").unlink()
    assert settled.mvm("key", "create", "--password", "env:PASSWORD", "host").code == 0
    assert b"ENCRYPTED" in (settled.config / "keys/host.pem").read_bytes()
    ran(settled, "complain")
    assert told(settled) == all_of("guest-exit", 3)


def test_an_end_is_read_without_the_log(settled: Station) -> None:
    """So that it costs the same however long the log is."""
    ran(settled, "complain")
    shutil.move(settled.state / "audit", settled.path / "audit")
    assert told(settled) == all_of("guest-exit", 3)


def test_the_proof_is_one_that_anybody_can_check(settled: Station) -> None:
    machine = ran(settled, "complain")
    said = settled.mvm("audit", "verify", "--proof", machine / PROOF)
    assert said.code == 0
    assert Record.parse(InclusionProof.parse((machine / PROOF).read_bytes()).line).exit_code == 3
