"""`mvm audit`: reads and checks the log, here or elsewhere, with the host's public key and nothing secret."""

import errno
import json
import os
import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from mvmnix.audit.reading import last_records
from mvmnix.keys import Algorithm, PrivateKey
from tests.descriptors import open_below
from tests.unit.cli.policies import keep_checkpoints
from tests.unit.cli.station import Said, Station


@pytest.fixture
def logged(settled: Station) -> Station:
    """Two runs, one refusal: seven records."""
    reference = settled.flake()
    for _ in range(2):
        assert settled.mvm("run", reference, "--", "true").code == 0
    assert settled.mvm("run", f"path:{settled.path}", "--", "true").code == 126
    return settled


MISMATCH, UNSEALED, NOT_FOUND = 1, 3, 4
KINDS = ["admission", "start", "end", "admission", "start", "end", "refusal"]


def test_the_last_records(logged: Station) -> None:
    lines = [json.loads(line) for line in logged.mvm("audit", "tail").out.splitlines()]
    assert [line["kind"] for line in lines] == KINDS
    assert [line["index"] for line in lines] == list(range(7))
    assert lines[-1]["reasons"] == ["flake-unsupported"]
    last = [json.loads(line)["index"] for line in logged.mvm("audit", "tail", "-n", "2").out.splitlines()]
    assert last == [5, 6]


def test_the_whole_log(logged: Station) -> None:
    said = logged.mvm("audit", "verify")
    assert said.code == 0
    assert said.out.startswith("7 records verify, root ")
    result = logged.mvm("audit", "verify", "--json").answer("log")
    assert (result["records"], result["unsealedBytes"]) == (7, 0)


def test_elsewhere_with_the_public_key_alone(logged: Station, tmp_path: Path) -> None:
    key = tmp_path / "host.pub"
    key.write_text(logged.mvm("key", "show", "host").out)
    shutil.copytree(logged.state / "audit", tmp_path / "log")
    (tmp_path / "log").chmod(0o700)
    shutil.rmtree(logged.home)
    logged.home.mkdir(mode=0o700)
    for command in ("tail", "verify"):
        said = logged.mvm("audit", command, "--key", key, "--directory", tmp_path / "log")
        assert said.code == 0, said.err
    assert logged.mvm("audit", "verify", "--directory", tmp_path / "log").code == 2, "whose key?"


def test_a_changed_record_is_found(logged: Station) -> None:
    (segment,) = (logged.state / "audit").glob("*.jsonl")
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b'"start"', b'"STart"', 1))
    for command in ("tail", "verify"):
        said = logged.mvm("audit", command)
        assert said.code == MISMATCH
        assert "refused [log-mismatch]" in said.err
    said = logged.mvm("audit", "verify", "--json")
    assert said.answer("log")["verdict"] == "mismatch"
    assert {reason["code"] for reason in said.answer("log")["reasons"]} == {"log-mismatch"}
    assert logged.mvm("run", f"path:{logged.path}/flakes/hello", "--", "true").code == 126, "no start without a log"


def test_a_rollback_is_found_against_a_checkpoint_kept_elsewhere(logged: Station, tmp_path: Path) -> None:
    before = tmp_path / "before"
    shutil.copytree(logged.state / "audit", before)
    assert logged.mvm("run", f"path:{logged.path}/flakes/hello", "--", "true").code == 0
    (tmp_path / "pinned").write_text(logged.mvm("audit", "checkpoint").out)
    assert logged.mvm("audit", "verify", "--pinned", tmp_path / "pinned").code == 0
    shutil.rmtree(logged.state / "audit")
    shutil.copytree(before, logged.state / "audit")
    assert logged.mvm("audit", "verify").code == 0, "by itself it is whole"
    said = logged.mvm("audit", "verify", "--pinned", tmp_path / "pinned")
    assert said.code == MISMATCH
    assert "refused [log-mismatch]" in said.err


@pytest.mark.parametrize("data", [b"", b"no key", b"\xff", "ecdsa", "another"])
def test_another_key(settled: Station, tmp_path: Path, data: bytes | str) -> None:
    assert settled.mvm("run", f"path:{settled.path}", "--", "true").code == 126, "which is a record"
    key = tmp_path / "key.pub"
    match data:
        case "ecdsa":
            key.write_text(PrivateKey.generate(Algorithm.ECDSA_P256).public.pem)
        case "another":
            key.write_text(PrivateKey.generate().public.pem)
        case _:
            key.write_bytes(data if isinstance(data, bytes) else b"")
    said = settled.mvm("audit", "verify", "--key", key)
    assert said.code == (MISMATCH if data == "another" else 2)


def test_no_log(station: Station, tmp_path: Path) -> None:
    station.settle()
    for arguments in (["verify"], ["tail"], ["show", "0"], ["checkpoint"], ["prove", "0"], ["export", tmp_path / "to"]):
        said = station.mvm("audit", *arguments)
        assert said.code == NOT_FOUND, said
        assert "holds no audit log" in said.err
    assert station.mvm("audit", "verify", "--json").answer("log")["verdict"] == "not-found"
    said = station.mvm("audit", "verify", "--directory", tmp_path / "absent")
    assert said.code == 2
    assert "is not a directory" in said.err
    (tmp_path / "file").write_text("")
    assert station.mvm("audit", "verify", "--directory", tmp_path / "file").code == MISMATCH


def test_an_unsealed_tail_is_a_verdict_of_its_own(logged: Station) -> None:
    (segment,) = (logged.state / "audit").glob("*.jsonl")
    segment.write_bytes(segment.read_bytes().rstrip(b" ") + b"torn")
    said = logged.mvm("audit", "verify")
    assert said.code == UNSEALED
    assert "4 bytes that no seal covers" in said.err
    result = logged.mvm("audit", "verify", "--json").answer("log")
    assert (result["verdict"], result["unsealedBytes"]) == ("unsealed-tail", 4)


def test_one_record_or_those_of_a_machine(logged: Station) -> None:
    (record,) = logged.mvm("audit", "show", "1", "--json").answer("records")
    assert (record["index"], record["kind"]) == (1, "start")
    lines = [json.loads(line) for line in logged.mvm("audit", "show", record["machine"]).out.splitlines()]
    assert [(line["index"], line["kind"]) for line in lines] == [(1, "start"), (2, "end")]
    for missing in ("7", "0123456789ab", "nobody"):
        said = logged.mvm("audit", "show", missing, "--json")
        assert (said.code, said.answer("log")["verdict"]) == (NOT_FOUND, "not-found")


@pytest.mark.parametrize("which", ["99", "9" * 5000, "٣", "nosuch", "000000000000"])
def test_a_record_that_is_not_there(logged: Station, which: str) -> None:
    said = logged.mvm("audit", "show", which)
    assert (said.code, said.out) == (NOT_FOUND, ""), said
    assert logged.mvm("audit", "show", "--json", which).answer("log")["verdict"] == "not-found"


def test_more_lines_than_there_are_records(logged: Station) -> None:
    for lines in ("7", "8", "9" * 30):
        assert len(logged.mvm("audit", "tail", "--lines", lines).out.splitlines()) == len(KINDS)


@pytest.mark.parametrize("note", [b"junk", b"\x1b[2J\n\n"])
def test_what_is_no_checkpoint_says_nothing_against_the_log(logged: Station, tmp_path: Path, note: bytes) -> None:
    """So nobody is told to move a log away because of a file that was not the one."""
    (tmp_path / "note").write_bytes(note)
    said = logged.mvm("audit", "verify", "--pinned", tmp_path / "note")
    assert said.code == MISMATCH
    assert "the checkpoint kept elsewhere is not one of this log" in said.err
    assert "take the one of this log" in said.err
    assert "mv " not in said.err


def test_a_proof_needs_its_file_and_the_key(logged: Station, tmp_path: Path) -> None:
    key, proof = tmp_path / "host.pub", tmp_path / "proof"
    key.write_text(logged.mvm("key", "show", "host").out)
    assert logged.mvm("audit", "prove", "1", "--out", proof).code == 0
    pinned = tmp_path / "pinned"
    assert logged.mvm("audit", "checkpoint", "--out", pinned).code == 0
    assert logged.mvm("run", f"path:{logged.path}/flakes/hello", "--", "true").code == 0
    goes_on = tmp_path / "goes-on"
    goes_on.write_text(logged.mvm("audit", "prove", "--pinned", pinned).out)
    shutil.rmtree(logged.home)
    logged.home.mkdir(mode=0o700)

    said = logged.mvm("audit", "verify", "--proof", proof, "--key", key)
    assert (said.code, said.out[:24]) == (0, "record 1 of 7 is proven:"), said
    result = logged.mvm("audit", "verify", "--proof", proof, "--key", key, "--json").answer("log")
    assert (result["verdict"], result["index"], json.loads(result["record"])["kind"]) == ("verified", 1, "start")
    said = logged.mvm("audit", "verify", "--proof", goes_on, "--key", key, "--pinned", pinned)
    assert (said.code, said.out[:43]) == (0, "the log of 10 records goes on from the 7 th"), said
    assert logged.mvm("audit", "verify", "--proof", goes_on, "--key", key).code == 2, "from which one?"
    proof.write_bytes(proof.read_bytes().replace(b"index 1", b"index 2"))
    assert logged.mvm("audit", "verify", "--proof", proof, "--key", key).code == MISMATCH


def test_what_can_not_be_proven(logged: Station, tmp_path: Path) -> None:
    assert logged.mvm("audit", "prove", "7").code == NOT_FOUND
    assert logged.mvm("audit", "prove").code == 2
    assert logged.mvm("audit", "prove", "1", "--pinned", tmp_path / "x").code == 2
    (tmp_path / "x").write_text("no checkpoint")
    assert logged.mvm("audit", "prove", "--pinned", tmp_path / "x").code == MISMATCH


def test_an_export_is_checked_anywhere(logged: Station, tmp_path: Path) -> None:
    start = json.loads(logged.mvm("audit", "show", "1").out)
    key = tmp_path / "host.pub"
    key.write_text(logged.mvm("key", "show", "host").out)
    assert logged.mvm("audit", "export", tmp_path / "all").code == 0
    assert logged.mvm("audit", "export", tmp_path / "one", "--machine", start["machine"]).code == 0
    assert logged.mvm("audit", "export", tmp_path / "one").code == 2, "it is there already"
    assert logged.mvm("audit", "export", tmp_path / "none", "--machine", "nobody").code == NOT_FOUND
    shutil.rmtree(logged.home)
    logged.home.mkdir(mode=0o700)
    for name, words in (("all", "7 records and 2 receipts verify"), ("one", "3 of 7 records and 1 receipt verify")):
        said = logged.mvm("audit", "verify", "--directory", tmp_path / name, "--key", key)
        assert (said.code, said.out[: len(words)]) == (0, words), said
        said = logged.mvm("audit", "verify", "--directory", tmp_path / name)
        assert said.code == 0
        assert "compare it with the host's: sha256:" in said.err
    result = logged.mvm("audit", "verify", "--directory", tmp_path / "one", "--json").answer("log")
    assert (result["whole"], result["receipts"], result["startsWithoutEnd"]) == (False, 1, [])
    key.write_text(PrivateKey.generate().public.pem)
    assert logged.mvm("audit", "verify", "--directory", tmp_path / "all", "--key", key).code == MISMATCH


def test_the_export_of_a_machine_has_the_plan_of_its_run(logged: Station, tmp_path: Path) -> None:
    """It lies in the machine's directory alone; beside it something that is no machine's directory."""
    (logged.state / "machines/0123456789ab").write_text("no machine")
    start = json.loads(logged.mvm("audit", "show", "1").out)
    said = logged.mvm("audit", "export", tmp_path / "one", "--machine", start["machine"])
    assert (said.code, "kept no longer" in said.err) == (0, False)
    plan = logged.state / "machines" / start["machine"] / "plan.sigstore.json"
    assert (tmp_path / "one/evidence" / f"{start['plan']}.json").read_bytes() == plan.read_bytes()
    assert logged.mvm("audit", "verify", "--directory", tmp_path / "one", "--json").answer("log")["missing"] == []


@pytest.mark.parametrize("machine", [True, False])
def test_what_is_said_of_an_export_that_was_changed_is_about_it(logged: Station, tmp_path: Path, machine: bool) -> None:
    start = json.loads(logged.mvm("audit", "show", "1").out)
    copy = tmp_path / "copy"
    options = ["--machine", start["machine"]] if machine else []
    assert logged.mvm("audit", "export", copy, *options).code == 0
    (path,) = (copy / "proofs").glob("1.*") if machine else (copy / "log").iterdir()
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    said = logged.mvm("audit", "verify", "--directory", copy)
    assert said.code == MISMATCH
    hints = {line.strip() for line in said.err.splitlines() if line.strip().startswith("next:")}
    expected = "next: compare the key with the host's; if it is right, keep this copy as evidence, and get another from"
    assert [hint.startswith(expected) for hint in hints] == [True]
    if not machine:
        assert "nothing starts" not in logged.mvm("audit", "tail", "--directory", copy / "log").err


def test_a_start_without_an_end_is_told(logged: Station) -> None:
    """A machine whose supervisor was lost, and of which nobody has asked since."""
    assert logged.mvm("audit", "verify", "--json").answer("log")["startsWithoutEnd"] == []
    with logged.rooms() as rooms:
        last = [
            listed.record
            for listed in last_records(rooms.audit, rooms.log_key, last=6)
            if listed.record.kind == "start"
        ]
        rooms.journal.append(replace(last[0], machine="0123456789ab"))
    said = logged.mvm("audit", "verify")
    assert said.code == 0
    assert "record 7: the machine 0123456789ab started, and no record tells its end" in said.err
    lost = logged.mvm("audit", "verify", "--json").answer("log")["startsWithoutEnd"]
    assert lost == [{"machine": "0123456789ab", "record": 7}]


@pytest.mark.parametrize("good", [0, 1, 2])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_starts_nothing(settled: Station, good: int, number: int) -> None:
    """At the record of an admission, of a start; that of an end is said to be lost, and mvm goes on later."""
    flake = settled.flake()
    assert settled.mvm("run", flake, "--", "true").code == 0
    sync, calls = os.fdatasync, count()

    def failing(fd: int) -> None:
        if next(calls) >= good:
            raise OSError(number, os.strerror(number))
        sync(fd)

    with settled.monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        said = settled.mvm("run", flake, "--", "echo", "alive")
    assert (said.code, said.out) == (125, "alive\n" if good == 2 else ""), said
    assert f"cannot be written: [Errno {number}]" in said.err
    told = settled.mvm("audit", "tail").out.splitlines()
    assert [json.loads(line)["kind"] for line in told] == [*KINDS[:3], *KINDS[:good]]
    assert settled.mvm("audit", "verify").code == UNSEALED
    assert settled.mvm("run", flake, "--", "true").code == 0
    assert settled.mvm("audit", "verify").code == 0


def test_an_anchor_finds_what_the_log_alone_does_not(logged: Station, tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir(mode=0o700)
    keep_checkpoints(logged, tmp_path / "usb/checkpoint")
    before = tmp_path / "before"
    hello = f"path:{logged.path}/flakes/hello"
    shutil.copytree(logged.home / ".local", before)
    assert logged.mvm("run", hello, "--", "true").code == 0
    assert (tmp_path / "usb/checkpoint").read_text() == logged.mvm("audit", "checkpoint").out
    assert logged.mvm("audit", "verify", "--pinned", "anchor:usb").code == 0
    assert logged.mvm("audit", "verify", "--pinned", "anchor:other").code == 2
    said = logged.mvm("audit", "verify", "--pinned", "witness:usb")
    assert (said.code, "--pinned anchor:usb" in said.err) == (2, True), "its former spelling"
    shutil.rmtree(logged.home / ".local")
    shutil.copytree(before, logged.home / ".local")
    key = tmp_path / "host.pub"
    key.write_text(logged.mvm("key", "show", "host").out)
    alone = logged.mvm("audit", "verify", "--directory", logged.state / "audit", "--key", key)
    assert alone.code == 0, "by itself it is whole"
    assert logged.mvm("audit", "verify").code == MISMATCH
    assert logged.mvm("audit", "verify", "--pinned", "anchor:usb").code == MISMATCH
    said = logged.mvm("run", hello, "--", "true")
    assert (said.code, "refused [log-mismatch]" in said.err) == (126, True), said


@pytest.mark.parametrize("required", [True, False])
def test_an_anchor_that_is_not_there(logged: Station, tmp_path: Path, required: bool) -> None:
    keep_checkpoints(logged, tmp_path / "gone/checkpoint", required=required)
    said = logged.mvm("run", f"path:{logged.path}/flakes/hello", "--", "true")
    assert said.code == (126 if required else 0), said
    assert "the log's anchor usb: refused [anchor-unavailable]" in said.err
    assert said.err.count("[anchor-unavailable]") == 1, "and is said once"
    kinds = [json.loads(line)["kind"] for line in logged.mvm("audit", "tail").out.splitlines()]
    assert kinds[7:] == (["admission", "witness"] if required else ["admission", "witness", "start", "end"])


def test_elsewhere_without_a_key_the_hint_asks_for_one(logged: Station, tmp_path: Path) -> None:
    assert logged.mvm("audit", "prove", "1", "--out", tmp_path / "proof").code == 0
    shutil.copytree(logged.state / "audit", tmp_path / "log")
    shutil.rmtree(logged.home)
    logged.home.mkdir(mode=0o700)
    for arguments in (["--proof", str(tmp_path / "proof")], ["--directory", str(tmp_path / "log")]):
        said = logged.mvm("audit", "verify", *arguments)
        assert (said.code, "mvm key create" in said.err) == (2, False)
        assert "with --key" in said.err.split("next: ")[1]


def test_the_log_in_an_export_is_read(logged: Station, tmp_path: Path) -> None:
    key = tmp_path / "host.pub"
    key.write_text(logged.mvm("key", "show", "host").out)
    note = logged.mvm("audit", "checkpoint").out
    assert logged.mvm("audit", "export", tmp_path / "all").code == 0
    machine = json.loads(logged.mvm("audit", "show", "1").out)["machine"]
    assert logged.mvm("audit", "export", tmp_path / "one", "--machine", machine).code == 0
    shutil.rmtree(logged.home)
    logged.home.mkdir(mode=0o700)

    def typed(*arguments: str, export: str = "all") -> Said:
        return logged.mvm("audit", *arguments, "--directory", tmp_path / export, "--key", key)

    assert [json.loads(line)["kind"] for line in typed("tail").out.splitlines()] == KINDS
    assert json.loads(typed("show", "1").out)["machine"] == machine
    assert typed("checkpoint").out == note
    assert typed("prove", "1", "--out", str(tmp_path / "proof")).code == 0
    assert logged.mvm("audit", "verify", "--proof", tmp_path / "proof", "--key", key).code == 0
    said = typed("tail", export="one")
    assert (said.code, "holds proofs and no log" in said.err) == (NOT_FOUND, True)
    assert typed("verify").code == typed("verify", export="one").code == 0
    assert not open_below(tmp_path / "all") | open_below(tmp_path / "one"), "a command lets go of what it opened"
