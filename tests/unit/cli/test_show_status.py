"""`mvm show` of a machine: what its directory says counts for nothing against the log, and is never ticked alone."""

import shutil
from datetime import timedelta

import pytest

from mvmnix.clock import now
from mvmnix.errors import ReasonCode as Code
from mvmnix.formats.strict import parse_time
from tests.unit.cli.machines import edited
from tests.unit.cli.shown import broken, directory, log_changed, machine, nodes
from tests.unit.cli.station import Station

__all__ = ["machine"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"plan": "0" * 64}, "plan"),
        ({"policy": "0" * 64}, "policy"),
        ({"manifest": "0" * 64}, "image"),
        ({"provenance": "0" * 64}, "provenance"),
        ({"created": "2020-01-01T00:00:00Z"}, "start"),
        ({"exitCode": 7}, "exit code"),
        ({"reason": "guest-panic"}, "end"),
    ],
    ids=str,
)
def test_the_log_is_believed_and_not_the_status(
    settled: Station, machine: str, change: dict[str, object], name: str
) -> None:
    """The machine alone is refused: its plan, image and receipt are found by what the log says."""
    edited(directory(settled, machine), **change)
    said = settled.mvm("show", machine, "--json")
    assert (said.code, broken(said)) == (1, {"machine": f"refused ['{Code.LOG_MISMATCH}']"})
    (reason,) = nodes(said)["machine"]["verdict"]["reasons"]
    assert reason["why"].startswith(f"its {name} is ")
    assert str(*change.values()) in reason["why"]


def test_a_machine_s_facts_are_those_of_the_log(settled: Station, machine: str) -> None:
    edited(directory(settled, machine), image="another", acceleration="kvm", state="created")
    found = nodes(settled.mvm("show", machine, "--json"))["machine"]
    facts = {fact["name"]: fact["value"] for fact in found["facts"]}
    assert facts.keys() == {"state", "started", "ended", "exit code"}
    assert (facts["state"], facts["exit code"]) == ("ended", "0, as the guest reported it")
    assert facts["ended"].endswith(", in order")
    assert now() - parse_time(facts["started"]) < timedelta(hours=1)


@pytest.mark.parametrize("how", ["changed", "removed", "keyless"])
def test_without_a_log_nothing_that_it_vouches_for_is_ticked(settled: Station, machine: str, how: str) -> None:
    if how == "changed":
        log_changed(settled)
    elif how == "removed":
        shutil.rmtree(settled.state / "audit")
    else:
        (settled.config / "keys/host.pem").unlink()
    said = settled.mvm("show", machine, "--json")
    found = broken(said)
    assert {found[key] for key in ("machine", "receipt", "plan")} == {"not verified"}
    assert "when it was started can't be told" in nodes(said)["plan"]["verdict"]["why"]
    assert nodes(said)["machine"]["signer"] is None
    assert ("policy" in found) == (how != "removed"), "whether it was rolled back can't be told"


def test_a_plan_of_an_unknown_time_is_not_held_against_the_time(settled: Station, machine: str) -> None:
    """It was fine when it was used, or was not; another reason to refuse it stays one."""
    shutil.rmtree(settled.state / "audit")
    path = settled.config / "trust.toml"
    path.write_text(path.read_text() + "\n# another policy\n")
    said = settled.mvm("show", machine, "--json")
    assert broken(said)["plan"] == "not verified"
    (directory(settled, machine) / "plan.sigstore.json").write_bytes(b"{}")
    said = settled.mvm("show", machine, "--json")
    assert broken(said)["plan"].startswith("refused")


def test_what_was_added_to_the_log_s_end(settled: Station, machine: str) -> None:
    """A writer that was killed leaves as much: the records stand, and so does what rests on them."""
    (path,) = (settled.state / "audit").glob("*.jsonl")
    lines = path.read_bytes().rstrip(b" ")
    path.write_bytes(lines + b"x")
    said = settled.mvm("show", machine, "--json")
    assert (said.code, broken(said)) == (2, {"log": "not verified"})
    assert "no seal covers the last 1 bytes" in nodes(said)["log"]["verdict"]["why"]


@pytest.mark.parametrize("room", ["builds", "machines"])
def test_what_says_where_the_evidence_lies_is_named_when_it_cannot_be_read(
    settled: Station, machine: str, room: str
) -> None:
    path = next((settled.state / room).rglob("machine.json" if room == "machines" else "*"))
    path.write_bytes(b"?" + path.read_bytes()[1:])
    said = settled.mvm("show", machine)
    assert said.code == 2
    assert str(path) in said.err
    assert not said.out or "its image isn't kept here" in said.out, "a broken entry of the index is left out"


#: What `mvm show` doesn't read: it looks ends up in the log itself.
UNSHOWN = {"lock", "verifier-key", "end.note", "auto-remove"}


def test_a_byte_of_the_evidence(settled: Station, machine: str) -> None:
    """Wherever one is changed, not all is verified: the first, the last and one between, of all that is shown."""
    rooms = ("audit", "bundles", "images", "locks", "sboms", "machines")
    found = (path for room in rooms for path in (settled.state / room).rglob("*"))
    files = [path for path in found if path.is_file() and path.stat().st_size]
    shown = [path for path in files if path.suffix != ".log" and path.name not in UNSHOWN]
    assert len(shown) > 12
    for path in shown:
        data = path.read_bytes()
        size = len(data.rstrip(b" "))  # behind the log's records there is room for others
        for at in (0, size // 3, size - 1):
            path.chmod(0o600)
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            said = settled.mvm("show", machine)
            assert said.code in {1, 2}, (path, at, said.out)
        path.write_bytes(data)
