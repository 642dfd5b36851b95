"""`mvm verify --policy P ARTIFACT…`: a trust policy that was named on the command line decides about any build."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.slsa import predicate
from tests.unit.cli.policies import revoke
from tests.unit.cli.releases import KEY, OTHER, Release, policy, provenance, signed
from tests.unit.cli.station import Said
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance import world as worlds
from tests.unit.provenance.foreign_world import DIGEST, GENERATOR, REPOSITORY, V0_2, V1


def verify(it: Release, path: Path, *more: str) -> Said:
    return it.verify("--policy", path, *more, it.artifact, key=None)


@pytest.mark.parametrize(("kind", "made"), [(V1, foreign.workflow), (V0_2, foreign.generator)])
def test_admitted(it: Release, kind: str, made: object) -> None:
    assert callable(made)
    it.put(signed(foreign.statement(kind, made())))
    said = verify(it, policy(it), "--source-uri", REPOSITORY)
    assert (said.code, said.err) == (0, "")
    assert "signed by release (no log, no trusted time)" in said.out
    assert verify(it, policy(it).parent).code == 0


def test_refused(it: Release) -> None:
    """All that a policy may have against a build are rows of tests/unit/provenance/verify/test_release_checks.py."""
    path = policy(it, pattern="git+https://git.example/other/*", builder=GENERATOR + "1")
    said = verify(it, path, "--json")
    assert (said.code, said.reason_codes) == (1, [Code.BUILDER_NOT_ADMITTED, Code.SOURCE_NOT_ADMITTED])
    assert verify(it, path).err.count(f"{it.artifact}: refused [") == 2


def test_two_builders_that_agree(it: Release) -> None:
    path = policy(it, more="[thresholds]\nrebuilds = 2")
    it.put(provenance(), provenance())
    assert verify(it, path, "--json").reason_codes == [Code.REBUILDS_MISSING], "one signer counts once"
    other = foreign.workflow()
    other["runDetails"]["metadata"]["invocationId"] = "urn:run:2"
    it.put(provenance(), signed(foreign.statement(V1, other), OTHER))
    assert verify(it, path).code == 0


def test_revoked_files(it: Release) -> None:
    path = policy(it)
    revoke(path.parent, DIGEST.hex)
    said = verify(it, path, "--json")
    assert (said.code, said.reason_codes) == (1, [Code.IMAGE_REVOKED])


@pytest.mark.parametrize("text", ["", "version = 1", "\xff", "no toml"])
def test_a_policy_that_is_none(it: Release, text: str) -> None:
    path = policy(it)
    path.write_text(text, "latin-1")
    said = verify(it, path)
    assert (said.code, said.out, "the policy" in said.err) == (2, "", True)


def test_a_policy_that_others_can_change(it: Release) -> None:
    path = policy(it)
    path.chmod(0o666)
    assert verify(it, path).code == 2


def test_mvms_own_builds(it: Release, tmp_path: Path) -> None:
    world = worlds.new_world(tmp_path)
    it.artifact.write_bytes(world.kernel)
    own = {"builder": "urn:mvmnix:builder:microvm:1", "pattern": "git+https://host/repository?rev=*"}
    built = world.provenance(started=now() - timedelta(minutes=9), finished=now() - timedelta(minutes=7))
    it.put(signed(predicate.provenance_statement(built, world.image.artifacts).to_bytes()))
    assert verify(it, policy(it, **own)).code == 0
    assert verify(it, policy(it, **own | {"pattern": "path:*"}), "--json").reason_codes == [Code.SOURCE_NOT_ADMITTED]
    assert verify(it, policy(it, **own | {"builder": "urn:x:y"}), "--json").reason_codes == [Code.BUILDER_NOT_ADMITTED]
    old = policy(it, **own, more='[freshness]\nprovenance = "1m"')
    assert verify(it, old, "--json").reason_codes == [Code.PROVENANCE_STALE]
    image = Digest.of(b"kernel")  # of the builder's image, in worlds
    revoke(it.path / "policy", image.hex)
    assert verify(it, policy(it, **own), "--json").reason_codes == [Code.IMAGE_REVOKED]


def test_the_launch_gate_takes_no_policy_from_the_command_line() -> None:
    from mvmnix.cli.commands.launch import launch
    from mvmnix.cli.commands.run import run

    for command in (launch, run):
        assert not [option for each in command.params for option in each.opts if "policy" in option]


def test_a_summary_of_files(it: Release) -> None:
    assert it.station.mvm("key", "create", "verifier").code == 0
    out = it.path / "vsa.json"
    other = it.path / "other.img"
    other.write_bytes(b"other")
    it.put(provenance(KEY), provenance(OTHER, Digest.of(b"other")))
    options = ("--vsa", out, "--resource-uri", "pkg:generic/app@1.2.3", "--bundle", it.bundle)
    said = it.verify("--policy", policy(it), *options, it.artifact, other, key=None)
    assert (said.code, said.err) == (0, "")
    statement = json.loads(envelope.parse_bundle(out.read_bytes()).payload)
    assert {each["name"]: each["digest"]["sha256"] for each in statement["subject"]} == {
        "app.img": DIGEST.hex,
        "other.img": Digest.of(b"other").hex,
    }
    predicate = statement["predicate"]
    assert predicate["resourceUri"] == "pkg:generic/app@1.2.3"
    assert predicate["verifiedLevels"] == ["SLSA_BUILD_LEVEL_1"], "the lowest: 3 for one file, 1 for the other"
    assert len(predicate["inputAttestations"]) == 2
    key = it.path / "verifier.pub"
    key.write_text(it.station.mvm("key", "show", "verifier").out)
    by_others = ("--key", key, "--type", "https://slsa.dev/verification_summary/v1", "--bundle", out)
    assert it.verify(*by_others, it.artifact, other, key=None).code == 0


def test_no_summary_without_a_policy_or_of_what_was_refused(it: Release) -> None:
    assert it.station.mvm("key", "create", "verifier").code == 0
    out = it.path / "vsa.json"
    whole = ("--vsa", out, "--resource-uri", "pkg:generic/app")
    rows: list[tuple[int, tuple[str | Path, ...]]] = [
        (2, ("--key", it.key(), *whole)),
        (2, ("--policy", policy(it), "--vsa", out)),
        (2, ("--policy", policy(it), "--resource-uri", "pkg:generic/app")),
        (2, ("--policy", policy(it), "--vsa", out, "--resource-uri", "no uri")),
        (2, ("--policy", policy(it), *whole, "--plan", "x")),
        (2, ("--policy", policy(it), *whole, it.artifact)),
        (1, ("--policy", policy(it), *whole, "--source-tag", "v9")),
    ]
    for code, options in rows:
        said = it.verify(*options, it.artifact, key=None)
        assert (said.code, out.exists()) == (code, False), said.err
