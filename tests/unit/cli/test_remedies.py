"""Makes each refusal, removes its cause as docs/reference/reason-codes.md says, and has a command succeed.

A row makes a command refuse, yields what it said, removes the cause, and yields what the same command says then; or
another one, where the remedy is another plan, image, backend or reference. Each refusal's hint has the row's words in
`HINTS`. Where a remedy takes a virtual machine, a network or another party, `ELSEWHERE` names the test that follows it.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.formats.strict import canonical, show_time
from mvmnix.keys import PrivateKey, Role
from mvmnix.provenance.bundle import envelope
from tests.repository import ROOT
from tests.unit.cli.host_remedies import HOST_ROWS, Row, Steps, run, trust
from tests.unit.cli.plans import flake_of, signed
from tests.unit.cli.policies import OTHER, policy, revoke, trusting
from tests.unit.cli.releases import OTHER as SECOND
from tests.unit.cli.releases import policy as release_policy
from tests.unit.cli.releases import provenance, release
from tests.unit.cli.releases import signed as signed_claim
from tests.unit.cli.remedy_hints import HINTS
from tests.unit.cli.station import Station
from tests.unit.cli.station import put as change_json
from tests.unit.launch.fake_hypervisor import Scenario
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.world import Change, drop, put

BUNDLE, KERNEL, LOCK, SBOM = "provenance.sigstore.json", "kernel", "flake.lock", "sbom.cdx.json"


# -- evidence that is got or built again


class Export:
    """An image as `mvm build --out` writes it, in which one thing is spoiled."""

    def __init__(self, station: Station, *, parts: bool = False) -> None:
        self.station = station
        self.path = station.path / "out"
        self.flake = station.flake(sbom=b"{}", parts=parts)
        self.again()

    def again(self) -> None:
        """Have it built, or found, and written once more."""
        if self.path.exists():
            shutil.rmtree(self.path)
        said = self.station.mvm("build", "--out", self.path, self.flake)
        assert said.code == 0, said.err

    def write(self, name: str, data: bytes) -> None:
        (self.path / name).unlink(missing_ok=True)  # what is exported is read-only
        (self.path / name).write_bytes(data)

    @property
    def bundle(self) -> bytes:
        return (self.path / BUNDLE).read_bytes()

    def sign(self, change: Change, role: Role = Role.BUILDER) -> None:
        """Have another statement, signed by a key of this user's."""
        statement = json.loads(envelope.parse_bundle(self.bundle).payload)
        change(statement)
        with self.station.rooms() as rooms:
            self.write(BUNDLE, rooms.sign(role, canonical(statement)))

    def sign_bytes(self, payload: bytes, key: PrivateKey) -> None:
        self.write(BUNDLE, envelope.sign(payload, key).to_bytes())

    @property
    def payload(self) -> bytes:
        return envelope.parse_bundle(self.bundle).payload

    def edit(self, change: Change) -> None:
        """Change the bundle itself."""
        value = json.loads(self.bundle)
        change(value)
        self.write(BUNDLE, canonical(value))


def by_planner(it: Export) -> None:
    it.sign(lambda _: None, Role.PLANNER)


def flipped(it: Export) -> None:
    data = bytearray((it.path / KERNEL).read_bytes())
    data[0] ^= 1
    it.write(KERNEL, bytes(data))


def another_signature(it: Export) -> None:
    other = envelope.sign(it.payload + b" ", OTHER).to_bytes()
    signature = json.loads(other)["dsseEnvelope"]["signatures"]
    it.edit(put(signature, "dsseEnvelope", "signatures"))


BUILD, RUN = ("predicate", "buildDefinition"), ("predicate", "runDetails")
EVIDENCE: Final[Mapping[Code, Callable[[Export], None]]] = {
    Code.ARTIFACT_MISMATCH: flipped,
    Code.BUNDLE_MALFORMED: lambda it: it.write(BUNDLE, b"{}"),
    Code.UNSIGNED: lambda it: it.edit(put([], "dsseEnvelope", "signatures")),
    Code.SIGNATURE_INVALID: another_signature,
    Code.SIGNER_UNKNOWN: lambda it: it.sign_bytes(it.payload, OTHER),
    Code.SIGNER_ROLE: by_planner,
    Code.STATEMENT_MALFORMED: lambda it: it.sign(put(1, "more")),
    Code.PREDICATE_TYPE: lambda it: it.sign(put("https://slsa.dev/provenance/v0.2", "predicateType")),
    Code.BUILD_TYPE: lambda it: it.sign(put("urn:other", *BUILD, "buildType")),
    Code.EXTERNAL_PARAMETERS: lambda it: it.sign(put(1, *BUILD, "externalParameters", "more")),
    Code.BUILDER_NOT_ADMITTED: lambda it: it.sign(put("urn:mvmnix:builder:other:1", *RUN, "builder", "id")),
    Code.SUBJECT_MISMATCH: lambda it: it.sign(put("0" * 64, "subject", 0, "digest", "sha256")),
    Code.DEPENDENCY_MISMATCH: lambda it: it.sign(drop(*BUILD, "resolvedDependencies", -1)),
    Code.LOCK_MISMATCH: lambda it: it.write(LOCK, b'{"nodes": {"root": {}}, "root": "root", "version": 7}'),
    Code.BUILD_TIME: lambda it: it.sign(put("2020-01-01T00:00:00Z", *RUN, "metadata", "finishedOn")),
    Code.SBOM_MISMATCH: lambda it: it.write(SBOM, b'{"other": 1}'),
    Code.MANIFEST_MALFORMED: lambda it: it.write("manifest.json", b"{}"),
}


def evidence(code: Code) -> Row:
    def row(station: Station) -> Steps:
        it = Export(station)
        EVIDENCE[code](it)
        yield station.mvm("verify", it.path)
        it.again()
        yield station.mvm("verify", it.path)

    return row


# -- plans that are made and signed again


def planned(station: Station, change: Change) -> Path:
    """A plan, changed and signed again by the planner."""
    bundle = signed(station)
    statement = json.loads(envelope.parse_bundle(bundle.read_bytes()).payload)
    change(statement)
    with station.rooms() as rooms:
        bundle.write_bytes(rooms.sign(Role.PLANNER, canonical(statement)))
    return bundle


def window(begin: timedelta, end: timedelta) -> Change:
    def change(value: Any) -> None:
        value["predicate"]["validity"] = {"notBefore": show_time(now() + begin), "notAfter": show_time(now() + end)}

    return change


def contained(value: Any) -> None:
    value["predicate"] |= {"backend": "container", "isolation": "container: not a microVM"}


HOUR: Final = timedelta(hours=1)
PLANS: Final[Mapping[Code, Change]] = {
    Code.PLAN_MALFORMED: put(1, "predicate", "more"),
    Code.PLAN_EXPIRED: window(-2 * HOUR, -HOUR),
    Code.PLAN_NOT_YET_VALID: window(HOUR, 2 * HOUR),
    Code.POLICY_MISMATCH: put("0" * 64, "predicate", "evidence", "policy"),
    Code.VERB_NOT_GRANTED: put(["exec", "shell"], "predicate", "access", "verbs"),
    Code.PLAN_MISMATCH: drop("subject", 3),
    Code.ISOLATION_UNAVAILABLE: contained,
}


def plan(code: Code) -> Row:
    def row(station: Station) -> Steps:
        yield station.mvm("launch", planned(station, PLANS[code]))
        yield station.mvm("launch", signed(station))

    return row


def not_canonical(station: Station) -> Steps:
    bundle = signed(station)
    bundle.write_text(json.dumps(json.loads(bundle.read_bytes()), indent=2))
    yield station.mvm("launch", bundle)
    yield station.mvm("launch", signed(station))


def replay(station: Station) -> Steps:
    bundle = signed(station, "--single-use")
    assert station.mvm("launch", bundle).code == 0
    yield station.mvm("launch", bundle)
    yield station.mvm("launch", signed(station, "--single-use"))


def plan_revoked(station: Station) -> Steps:
    bundle = signed(station)
    revoke(station.config, Digest.of(envelope.parse_bundle(bundle.read_bytes()).payload).hex)
    yield station.mvm("launch", bundle)
    yield station.mvm("launch", signed(station))


def bundle_revoked(station: Station) -> Steps:
    bundle = signed(station)
    revoke(station.config, Digest.of(bundle.read_bytes()).hex)
    yield station.mvm("launch", bundle)
    yield station.mvm("launch", signed(station))


def plan_stale(station: Station) -> Steps:
    trust(station, "[launch]", '[freshness]\nplan-window = "2h"\n[launch]')
    yield station.mvm("launch", signed(station))
    yield station.mvm("launch", signed(station, "--valid-for", "1"))


def plan_threshold(station: Station) -> Steps:
    policy(station, lambda text: trusting(text, roles="planner", table="[thresholds]\nplans = 2"))
    bundle, both = signed(station), station.path / "both.sigstore.json"
    yield station.mvm("launch", bundle)
    with station.rooms() as rooms:
        rooms.keys.write_atomic("planner.pem", OTHER._pem(None))  # the other planner's turn
    assert station.mvm("plan", "sign", "-o", both, bundle).code == 0
    yield station.mvm("launch", both)


def plaintext_credential(station: Station) -> Steps:
    flake = flake_of(station)
    yield station.mvm("run", flake, "--", "deploy", "--password", "hunter2")
    station.monkeypatch.setenv("PASSWORD", "hunter2")
    yield station.mvm("run", "--secret", "PASSWORD=env:PASSWORD", flake, "--", "true")


def secret_unavailable(station: Station) -> Steps:
    station.monkeypatch.delenv("TOKEN", raising=False)
    arguments = ("run", "--secret", "TOKEN=env:TOKEN", flake_of(station), "--", "true")
    yield station.mvm(*arguments)
    station.monkeypatch.setenv("TOKEN", "hush")
    yield station.mvm(*arguments)


def network_forbidden(station: Station) -> Steps:
    flake = flake_of(station)
    yield station.mvm("plan", "create", "--allow", "https://*", flake)
    yield station.mvm("plan", "create", "--allow", "https://*,acknowledge=all-hosts", flake)


def backend_unavailable(station: Station) -> Steps:
    flake = flake_of(station)
    yield station.mvm("run", "--backend", "firecracker", flake, "--", "true")
    yield station.mvm("run", "--backend", "qemu", flake, "--", "true")


def archive_malformed(station: Station) -> Steps:
    flake_of(station)
    good, bad = station.path / "image.tar", station.path / "bad.tar"
    assert station.mvm("image", "save", "hello", "-o", good).code == 0
    bad.write_bytes(good.read_bytes()[:-2048])
    yield station.mvm("image", "load", bad)
    yield station.mvm("image", "load", good)


def share_forbidden(station: Station) -> Steps:
    flake, shared = flake_of(station), station.path / "shared"
    shared.mkdir()
    yield station.mvm("plan", "create", "--share", f"{station.home}:/tmp", flake)
    yield station.mvm("plan", "create", "--share", f"{shared}:/tmp", flake)


def image_revoked(station: Station) -> Steps:
    """Another image of the flake is built from another tree, as a new build of the same bytes would be revoked too."""
    flake = flake_of(station)
    manifest = station.mvm("build", "--json", flake).answer("build")["artifacts"]["manifest.json"]
    revoke(station.config, manifest.removeprefix("sha256:"))
    yield run(station, flake)
    yield run(station, station.flake("other"))


def attestation_missing(station: Station) -> Steps:
    it = release(station)
    it.put(b"\n \n")
    yield it.verify(it.artifact)
    it.put(provenance())
    yield it.verify(it.artifact)


def source_mismatch(station: Station) -> Steps:
    """The file is got from where it was meant to come from."""
    it, wanted = release(station), "https://git.example/org/other"
    yield it.verify("--source-uri", wanted, it.artifact)
    it.put(provenance(repository=wanted))
    yield it.verify("--source-uri", wanted, it.artifact)


def builder_mismatch(station: Station) -> Steps:
    it, wanted = release(station), "https://builder.example/other"
    yield it.verify("--builder-id", wanted, it.artifact)
    built = foreign.workflow()
    built["runDetails"]["builder"]["id"] = wanted
    it.put(signed_claim(foreign.statement(foreign.V1, built)))
    yield it.verify("--builder-id", wanted, it.artifact)


def rebuilds_missing(station: Station) -> Steps:
    it = release(station)
    path = release_policy(it, more="[thresholds]\nrebuilds = 2")
    arguments = ("--policy", path, it.artifact)
    yield it.verify(*arguments, key=None)
    again = foreign.workflow()
    again["runDetails"]["metadata"]["invocationId"] = "urn:run:2"
    it.put(provenance(), signed_claim(foreign.statement(foreign.V1, again), SECOND))
    yield it.verify(*arguments, key=None)


def signer_revoked(station: Station) -> Steps:
    bundle = signed(station)
    policy(station, lambda text: trusting(text, roles="planner", table=""))
    with station.rooms() as rooms:
        revoke(station.config, rooms.key(Role.PLANNER).public.fingerprint.hex, table="keys")
    yield station.mvm("launch", bundle)
    with station.rooms() as rooms:
        rooms.keys.write_atomic("planner.pem", OTHER._pem(None))
    yield station.mvm("launch", signed(station))


def hardware_required(station: Station) -> Steps:
    flake = flake_of(station)
    trust(station, 'isolation = "microvm"', 'isolation = "hardware"')
    yield run(station, flake)
    policy(station, lambda it: it.replace('"hardware"', '"microvm"').replace("serial = 2 ", "serial = 3 "))
    yield run(station, flake)


def template_forbidden(station: Station) -> Steps:
    flake = flake_of(station)
    station.hypervisor(restored=Scenario.BOOTS)
    trust(station, 'isolation = "microvm"', 'isolation = "microvm"\nwarm-starts = false')
    yield station.mvm("warm", flake)
    policy(station, lambda it: it.replace("warm-starts = false", "").replace("serial = 2 ", "serial = 3 "))
    yield station.mvm("warm", flake)


def provenance_mismatch(station: Station) -> Steps:
    it = Export(station)
    bundle = signed(station)
    it.sign(put("urn:uuid:00000000-0000-4000-8000-000000000000", *RUN, "metadata", "invocationId"))
    yield station.mvm("launch", "--image", it.path, bundle)
    it.again()
    yield station.mvm("launch", "--image", it.path, bundle)


def verity_mismatch(station: Station) -> Steps:
    it = Export(station)
    bundle = signed(station)
    it.write("rootfs", (it.path / "rootfs").read_bytes() + b"\0")
    yield station.mvm("launch", "--image", it.path, bundle)
    it.again()
    yield station.mvm("launch", "--image", it.path, bundle)


def parts_mismatch(station: Station) -> Steps:
    it = Export(station, parts=True)
    it.write("parts.sigstore.jsonl", b"")
    yield station.mvm("verify", it.path)
    it.again()
    yield station.mvm("verify", it.path)


def share_unavailable(station: Station) -> Steps:
    flake, shared, link = flake_of(station), station.path / "shared", station.path / "link"
    shared.mkdir()
    link.symlink_to(shared)
    yield station.mvm("plan", "create", "--share", f"{link}:/tmp", flake)
    yield station.mvm("plan", "create", "--share", f"{shared}:/tmp", flake)


def creation_mismatch(station: Station) -> Steps:
    web, other = (station.mvm("create", "--name", name, signed(station)).out.strip() for name in ("web", "other"))
    machines = station.state / "machines"
    plan_of_other = json.loads((machines / other / "machine.json").read_bytes())["plan"]
    change_json(machines / web / "machine.json", {"plan": plan_of_other})
    yield station.mvm("start", "--attach", "web")
    assert station.mvm("rm", web).code == 0
    yield station.mvm("start", "--attach", "other")


ROWS: Final[Mapping[Code, Row]] = {
    **HOST_ROWS,
    **{code: evidence(code) for code in EVIDENCE},
    **{code: plan(code) for code in PLANS},
    Code.BUNDLE_NOT_CANONICAL: not_canonical,
    Code.REPLAY: replay,
    Code.PLAN_REVOKED: plan_revoked,
    Code.BUNDLE_REVOKED: bundle_revoked,
    Code.PLAN_STALE: plan_stale,
    Code.PLAN_THRESHOLD: plan_threshold,
    Code.PLAINTEXT_CREDENTIAL: plaintext_credential,
    Code.SECRET_UNAVAILABLE: secret_unavailable,
    Code.NETWORK_FORBIDDEN: network_forbidden,
    Code.BACKEND_UNAVAILABLE: backend_unavailable,
    Code.ARCHIVE_MALFORMED: archive_malformed,
    Code.SHARE_FORBIDDEN: share_forbidden,
    Code.IMAGE_REVOKED: image_revoked,
    Code.ATTESTATION_MISSING: attestation_missing,
    Code.SOURCE_MISMATCH: source_mismatch,
    Code.BUILDER_MISMATCH: builder_mismatch,
    Code.REBUILDS_MISSING: rebuilds_missing,
    Code.SIGNER_REVOKED: signer_revoked,
    Code.HARDWARE_REQUIRED: hardware_required,
    Code.TEMPLATE_FORBIDDEN: template_forbidden,
    Code.PROVENANCE_MISMATCH: provenance_mismatch,
    Code.VERITY_MISMATCH: verity_mismatch,
    Code.PARTS_MISMATCH: parts_mismatch,
    Code.SHARE_UNAVAILABLE: share_unavailable,
    Code.CREATION_MISMATCH: creation_mismatch,
}

#: A hint, as a refusal shows it: in a line of its own, or behind the reason.
NEXT: Final = re.compile("(?:^  next: |Next: )(.*)$", re.MULTILINE)

TESTS: Final = "tests/unit"
GOOD_EVIDENCE: Final = f"{TESTS}/provenance/identity/test_sigstore.py::test_what_is_good_passes"
SUMMARIES: Final = f"{TESTS}/cli/test_summaries.py"
LESS_ADMITTED: Final = "tests/builds/test_inputs.py::test_it_verifies_and_not_where_less_is_admitted"
RELOCKED: Final = "tests/builds/test_lock.py::test_a_lock_is_made_that_nix_takes_and_would_have_made"

#: The test in which the remedy is followed, or in which what it asks for passes where the refused twin doesn't.
ELSEWHERE: Final[Mapping[Code, str]] = {
    Code.FLAKE_UNLOCKED: RELOCKED,
    Code.LOCK_STALE: RELOCKED,
    Code.LOCK_NODE_UNSUPPORTED: "tests/builds/test_lock.py::test_relative_inputs_need_no_network_and_no_configuration",
    Code.LOCK_SUBSTITUTED: (
        f"{TESTS}/provenance/verify/test_substituted_nodes.py::test_a_pair_admits_what_it_names_on_both_sides"
    ),
    Code.SOURCE_UNKNOWN: f"{TESTS}/builder/pins/test_sources.py::test_the_seed_is_taken_from_its_package",
    Code.SOURCE_UNUSABLE: f"{TESTS}/builder/pins/test_sources.py::test_the_seed_is_taken_from_its_package",
    Code.FETCH_NOT_ALLOWED: (
        f"{TESTS}/builder/fetch/test_allowlist.py::test_an_entry_that_a_refusal_names_is_taken_and_admits_the_address"
    ),
    Code.FETCH_LIMIT: f"{TESTS}/builder/fetch/test_caches.py::test_how_large_an_archive_may_be",
    Code.CACHE_SIGNATURE: "tests/integration/test_caches.py::test_either_of_two_keys_will_do",
    Code.CACHE_MALFORMED: "tests/integration/test_caches.py::test_the_next_cache_is_asked_when_one_does_not_count",
    Code.OCI_UNPINNED: "tests/integration/test_oci.py::test_an_image_comes_by_digest",
    Code.OCI_MALFORMED: f"{TESTS}/builder/oci/test_descriptors.py::test_a_manifest",
    Code.OCI_UNSUPPORTED: f"{TESTS}/builder/oci/test_descriptors.py::test_an_index_chooses_by_platform",
    Code.ROOT_MALFORMED: f"{TESTS}/cli/test_verify_keyless.py::test_verified",
    Code.LOG_ENTRIES: GOOD_EVIDENCE,
    Code.LOG_INCLUSION: GOOD_EVIDENCE,
    Code.LOG_ENTRY_MISMATCH: GOOD_EVIDENCE,
    Code.SIGNING_TIME: GOOD_EVIDENCE,
    Code.AUTHORITY_WINDOW: GOOD_EVIDENCE,
    Code.CERTIFICATE_INVALID: GOOD_EVIDENCE,
    Code.IDENTITY_MALFORMED: GOOD_EVIDENCE,
    Code.VERIFIER_NOT_ADMITTED: f"{SUMMARIES}::test_the_gate_refuses",
    Code.RESOURCE_MISMATCH: f"{SUMMARIES}::test_the_gate_refuses",
    Code.VERIFICATION_FAILED: f"{SUMMARIES}::test_the_gate_refuses",
    Code.LEVEL_INSUFFICIENT: f"{SUMMARIES}::test_the_gate_refuses",
    Code.SUMMARY_STALE: f"{SUMMARIES}::test_the_gate_refuses",
    Code.SUMMARY_INCOMPLETE: (
        f"{SUMMARIES}::test_a_summary_without_what_it_stands_on_holds_until_something_is_revoked"
    ),
    Code.INPUT_NOT_ADMITTED: LESS_ADMITTED,
    Code.CACHE_NOT_ADMITTED: LESS_ADMITTED,
    Code.IMPORT_FROM_DERIVATION: LESS_ADMITTED,
    Code.COMMAND_LINE: f"{TESTS}/plan/test_kernel_command_line.py::test_good",
    Code.ACCELERATOR_UNAVAILABLE: f"{TESTS}/launch/runtime/test_accelerator.py::test_choice",
    Code.LIMIT_UNAVAILABLE: "tests/vm/test_systemd.py::test_the_plans_limits_hold",
    Code.COPY_REFUSED: f"{TESTS}/cli/commands/test_cp.py::test_what_is_left_out_is_said",
    Code.NETWORK_UNAVAILABLE: (
        "tests/hostile/network/test_published_ports.py::test_a_published_port_leads_into_the_guest_alone"
    ),
    Code.SNAPSHOT_DAMAGED: f"{TESTS}/launch/snapshots/test_store.py::test_a_file_that_was_changed",
    **dict.fromkeys(
        (
            Code.SNAPSHOT_MISMATCH,
            Code.SNAPSHOT_ROLLBACK,
            Code.SNAPSHOT_POLICY,
            Code.SNAPSHOT_HOST,
            Code.SNAPSHOT_FORBIDDEN,
        ),
        f"{TESTS}/launch/gate/test_snapshot.py::test_a_snapshot_of_this_host_and_policy",
    ),
    Code.SNAPSHOT_SECRETS: (
        f"{TESTS}/launch/runtime/test_snapshotting.py::test_a_guest_that_knows_a_secret_is_saved_where_the_plan_says_so"
    ),
    Code.CALLER_REFUSED: f"{TESTS}/launch/control/test_caller_check.py::test_a_process_like_this_one_may_do_both",
    Code.NAMESPACE_UNUSABLE: f"{TESTS}/system/test_unmapped_owners.py::test_an_ordinary_process_passes",
}
#: Rows that say where to look, and nothing that would make the same succeed.
WITHOUT_REMEDY: Final = frozenset(
    {Code.ARGUMENT_UNSAFE, Code.OUTPUT_MALFORMED, Code.NOT_REPRODUCIBLE, Code.RECEIPT_MISMATCH, Code.UNEXPECTED}
)


def test_every_code_has_its_remedy_tried() -> None:
    """Once: a new code needs a row, a test elsewhere, or a word that there is nothing to do."""
    assert HINTS.keys() == ROWS.keys()
    assert sorted([*ROWS, *ELSEWHERE, *WITHOUT_REMEDY]) == sorted(Code)


@pytest.mark.parametrize("witness", sorted({*ELSEWHERE.values()}))
def test_what_is_tried_elsewhere_is_there(witness: str) -> None:
    path, _, name = witness.partition("::")
    assert f"\ndef {name}(" in (ROOT / path).read_text()


@pytest.mark.parametrize("code", ROWS)
def test_what_a_refusal_says_to_do_helps(settled: Station, code: Code) -> None:
    refused, helped = ROWS[code](settled)
    assert refused.code in {1, 126}, refused.err
    assert f"refused [{code}]" in refused.err, refused.err
    assert any(HINTS[code] in hint for hint in NEXT.findall(refused.err)), refused.err
    assert helped.code == 0, helped.err
