"""`mvm audit`: reads and checks the log, here or elsewhere, with the host's public key and nothing secret."""

import json
import shutil
from pathlib import Path

import pytest

from mvmnix.keys import Algorithm, PrivateKey
from tests.unit.cli.station import Station


@pytest.fixture
def logged(settled: Station) -> Station:
    """Two runs, one refusal: seven records."""
    reference = settled.flake()
    for _ in range(2):
        assert settled.mvm("run", reference, "--", "true").code == 0
    assert settled.mvm("run", f"path:{settled.path}", "--", "true").code == 126
    return settled


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
    assert logged.mvm("audit", "verify", "--directory", tmp_path / "log").code == 125, "whose key?"


def test_a_changed_record_is_found(logged: Station) -> None:
    (segment,) = (logged.state / "audit").glob("*.jsonl")
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b'"start"', b'"STart"', 1))
    for command in ("tail", "verify"):
        said = logged.mvm("audit", command)
        assert said.code == 126
        assert "refused [log-mismatch]" in said.err
    assert logged.mvm("run", f"path:{logged.path}/flakes/hello", "--", "true").code == 126, "no start without a log"


def test_a_rollback_is_found_against_a_checkpoint_kept_elsewhere(logged: Station, tmp_path: Path) -> None:
    before = tmp_path / "before"
    shutil.copytree(logged.state / "audit", before)
    assert logged.mvm("run", f"path:{logged.path}/flakes/hello", "--", "true").code == 0
    shutil.copy(logged.state / "audit/checkpoint", tmp_path / "pinned")
    assert logged.mvm("audit", "verify", "--pinned", tmp_path / "pinned").code == 0
    shutil.rmtree(logged.state / "audit")
    shutil.copytree(before, logged.state / "audit")
    assert logged.mvm("audit", "verify").code == 0, "by itself it is whole"
    said = logged.mvm("audit", "verify", "--pinned", tmp_path / "pinned")
    assert said.code == 126
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
    assert said.code == (126 if data == "another" else 2)


def test_no_log(station: Station, tmp_path: Path) -> None:
    station.settle()
    assert station.mvm("audit", "verify").code == 2
    assert station.mvm("audit", "tail").code == 2
    said = station.mvm("audit", "verify", "--directory", tmp_path / "absent")
    assert said.code == 2
    assert "is not a directory" in said.err
    (tmp_path / "file").write_text("")
    assert station.mvm("audit", "verify", "--directory", tmp_path / "file").code == 126
