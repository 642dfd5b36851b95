"""`mvm verify --vsa` on one machine, `mvm launch --image --vsa` on another that has no evidence, only a policy."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.api.verify.summaries import finding_of_image
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.formats.strict import canonical
from mvmnix.images.store import VerifiedImage
from mvmnix.keys import PrivateKey, Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.verify.verify import verify_provenance
from tests.unit.cli.policies import revoke
from tests.unit.cli.station import Said, Station
from tests.unit.provenance.verify.rebuilds import SECOND, agreed, rebuilt
from tests.unit.provenance.world import BLOCKS, BUILDER, STRANGER, Json, drop, new_world, put

#: Where the world's verity superblock begins: a launch looks at that, and the guest at the rest.
SUPERBLOCK = BLOCKS * 4096
EVIDENCE = ("provenance.sigstore.json", "flake.lock", "sbom.cdx.json", "parts.sigstore.jsonl")


class Gap:
    """A verifier's machine with an exported image and a plan; and what is carried over to a machine without network."""

    def __init__(self, verifier: Station) -> None:
        self.verifier = verifier
        key = verifier.mvm("key", "create", "verifier").out
        who = json.loads(verifier.mvm("key", "show", "--json", "verifier").out)["result"]["fingerprint"]
        policy = verifier.config / "trust.toml"
        said = f"urn:mvmnix:verifier:{who}"
        policy.write_text(
            policy.read_text()
            + f'\n[[signers]]\nname = "gate"\nroles = ["verifier"]\nkey = """\n{key}"""\n'
            + f'\n[[verifiers]]\nsigner = "gate"\nid = "{said}"\nmax-age = "7d"\nmin-level = 1\n'
        )
        self.image = verifier.path / "carried/image"
        flake = verifier.flake()
        assert verifier.mvm("build", flake, "--out", self.image).code == 0
        self.plan, self.vsa = verifier.path / "carried/plan.json", verifier.path / "carried/vsa.json"
        assert verifier.mvm("plan", "create", "--out", verifier.path / "plan", flake, "--", "true").code == 0
        assert verifier.mvm("plan", "sign", verifier.path / "plan", "--out", self.plan).code == 0

    def summarise(self, *more: str | Path) -> Said:
        return self.verifier.mvm("verify", "--vsa", self.vsa, *more, self.image)

    def key(self, role: Role) -> PrivateKey:
        """The verifier's machine's key of this role."""
        with self.verifier.rooms() as rooms:
            return rooms.key(role)

    def change_summary(self, change: Callable[[Json], object]) -> None:
        """Have the verifier say something else."""
        statement = json.loads(envelope.parse_bundle(self.vsa.read_bytes()).payload)
        change(statement)
        self.vsa.write_bytes(envelope.sign(canonical(statement), self.key(Role.VERIFIER)).to_bytes())

    def far_side(self) -> Station:
        """The other machine: its own host key, the same policy, and no library."""
        path = self.verifier.path / "far"
        (path / "home").mkdir(parents=True, mode=0o700)
        far = Station(path, self.verifier.capfd, self.verifier.monkeypatch)
        far.monkeypatch.setenv("HOME", str(far.home))
        far.hypervisor()
        far.config.mkdir(parents=True, mode=0o700)
        assert far.mvm("key", "create", "host").code == 0
        shutil.copy(self.verifier.config / "trust.toml", far.config)
        (far.config / "trust.toml").chmod(0o600)
        for name in EVIDENCE:
            (self.image / name).unlink(missing_ok=True)
        return far


@pytest.fixture
def gap(settled: Station) -> Gap:
    return Gap(settled)


def test_a_verifiers_word_crosses_the_gap(gap: Gap) -> None:
    provenance = Digest.of((gap.image / "provenance.sigstore.json").read_bytes())
    assert gap.summarise().code == 0
    far = gap.far_side()
    said = far.mvm("launch", "--image", gap.image, "--vsa", gap.vsa, gap.plan)
    assert said.code == 0, said.err
    log = [json.loads(line) for line in far.mvm("audit", "tail").out.splitlines()]
    digests = next(record["digests"] for record in log if record["kind"] == "admission")
    assert (digests["provenance"], digests["summary"]) == (provenance.hex, Digest.of(gap.vsa.read_bytes()).hex)
    assert far.mvm("launch", "--image", gap.image, gap.plan).code != 0, "the evidence isn't there"


def test_with_all_evidence_from_a_directory(gap: Gap) -> None:
    said = gap.verifier.mvm("launch", "--image", gap.image, gap.plan)
    assert said.code == 0, said.err


@pytest.mark.parametrize("name", ["kernel", "initrd"])
def test_a_changed_file_is_built_or_copied_again(gap: Gap, name: str) -> None:
    """No pin names it, so `mvm pin fetch` can't help."""
    path = gap.image / name
    changed = bytes((path.read_bytes()[0] ^ 1,)) + path.read_bytes()[1:]
    path.unlink()
    path.write_bytes(changed)
    said = gap.verifier.mvm("launch", "--image", gap.image, gap.plan)
    assert (said.code, f"{name}: refused [artifact-mismatch]" in said.err) == (126, True)
    assert "mvm build --again FLAKE" in said.err
    assert "mvm pin" not in said.err


def test_what_the_summary_says(gap: Gap) -> None:
    said = gap.summarise("--verifier-id", "https://verifier.example/gate")
    assert (said.code, said.err) == (0, "")
    statement = json.loads(envelope.parse_bundle(gap.vsa.read_bytes()).payload)
    predicate = statement["predicate"]
    manifest = Digest.of((gap.image / "manifest.json").read_bytes())
    assert statement["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert {it["name"] for it in statement["subject"]} == {"kernel", "initrd", "rootfs", "manifest.json"}
    assert predicate["resourceUri"] == f"urn:mvmnix:image:hello:sha256:{manifest.hex}"
    assert predicate["verifier"]["id"] == "https://verifier.example/gate"
    assert (predicate["verificationResult"], predicate["verifiedLevels"]) == ("PASSED", ["SLSA_BUILD_LEVEL_1"])
    provenance = Digest.of((gap.image / "provenance.sigstore.json").read_bytes())
    assert predicate["inputAttestations"][0]["digest"] == {"sha256": provenance.hex}
    policy = gap.verifier.mvm("verify", "--json", gap.image).answer("verdict")["policy"]
    assert predicate["policy"] == {"digest": {"sha256": policy.removeprefix("sha256:")}}


def test_a_policy_that_was_named_is_the_summarys(gap: Gap) -> None:
    named = gap.verifier.path / "named"
    named.mkdir(mode=0o700)
    shutil.copy(gap.verifier.config / "trust.toml", named)
    assert gap.summarise("--policy", named / "trust.toml").code == 0
    assert gap.far_side().mvm("launch", "--image", gap.image, "--vsa", gap.vsa, gap.plan).code == 0


def test_nothing_is_written_when_it_is_refused_or_can_not_be(gap: Gap) -> None:
    kernel = gap.image / "kernel"
    whole = kernel.read_bytes()
    kernel.unlink()
    kernel.write_bytes(whole + b"\0")
    assert (gap.summarise().code, gap.vsa.exists()) == (1, False)
    kernel.write_bytes(whole)
    assert (gap.summarise("--verifier-id", "no uri").code, gap.vsa.exists()) == (2, False)
    assert gap.summarise().code == 0
    assert gap.summarise().code == 2, "it is there already"
    for wrong in (("--verifier-id", "urn:x:y"), ("--vsa", str(gap.vsa), "--resource-uri", "urn:x:y")):
        assert gap.verifier.mvm("verify", *wrong, gap.image).code == 2
    (gap.verifier.config / "keys/verifier.pem").unlink()
    gap.vsa.unlink()
    said = gap.summarise()
    assert (said.code, "mvm key create verifier" in said.err) == (2, True)


ROWS: dict[str, tuple[Code, tuple[str, ...], object]] = {
    "another id": (Code.VERIFIER_NOT_ADMITTED, ("verifier", "id"), "urn:mvmnix:verifier:other"),
    "another image": (Code.RESOURCE_MISMATCH, ("resourceUri",), "urn:mvmnix:image:other"),
    "another policy": (Code.POLICY_MISMATCH, ("policy", "digest", "sha256"), "0" * 64),
    "failed": (Code.VERIFICATION_FAILED, ("verificationResult",), "FAILED"),
    "a lower level": (Code.LEVEL_INSUFFICIENT, ("verifiedLevels",), ["SLSA_BUILD_LEVEL_0"]),
    "old": (Code.SUMMARY_STALE, ("timeVerified",), "2020-01-01T00:00:00Z"),
    "another provenance": (
        Code.PROVENANCE_MISMATCH,
        ("inputAttestations",),
        [{"name": "provenance", "digest": {"sha256": "0" * 64}}],
    ),
    "a field more": (Code.STATEMENT_MALFORMED, ("more",), 1),
}


@pytest.mark.parametrize("row", ROWS)
def test_the_gate_refuses(gap: Gap, row: str) -> None:
    """Each with its own reason, signed by the very verifier that the policy names; and the refusal is in the log."""
    code, path, value = ROWS[row]
    assert gap.summarise().code == 0
    good = gap.vsa.read_bytes()
    gap.change_summary(put(value, "predicate", *path))
    far = gap.far_side()
    said = far.mvm("launch", "--image", gap.image, "--vsa", gap.vsa, gap.plan)
    assert (said.code, said.out) == (126, "")
    assert f"refused [{code}]" in said.err
    assert said.err.count("refused [") == 1
    assert f'"{code}"' in far.mvm("audit", "tail").out
    gap.vsa.write_bytes(good)
    assert far.mvm("launch", "--image", gap.image, "--vsa", gap.vsa, gap.plan).code == 0, "as the verifier has it"


@pytest.mark.parametrize("role", ["builder", "planner", "host"])
def test_no_other_key_summarises(gap: Gap, role: str) -> None:
    assert gap.summarise().code == 0
    payload = envelope.parse_bundle(gap.vsa.read_bytes()).payload
    gap.vsa.write_bytes(envelope.sign(payload, gap.key(Role(role))).to_bytes())
    said = gap.verifier.mvm("launch", "--image", gap.image, "--vsa", gap.vsa, gap.plan)
    assert (said.code, f"refused [{Code.SIGNER_ROLE}]" in said.err) == (126, True)


def test_other_files_than_the_summary_is_about(gap: Gap) -> None:
    assert gap.summarise().code == 0
    far = gap.far_side()
    for name in ("kernel", "initrd", "rootfs", "manifest.json"):
        whole = (gap.image / name).read_bytes()
        (gap.image / name).unlink()
        changed = whole[:SUPERBLOCK] + b"\xff" + whole[SUPERBLOCK + 1 :]
        (gap.image / name).write_bytes(changed if name == "rootfs" else whole + b" ")
        assert far.mvm("launch", "--image", gap.image, "--vsa", gap.vsa, gap.plan).code == 126, name
        (gap.image / name).write_bytes(whole)
    assert far.mvm("launch", "--vsa", gap.vsa, gap.plan).code == 2


def test_a_provenance_is_no_summary_and_a_summary_no_provenance(gap: Gap) -> None:
    assert gap.summarise().code == 0
    provenance = gap.image / "provenance.sigstore.json"
    said = gap.verifier.mvm("launch", "--image", gap.image, "--vsa", provenance, gap.plan)
    assert (said.code, f"refused [{Code.SIGNER_ROLE}]" in said.err) == (126, True)
    provenance.unlink()
    shutil.copy(gap.vsa, provenance)
    said = gap.verifier.mvm("launch", "--image", gap.image, gap.plan)
    assert (said.code, f"refused [{Code.PROVENANCE_MISMATCH}]" in said.err) == (126, True)


#: What is revoked after the verifier has spoken: a table of revocations.toml, and whose digest stands there.
REVOKED: dict[str, tuple[Code, str, str]] = {
    "the provenance's bundle": (Code.BUNDLE_REVOKED, "digests", "bundle"),
    "the provenance's statement": (Code.BUNDLE_REVOKED, "digests", "statement"),
    "the builder image": (Code.IMAGE_REVOKED, "digests", "builder image"),
    "the builder's key": (Code.SIGNER_REVOKED, "keys", "key"),
}


@pytest.mark.parametrize("row", REVOKED)
def test_what_is_revoked_after_the_verifiers_word_does_not_start(gap: Gap, row: str) -> None:
    code, table, which = REVOKED[row]
    assert gap.summarise().code == 0
    data = (gap.image / "provenance.sigstore.json").read_bytes()
    payload = envelope.parse_bundle(data).payload
    build = json.loads(payload)["predicate"]["runDetails"]["builder"]["builderDependencies"]
    digests = {
        "bundle": Digest.of(data).hex,
        "statement": Digest.of(payload).hex,
        "builder image": next(it for it in build if it["name"] == "manifest.json")["digest"]["sha256"],
        "key": gap.key(Role.BUILDER).public.fingerprint.hex,
    }
    far = gap.far_side()
    assert far.mvm("launch", "--image", gap.image, "--vsa", gap.vsa, gap.plan).code == 0
    revoke(far.config, digests[which], table=table)
    said = far.mvm("launch", "--image", gap.image, "--vsa", gap.vsa, gap.plan)
    assert (said.code, said.out) == (126, "")
    assert f"refused [{code}]" in said.err
    assert f'"{code}"' in far.mvm("audit", "tail").out


def test_a_machine_that_waits_does_not_start_once_its_evidence_is_revoked(gap: Gap) -> None:
    assert gap.summarise().code == 0
    payload = envelope.parse_bundle((gap.image / "provenance.sigstore.json").read_bytes()).payload
    far = gap.far_side()
    made = far.mvm("create", "--image", gap.image, "--vsa", gap.vsa, gap.plan)
    assert made.code == 0, made.err
    revoke(far.config, Digest.of(payload).hex)
    said = far.mvm("start", made.out.strip())
    assert (said.code, f"refused [{Code.BUNDLE_REVOKED}]" in said.err) == (126, True)


def test_a_summary_without_what_it_stands_on_holds_until_something_is_revoked(gap: Gap) -> None:
    """As an mvm from before wrote it."""
    assert gap.summarise().code == 0
    good = gap.vsa.read_bytes()
    gap.change_summary(drop("predicate", "mvmnix_inputs"))
    far = gap.far_side()
    assert far.mvm("launch", "--image", gap.image, "--vsa", gap.vsa, gap.plan).code == 0
    revoke(far.config, "0" * 64, table="keys")
    said = far.mvm("launch", "--image", gap.image, "--vsa", gap.vsa, gap.plan)
    assert (said.code, f"refused [{Code.SUMMARY_INCOMPLETE}]" in said.err) == (126, True)
    assert "mvm verify --vsa" in said.err
    gap.vsa.write_bytes(good)
    assert far.mvm("launch", "--image", gap.image, "--vsa", gap.vsa, gap.plan).code == 0, "as the verifier has it"


def test_rebuilds_and_parts_are_among_what_a_summary_stands_on(tmp_path: Path) -> None:
    """By those whom the policy lets sign builds; what a stranger put beside the image is not."""
    world = new_world(tmp_path)
    world.keep_parts()
    world.policy = agreed(2, SECOND)
    second, strangers = rebuilt(world, SECOND, kept=()), rebuilt(world, STRANGER, kept=())
    found = verify_provenance(
        replace(world.evidence, rebuilds=(second,)),
        policy=world.policy,
        artifacts=world.image.artifacts,
        image=world.image,
        now=world.now,
    )
    data = world.provenance_bundle
    image = VerifiedImage(world.image, replace(world.evidence, rebuilds=(strangers, second)), found)
    it = finding_of_image(image, world.policy)
    assert it.relied_on is not None
    assert [each.bundle for each in it.relied_on] == list(it.bundles) == [*map(Digest.of, (data, *world.parts, second))]
    assert [each.key for each in it.relied_on] == [it.public.fingerprint for it in (BUILDER, BUILDER, SECOND)]
