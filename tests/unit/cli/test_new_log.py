"""A log that is gone: none begins by itself while nonces or receipts remain, and a new one says that it is one."""

import json
import shutil
from pathlib import Path

import pytest

from mvmnix.audit.note import NoteKey
from mvmnix.digest import Digest
from mvmnix.formats import strict
from tests.unit.cli.machines import edited, ran
from tests.unit.cli.plans import flake_of, log, signed
from tests.unit.cli.station import Said, Station


def run(station: Station) -> Said:
    return station.mvm("run", flake_of(station), "--", "true")


def refused(said: Said) -> None:
    assert said.code in {1, 126}
    assert "refused [log-mismatch]" in said.err
    assert "the log is gone" in said.err
    assert "mvm audit new-log" in said.err


@pytest.mark.parametrize("left", [{"replay", "machines"}, {"replay"}, {"machines"}], ids=sorted)
def test_no_log_begins_where_one_was(settled: Station, tmp_path: Path, left: set[str]) -> None:
    assert run(settled).code == 0
    (settled.state / "audit").rename(tmp_path / "audit")
    for name in {"replay", "machines"} - left:
        shutil.rmtree(settled.state / name)
    for _ in range(2):
        refused(run(settled))
        assert not (settled.state / "audit").exists(), "not even a directory is made"
    refused(settled.mvm("audit", "verify"))
    assert settled.mvm("audit", "verify", "--json").answer("log")["verdict"] == "mismatch"
    (tmp_path / "audit").rename(settled.state / "audit")
    if left == {"replay", "machines"}:
        assert run(settled).code == 0, "it was put back"


def test_a_new_log_is_begun_on_purpose_and_says_so(settled: Station, tmp_path: Path) -> None:
    bundle = signed(settled, "--single-use")
    assert settled.mvm("launch", bundle).code == 0
    (settled.state / "audit").rename(tmp_path / "audit")
    said = settled.mvm("audit", "new-log")
    assert (said.code, said.out) == (0, "")
    assert "1 nonce that was spent and 1 receipt of a machine" in said.err
    (first,) = log(settled)
    nonces = [path.name for path in (settled.state / "replay").glob("??/*")]
    receipts = [Digest.of(path.read_bytes()).hex for path in (settled.state / "machines").glob("*/receipt*")]
    lists = {"nonces": nonces, "receipts": receipts}
    assert first["kind"] == "new-log"
    assert first["digests"] == {name: Digest.of(strict.canonical(each)).hex for name, each in lists.items()}
    again = settled.mvm("launch", bundle)
    assert (again.code, "refused [replay]" in again.err) == (126, True), "what was spent stays spent"
    assert settled.mvm("audit", "verify").code == 0


@pytest.mark.parametrize(("runs", "found"), [(0, "it was rolled back"), (2, "do not give the root")])
def test_a_checkpoint_of_the_log_before_is_refused_and_the_new_one_named(
    settled: Station, tmp_path: Path, runs: int, found: str
) -> None:
    """It proves that something is gone; the record says who did it, and that it was on purpose."""
    assert run(settled).code == 0
    pinned = tmp_path / "pinned"
    assert settled.mvm("audit", "checkpoint", "--out", pinned).code == 0
    (settled.state / "audit").rename(tmp_path / "audit")
    assert settled.mvm("audit", "new-log").code == 0
    for _ in range(runs):
        assert run(settled).code == 0
    said = settled.mvm("audit", "verify", "--pinned", pinned)
    assert (said.code, found in said.err) == (1, True)
    time = log(settled)[0]["time"]
    assert f"record 0 says that a new log was begun on purpose at {time}" in said.err
    assert "mvm audit verify --directory" in said.err
    old = settled.mvm("audit", "verify", "--pinned", pinned, "--directory", tmp_path / "audit")
    assert old.code == 0, old.err


def test_no_new_log_is_begun_where_there_is_one(settled: Station) -> None:
    assert run(settled).code == 0
    before = log(settled)
    said = settled.mvm("audit", "new-log")
    assert (said.code, "there is a log" in said.err) == (2, True)
    assert log(settled) == before
    (settled.state / "audit/0000000000000000.jsonl").unlink()
    assert settled.mvm("audit", "new-log").code == 2, "one that is refused is moved away first"


def test_a_host_without_traces_begins_its_log_by_itself(settled: Station) -> None:
    assert run(settled).code == 0
    assert json.loads(settled.mvm("audit", "show", "0").out)["kind"] == "admission"


def test_a_machine_whose_log_went_while_it_ran_keeps_its_receipt(settled: Station, tmp_path: Path) -> None:
    """Its end can't be written into a log that is gone, and a new log knows no start of it."""
    machine = ran(settled, "true")
    edited(machine, "exitCode", state="running")
    (settled.state / "audit").rename(tmp_path / "audit")
    refused(settled.mvm("ps"))
    assert settled.mvm("audit", "new-log").code == 0
    assert settled.mvm("ps").code == 0
    assert (machine / "receipt.sigstore.json").exists()
    assert [record["kind"] for record in log(settled)] == ["new-log"], "a new log has no start of it"


@pytest.mark.parametrize("remedy", ["the old key is put back", "a new log is begun"])
def test_a_host_key_that_was_made_anew_is_told_from_a_changed_log(settled: Station, remedy: str) -> None:
    assert run(settled).code == 0
    old = NoteKey.parse((settled.state / "audit/verifier-key").read_text().strip())
    key = settled.config / "keys/host.pem"
    key.rename(settled.path / "host.pem")
    assert settled.mvm("key", "create", "host").code == 0
    with settled.rooms() as rooms:
        new = rooms.log_key
    for said in (run(settled), settled.mvm("audit", "verify"), settled.mvm("doctor")):
        told = said.err + said.out
        assert f"it is sealed by another host key: by {old.name}, and the key here is {new.name}" in told
        assert "find out who changed it" not in told
    if remedy == "the old key is put back":
        (settled.path / "host.pem").rename(key)
    else:
        (settled.state / "audit").rename(settled.state / "audit.bad")
        assert settled.mvm("audit", "new-log").code == 0
    assert run(settled).code == 0
    assert settled.mvm("audit", "verify").code == 0
