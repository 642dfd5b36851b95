"""How a machine ended is what the log's record says, signed by its key: no other file of its directory is repeated."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import Checkpoint, NoteError, NoteKey, Signer
from mvmnix.audit.record import RecordKind
from mvmnix.audit.segment import SegmentSeal
from mvmnix.audit.tail import read_head
from mvmnix.audit.vouched import vouch, vouched_record
from mvmnix.keys import PrivateKey
from mvmnix.sandbox.subordinate_ids import POOL_COUNT
from tests.unit.cli.machines import edited, launched, ran
from tests.unit.cli.station import Station

NOTE = "end.note"


def key_of(machine: Path) -> NoteKey:
    """The public key of its log."""
    return NoteKey.parse((machine.parents[1] / "audit/verifier-key").read_text().strip())


def told(station: Station) -> dict[str, tuple[Any, Any]]:
    """How the machine `web` ended, and its exit code, by each command that says so."""
    (listed,) = station.mvm("ps", "--all", "--json", "--filter", "name=web").answer("machines")
    inspected = station.mvm("inspect", "web").answer("machine")
    waited = station.mvm("wait", "web").out.strip()
    found = {"ps": (listed["ended"], listed["exitCode"]), "inspect": (inspected["ended"], inspected["exitCode"])}
    return found | {"wait": (listed["ended"], int(waited)) if waited.isdigit() else (waited, listed["exitCode"])}


def all_of(ended: str, code: int | None) -> dict[str, tuple[Any, Any]]:
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
    """What another key signed, and says something else."""
    key = PrivateKey.generate()
    record = vouched_record((machine / NOTE).read_bytes(), key_of(machine))
    (machine / NOTE).write_bytes(vouch(replace(record, exit_code=0), Signer.of_log(key.public.raw, key.sign)))


def changed(machine: Path) -> None:
    """The very note, changed."""
    (machine / NOTE).write_bytes((machine / NOTE).read_bytes().replace(b'"exit":3', b'"exit":0'))


def directory(machine: Path) -> None:
    (machine / NOTE).unlink()
    (machine / NOTE).mkdir()


NO_NOTE: dict[str, Callable[[Path], object]] = {
    "none": lambda machine: (machine / NOTE).unlink(),
    "empty": lambda machine: (machine / NOTE).write_bytes(b""),
    "too long": lambda machine: (machine / NOTE).write_bytes(b"x" * 1_000_000),
    "a directory": directory,
    "another key's": forged,
    "a changed one": changed,
}


@pytest.mark.parametrize("way", NO_NOTE)
def test_what_nothing_proves_is_called_so(settled: Station, way: str) -> None:
    machine = ran(settled, "complain")
    NO_NOTE[way](machine)
    edited(machine, exitCode=0)
    assert told(settled) == all_of("unverified", None)
    assert settled.mvm("ps", "--all", "--quiet", "--filter", "ended=unverified").out == f"{machine.name}\n"


@pytest.mark.parametrize("which", ["another machine's end", "its own start", "a checkpoint"])
def test_another_note_of_the_host_says_nothing_of_it(settled: Station, which: str) -> None:
    machine = ran(settled, "complain")
    other = launched(settled, "true")
    settled.mvm("wait", other)
    with settled.rooms() as rooms:
        start = next(it for it in rooms.journal.about(machine.name) if it.kind is RecordKind.START)
        notes = {
            "another machine's end": (machine.parent / other / NOTE).read_bytes(),
            "its own start": rooms.journal.vouch(start),
            "a checkpoint": read_head(rooms.audit, rooms.log_key).checkpoint.note,
        }
    (machine / NOTE).write_bytes(notes[which])
    assert told(settled) == all_of("unverified", None)


def test_one_without_a_host_key(settled: Station) -> None:
    ran(settled, "complain")
    (settled.config / "keys/host.pem").unlink()
    assert told(settled) == all_of("unverified", None)


def test_a_lease_that_is_left_takes_no_host_key(settled: Station) -> None:
    """It may be one of another state directory's machines, which leaves no end that this key would sign."""
    leases = settled.state / "cells"
    ran(settled, "complain")
    (settled.config / "keys/host.pem").unlink()
    leases.mkdir(mode=0o700, exist_ok=True)
    (leases / f"{POOL_COUNT - 1}.lock").write_bytes(b"x")
    assert told(settled) == all_of("unverified", None)


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


def test_the_log_can_not_be_cut_off_by_what_is_kept_of_an_end(settled: Station) -> None:
    """It is signed, but nothing in it is the seal of an older state."""
    machine = ran(settled, "complain")
    key, note = key_of(machine), (machine / NOTE).read_bytes()
    signature = note.decode().rstrip("\n").rpartition(" ")[2]
    with pytest.raises(NoteError):
        Checkpoint.verified(note, key)
    (segment,) = (settled.state / "audit").glob("*.jsonl")
    lines = segment.read_bytes().rstrip(b" ").splitlines()[3:]
    assert len(lines) == 3
    for size in range(len(lines) + 1):
        with pytest.raises(NoteError):
            SegmentSeal(size, signature).checkpoint(CompactRange().extend(lines[:size]).root(), key)
