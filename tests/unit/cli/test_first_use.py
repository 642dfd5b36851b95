"""The first use makes keys and a policy; what was made once and is lost is named, and never made anew by itself."""

import shutil

import pytest

from mvmnix.api import key_file
from mvmnix.audit.record import Record, RecordKind
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.keys import Role
from tests.unit.cli.plans import flake_of, log
from tests.unit.cli.station import Station


def trusted(station: Station) -> dict[str, Digest]:
    """Names and fingerprints of a policy's signers, which are the keys here."""
    with station.rooms() as rooms:
        found = {signer.name: signer.fingerprint for signer in rooms.policy.signers}
        assert found == {role: rooms.key(Role(role)).public.fingerprint for role in ("builder", "planner", "host")}
        return found


@pytest.mark.parametrize("role", ["host", "verifier"])
def test_a_key_that_no_policy_left_out_is_no_use_before(station: Station, role: str) -> None:
    """It is kept; missing ones and a policy are made."""
    assert station.mvm("key", "create", role).code == 0
    before = {path.name: path.read_bytes() for path in (station.config / "keys").iterdir()}
    station.settle()
    assert trusted(station)
    after = {path.name: path.read_bytes() for path in (station.config / "keys").iterdir()}
    assert after.items() >= before.items()
    assert sorted(after) == sorted({"builder.pem", "host.pem", "planner.pem", f"{role}.pem"})


@pytest.mark.parametrize("roles", [("builder",), ("planner", "host"), ("builder", "planner", "host")])
@pytest.mark.parametrize("is_logged", [True, False])
def test_keys_are_not_trusted_anew_by_themselves(station: Station, roles: tuple[str, ...], *, is_logged: bool) -> None:
    """A policy that is gone, with all state, may have left them out; a first use may have been killed."""
    for role in roles:
        assert station.mvm("key", "create", role).code == 0
    if is_logged and "host" in roles:
        with station.rooms() as rooms:
            rooms.journal.append(Record(kind=RecordKind.REFUSAL, time=now(), reasons=(ReasonCode.POLICY_MISSING,)))
    before = {path.name: path.read_bytes() for path in (station.config / "keys").iterdir()}
    (station.path / "flake.nix").write_text("{}")
    said = station.mvm("run", f"path:{station.path}", "--", "true")
    assert (said.code, "[policy-missing]" in said.err, "mvm policy create" in said.err) == (126, True, True), said.err
    assert f"keys are ({', '.join(sorted(set(roles) - {'host'}))})" in said.err
    assert not (station.config / "trust.toml").exists()
    assert {path.name: path.read_bytes() for path in (station.config / "keys").iterdir()} == before
    assert station.mvm("policy", "create").code == 0
    assert trusted(station)
    assert {path.name: path.read_bytes() for path in (station.config / "keys").iterdir()}.items() >= before.items()


def test_a_refusal_in_the_log_is_no_use_before(station: Station) -> None:
    """It was logged before there was a policy that could have decided anything."""
    assert station.mvm("key", "create", "host").code == 0
    with station.rooms() as rooms:
        rooms.journal.append(Record(kind=RecordKind.REFUSAL, time=now(), reasons=(ReasonCode.POLICY_MISSING,)))
        rooms.initialize()
        assert rooms.policy.signers


@pytest.mark.parametrize("there", ["policy", "floor"])
def test_a_policy_that_is_there_is_never_made_anew(station: Station, there: str) -> None:
    where = station.config if there == "policy" else station.path / "etc"
    where.mkdir(parents=True, mode=0o700)
    (where / "trust.toml").write_text("")
    with station.rooms() as rooms:
        rooms.initialize()
    assert list(station.config.rglob("*.*")) == [where / "trust.toml"] * (there == "policy")
    assert (where / "trust.toml").read_bytes() == b""


@pytest.mark.parametrize("command", [("run", "FLAKE"), ("build", "FLAKE"), ("doctor",)], ids=" ".join)
def test_a_lost_policy_is_named_and_not_made_anew(settled: Station, command: tuple[str, ...]) -> None:
    reference = flake_of(settled)
    assert settled.mvm("run", reference, "--", "true").code == 0
    (settled.config / "trust.toml").unlink()
    said = settled.mvm(*(reference if word == "FLAKE" else word for word in command))
    assert (said.code, "policy-missing" in said.err + said.out) == (1 if command == ("doctor",) else 126, True)
    told = said.err + said.out
    assert "it is gone: the audit log has verdicts by a trust policy of serial 1" in told
    assert "put it back from a backup" in told
    assert "first `mvm run`" not in told
    assert not (settled.config / "trust.toml").exists()


def test_a_policy_is_made_on_purpose_and_no_older_than_the_lost_one(settled: Station) -> None:
    reference, trust = flake_of(settled), settled.config / "trust.toml"
    trust.write_text(trust.read_text().replace("serial = 1 ", "serial = 4 "))
    assert settled.mvm("run", reference, "--", "true").code == 0
    there = settled.mvm("policy", "create")
    assert (there.code, "is there already" in there.err) == (2, True)
    trust.unlink()
    said = settled.mvm("policy", "create")
    assert (said.code, str(trust) in said.err) == (0, True), said.err
    assert "serial = 5 " in trust.read_text()
    assert settled.mvm("run", reference, "--", "true").code == 0
    assert [each["serials"] for each in log(settled) if "serials" in each][-1] == [0, 5, 0, 0]


def test_no_policy_is_made_over_a_lost_log(settled: Station) -> None:
    """The serial of the last one is not known without the log, which may be moved back."""
    assert settled.mvm("run", flake_of(settled), "--", "true").code == 0
    (settled.config / "trust.toml").unlink()
    (settled.state / "audit").rename(settled.state / "moved")
    said = settled.mvm("policy", "create")
    assert (said.code, "[log-mismatch]" in said.err, "mvm audit new-log" in said.err) == (126, True, True), said.err
    assert not (settled.config / "trust.toml").exists()
    assert not (settled.state / "audit").exists()
    assert settled.mvm("audit", "new-log").code == 0
    assert settled.mvm("policy", "create").code == 0


def test_a_policy_is_made_before_the_first_use_too(station: Station) -> None:
    assert station.mvm("policy", "create").code == 0
    assert station.mvm("policy", "check").code == 0
    assert not (station.state / "audit").exists()


@pytest.mark.parametrize("is_logged", [True, False], ids=["with its log", "with traces of a log"])
def test_a_lost_configuration_is_named_and_begun_anew_as_the_hint_says(settled: Station, *, is_logged: bool) -> None:
    reference = flake_of(settled)
    assert settled.mvm("run", reference, "--", "true").code == 0
    shutil.rmtree(settled.config)
    if not is_logged:
        shutil.rmtree(settled.state / "audit")
    said = settled.mvm("run", reference, "--", "true")
    assert (said.code, "[policy-missing]" in said.err) == (126, True), said.err
    assert f"so is {settled.config}/keys/{key_file(Role.HOST)}, the key of the audit log here" in said.err
    assert list(settled.config.rglob("*.*")) == [], "nothing was made"
    moved = f"mv {settled.state}/audit {settled.state}/audit.bad; "
    assert (moved in said.err) == is_logged
    assert settled.mvm("key", "create", "host").code == 0
    if is_logged:
        (settled.state / "audit").rename(settled.state / "audit.bad")
    assert settled.mvm("audit", "new-log").code == 0
    assert settled.mvm("policy", "create").code == 0
    assert settled.mvm("policy", "check").code == 0
