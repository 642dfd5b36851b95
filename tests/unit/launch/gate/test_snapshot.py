"""Each step of a snapshot's verification refuses what only it refuses, and refuses nothing when it is taken out."""

import copy
import gc
import json
import os
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, StepResult
from mvmnix.keys import PrivateKey
from mvmnix.launch.agent.frames import PROTOCOL_VERSION, Hello
from mvmnix.launch.gate import snapshot as gate
from mvmnix.launch.gate.snapshot import (
    HostFacts,
    SnapshotSubmission,
    VerifiedImport,
    VerifiedSnapshot,
    verify_export,
    verify_import,
    verify_snapshot,
)
from mvmnix.launch.gate.verify import Submission, VerifiedPlan
from mvmnix.launch.snapshots.statement import SnapshotClaim, snapshot_statement
from mvmnix.machines.receipt import HostFile
from mvmnix.model import Verb
from mvmnix.plan.backend import Backend
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.plan import Accelerator, Use
from mvmnix.plan.secret_reference import SecretReference, SecretTarget
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.statement import Subject
from mvmnix.provenance.identity.trust import Revocations
from mvmnix.provenance.verify import authentication as authenticator
from tests.support.rows import Row
from tests.unit.launch.gate.rows import descriptors, label
from tests.unit.launch.snapshots.kept import BOOT, claim_of
from tests.unit.provenance import world as worlds
from tests.unit.provenance.world import HOST, PLANNER, STRANGER, World

GRANTED = frozenset({Verb.EXEC, Verb.SNAPSHOT})
FACTS = HostFacts(
    key=HOST.public,
    boot=BOOT,
    tsc_khz=claim_of().tsc_khz,
    programs=claim_of().programs,
    machine_type=claim_of().machine_type,
    processor=claim_of().processor,
)


@dataclass
class Site:
    """A world, a snapshot of a machine that its plan started, and the host; consistent until a test changes a part."""

    world: World
    bundle: bytes = b""
    host: HostFacts = FACTS
    #: The bundle of who exported it, where one did.
    exporters: bytes = b""
    fields: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.grant()

    def grant(self, **fields: Any) -> None:
        """Sign a plan that grants the verb, and a snapshot of its machine."""
        self.world.sign_plan(**({"verbs": GRANTED} | fields))
        self.sign()

    def claim(self) -> SnapshotClaim:
        plan = self.world.plan()
        own: dict[str, Any] = {
            "created": self.world.now - timedelta(minutes=1),
            "plan": Digest.of(self.world.plan_bundle),
            "policy": self.world.policy.digest,
            "manifest": plan.manifest,
            "image": plan.image,
            "files": plan.subjects,
            "vcpus": plan.vcpus,
            "memory_mib": plan.memory_mib,
            "command_line": plan.command_line,
        }
        return claim_of(**(own | self.fields))

    def sign(self, *changes: worlds.Change, key: PrivateKey = HOST, **fields: Any) -> None:
        """Sign a claim with other fields, and with changes to its JSON."""
        self.fields |= fields
        self.bundle = worlds.signed(snapshot_statement(self.claim()), changes, key)

    @contextmanager
    def submission(self, directory: Path) -> Iterator[SnapshotSubmission]:
        files = self.world.open(directory)
        try:
            plan = Submission(self.world.plan_bundle, self.world.evidence, files)
            yield SnapshotSubmission(self.bundle, plan, self.exporters)
        finally:
            for fd in (files.kernel, files.initrd, files.rootfs):
                os.close(fd)

    def verified(self, directory: Path, verify: Callable[..., VerifiedSnapshot] = verify_snapshot) -> VerifiedSnapshot:
        with self.submission(directory) as it:
            return verify(it, policy=self.world.policy, now=self.world.now, host=self.host)

    def imported(self, directory: Path) -> VerifiedImport:
        with self.submission(directory) as it:
            return verify_import(it, policy=self.world.policy, now=self.world.now, host=self.host)

    def refusal(self, directory: Path, verify: Callable[..., VerifiedSnapshot] = verify_snapshot) -> RefusedError:
        gc.disable()  # as in rows.py
        try:
            before = descriptors()
            with pytest.raises(RefusedError) as caught:
                self.verified(directory, verify)
            assert descriptors() == before, "a refusal leaves nothing open"
        finally:
            gc.enable()
        return caught.value


@pytest.fixture
def site(world: World) -> Site:
    return Site(world)


type Change = Callable[[Site], object]


def signed(*changes: worlds.Change, **fields: Any) -> Change:
    return lambda it: it.sign(*changes, **fields)


def planned(**fields: Any) -> Change:
    return lambda it: it.grant(**fields)


def host(**fields: Any) -> Change:
    return lambda it: setattr(it, "host", replace(it.host, **fields))


def since(minutes: int) -> Change:
    """A policy under which snapshots count since so many minutes after the one here."""

    def apply(it: Site) -> None:
        moment = (it.claim().created + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")
        it.world.change_policy("[launch]", f"[freshness]\nsnapshots-not-before = {moment}\n[launch]")
        it.grant()

    return apply


def revoked(*, key: bool) -> Change:
    """A policy, otherwise the same, that revokes the host's key, or this very statement."""

    def apply(it: Site) -> None:
        if key:
            revoke(it, keys=frozenset({HOST.public.fingerprint}))
        else:
            revoke(it, digests=frozenset({Digest.of(envelope.parse_bundle(it.bundle).payload)}))

    return apply


def revoke(it: Site, **revoked: frozenset[Digest]) -> None:
    found = Revocations(**revoked)  # type: ignore[arg-type]
    it.world.policy = replace(it.world.policy, trust=replace(it.world.policy.trust, revocations=found))


def tightened(it: Site) -> None:
    """The policy is another one, and a plan was made under it; the snapshot is of before."""
    old = it.world.policy.digest
    it.world.change_policy("allow-local = true", "allow-local = false")
    it.fields["policy"] = old
    it.grant()


QEMU, ROM = FACTS.programs
ROWS: tuple[Row[Site], ...] = (
    Row(1, ReasonCode.BUNDLE_NOT_CANONICAL, lambda it: setattr(it, "bundle", it.bundle + b"\n"), "a byte more"),
    Row(2, ReasonCode.SIGNER_UNKNOWN, lambda it: it.sign(key=STRANGER), "another host's key"),
    Row(2, ReasonCode.SIGNER_UNKNOWN, lambda it: it.sign(key=PLANNER), "the planner's key"),
    Row(2, ReasonCode.SIGNER_REVOKED, revoked(key=True), "the host's key is revoked"),
    Row(2, ReasonCode.BUNDLE_REVOKED, revoked(key=False), "the statement is revoked"),
    Row(
        3,
        ReasonCode.SIGNATURE_INVALID,
        lambda it: setattr(it, "bundle", worlds.flipped_signature(it.bundle)),
        "another signature",
    ),
    Row(6, ReasonCode.STATEMENT_MALFORMED, signed(worlds.put("x", "more")), "an unknown field of the statement"),
    Row(7, ReasonCode.PREDICATE_TYPE, signed(worlds.put("urn:mvmnix:receipt:1", "predicateType")), "a receipt"),
    Row(8, ReasonCode.STATEMENT_MALFORMED, signed(worlds.put(0, "predicate", "resources", "vcpus")), "no processor"),
    Row(8, ReasonCode.STATEMENT_MALFORMED, signed(worlds.put("kernel", "subject", 0, "name")), "another subject"),
    Row(9, ReasonCode.SNAPSHOT_MISMATCH, signed(plan=Digest.of(b"another")), "of another plan"),
    Row(
        9,
        ReasonCode.SNAPSHOT_MISMATCH,
        lambda it: it.world.sign_plan(verbs=GRANTED, vcpus=1),
        "the same plan, signed anew",
    ),
    Row(10, ReasonCode.SNAPSHOT_ROLLBACK, since(1), "older than the policy takes"),
    Row(
        10,
        ReasonCode.SNAPSHOT_ROLLBACK,
        lambda it: it.sign(created=it.world.now + timedelta(seconds=1)),
        "not yet made",
    ),
    Row(11, ReasonCode.SNAPSHOT_POLICY, tightened, "the policy was tightened"),
    Row(12, ReasonCode.SNAPSHOT_HOST, host(boot=BOOT.replace("0", "1")), "the host has booted"),
    Row(12, ReasonCode.SNAPSHOT_HOST, host(tsc_khz=FACTS.tsc_khz * 301 // 300 + 1), "a faster counter"),
    Row(12, ReasonCode.SNAPSHOT_HOST, host(tsc_khz=FACTS.tsc_khz * 299 // 300 - 1), "a slower counter"),
    Row(12, ReasonCode.SNAPSHOT_HOST, host(programs=(replace(QEMU, digest=ROM.digest), ROM)), "another hypervisor"),
    Row(12, ReasonCode.SNAPSHOT_HOST, host(programs=(QEMU, replace(ROM, digest=QEMU.digest))), "another firmware"),
    Row(12, ReasonCode.SNAPSHOT_HOST, host(programs=(QEMU,)), "a file less"),
    Row(12, ReasonCode.SNAPSHOT_HOST, host(programs=(QEMU, ROM, HostFile("/more", ROM.digest))), "a file more"),
    Row(12, ReasonCode.SNAPSHOT_HOST, host(programs=(replace(QEMU, path="/opt/qemu"), ROM)), "elsewhere"),
    Row(12, ReasonCode.SNAPSHOT_HOST, host(machine_type="q35"), "another machine type"),
    Row(12, ReasonCode.SNAPSHOT_HOST, host(processor="qemu64"), "another processor"),
    Row(
        13,
        ReasonCode.SNAPSHOT_HOST,
        signed(hello=Hello(PROTOCOL_VERSION, "0.2.9", "6.12")),
        "an agent that doesn't freeze",
    ),
    Row(13, ReasonCode.SNAPSHOT_HOST, signed(hello=Hello(PROTOCOL_VERSION + 1, "0.3.0", "6.12")), "another protocol"),
    Row(14, ReasonCode.PLAN_EXPIRED, lambda it: setattr(it.world, "now", it.world.now + timedelta(days=2)), "expired"),
    Row(14, ReasonCode.ARTIFACT_MISMATCH, lambda it: setattr(it.world, "kernel", b"another"), "another kernel"),
    Row(15, ReasonCode.SNAPSHOT_MISMATCH, signed(manifest=Digest.of(b"another")), "another manifest"),
    Row(15, ReasonCode.SNAPSHOT_MISMATCH, signed(image="other"), "another name"),
    Row(15, ReasonCode.SNAPSHOT_MISMATCH, signed(files=(Subject("kernel", Digest.of(b"other")),)), "another kernel"),
    Row(15, ReasonCode.SNAPSHOT_MISMATCH, signed(vcpus=2), "more processors"),
    Row(15, ReasonCode.SNAPSHOT_MISMATCH, signed(memory_mib=256), "more memory"),
    Row(15, ReasonCode.SNAPSHOT_MISMATCH, signed(data_mib=16), "a data disk"),
    Row(15, ReasonCode.SNAPSHOT_MISMATCH, planned(data=DataDisk(64, "/data")), "a plan with a data disk"),
    Row(15, ReasonCode.SNAPSHOT_MISMATCH, signed(command_line="console=hvc0"), "another command line"),
    Row(15, ReasonCode.SNAPSHOT_MISMATCH, signed(network=True), "a network"),
    Row(15, ReasonCode.SNAPSHOT_MISMATCH, signed(secrets=("1",)), "a secret"),
    Row(16, ReasonCode.VERB_NOT_GRANTED, planned(verbs=GRANTED - {Verb.SNAPSHOT}), "the verb isn't granted"),
    Row(16, ReasonCode.SNAPSHOT_FORBIDDEN, planned(accelerator=Accelerator.KVM), "KVM"),
    Row(16, ReasonCode.SNAPSHOT_FORBIDDEN, planned(backend=Backend.CLOUD_HYPERVISOR), "another backend"),
    Row(17, ReasonCode.SNAPSHOT_FORBIDDEN, planned(use=Use.ONCE), "a plan for once, whose machine went on"),
)


def test_a_snapshot_of_this_host_and_policy(site: Site, tmp_path: Path) -> None:
    with site.verified(tmp_path) as found:
        assert isinstance(found.plan, VerifiedPlan)
        assert (found.claim, found.bundle, found.digest) == (site.claim(), site.bundle, Digest.of(site.bundle))
        assert found.plan.digest == found.claim.plan
        assert found.signer.fingerprint == HOST.public.fingerprint
        assert [(it.verifier, it.number) for it in found.steps] == [
            *(("signature", number) for number in range(1, 6)),
            *(("snapshot", number) for number in range(6, 18)),
        ]
        assert {it.number: it.within for it in found.steps}[14] == found.plan.steps


@pytest.mark.parametrize("change", [planned(use=Use.ONCE, verbs=GRANTED), since(0), host(tsc_khz=FACTS.tsc_khz + 100)])
def test_what_passes_by_a_hair(site: Site, tmp_path: Path, change: Change) -> None:
    change(site)
    site.sign(ended_with=True)
    site.verified(tmp_path).close()


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_refused(site: Site, tmp_path: Path, row: Row[Site]) -> None:
    row.change(site)
    refused = site.refusal(tmp_path)
    assert row.code in refused.codes
    assert set(refused.codes) <= {row.code, ReasonCode.VERITY_MISMATCH}
    told = {it.number for it in refused.steps if it.reasons}
    assert told == {row.step}


def step_0_nothing(*_: object) -> Iterator[Any]:
    return iter(())


@dataclass(frozen=True)
class AnyPlan:
    """A plan that no step has looked at."""

    plan: Any
    steps: tuple[StepResult, ...] = ()

    def close(self) -> None:
        """Nothing is open."""


def take_out(step: int, site: Site, patch: pytest.MonkeyPatch) -> None:
    for module, name in ((authenticator, "STEPS"), (gate, "CLAIM_STEPS"), (gate, "PLAN_STEPS")):
        found = getattr(module, name)
        left = tuple(it for it in found if not it.__name__.startswith(f"step_{step}_"))
        if len(left) < len(found) and not (step < 6 and module is not authenticator):
            patch.setattr(module, name, left)
            return
    if step == 7:
        patch.setattr(gate, "step_7_predicate_type", step_0_nothing)
    if step == 14:
        plan = site.world.plan(verbs=GRANTED)

        def step_14_believed(*_: object) -> AnyPlan:
            return AnyPlan(plan)

        patch.setattr(gate, "step_14_plan", step_14_believed)


#: Without the signer there is none to name; what step 6 and 8 make, the next ones need.
NEEDED = {2, 6, 8}


@pytest.mark.parametrize("row", [row for row in ROWS if row.step not in NEEDED], ids=label)
def test_only_that_step_refuses(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row[Site]) -> None:
    row.change(site)
    take_out(row.step, site, monkeypatch)
    site.verified(tmp_path).close()


def test_the_contract_the_steps_and_the_rows_have_the_same_numbers() -> None:
    described = re.findall(r"^(\d+)[.] ", f"{authenticator.__doc__}\n{gate.__doc__}", re.MULTILINE)
    taken: tuple[Callable[..., Any], ...] = (
        *authenticator.STEPS,
        gate.step_6_statement,
        gate.step_7_predicate_type,
        gate.step_8_snapshot,
        *gate.CLAIM_STEPS,
        gate.step_14_plan,
        *gate.PLAN_STEPS,
    )
    assert described == [it.__name__.split("_")[1] for it in taken] == [str(number) for number in range(1, 18)]
    for step in taken:
        assert (step.__doc__ or "").startswith(step.__name__.split("_")[1] + ". ")
    # a host's key has the one role that it is trusted in; the payload type's row is with the provenance's
    assert {row.step for row in ROWS} == set(range(1, 18)) - {4, 5}


def test_the_refusal_says_which(site: Site, tmp_path: Path) -> None:
    site.host = replace(
        FACTS,
        boot=BOOT.replace("0", "1"),
        tsc_khz=3_000_000,
        programs=(replace(QEMU, digest=ROM.digest),),
        processor="a",
    )
    tightened(site)
    refused = site.refusal(tmp_path)
    assert set(refused.codes) == {ReasonCode.SNAPSHOT_HOST, ReasonCode.SNAPSHOT_POLICY}
    assert len(refused.reasons) == 6
    for part in ("has booted", "3000000", f"{QEMU.path} was", f"read {ROM.path}", "processor is 'max'", "under policy"):
        assert part in str(refused)


def test_nothing_of_the_plan_is_read_where_the_snapshot_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(*_: object, **__: object) -> None:
        raise AssertionError("the plan is read")

    monkeypatch.setattr(gate, "verify_plan", unread)
    site.sign(boot=BOOT.replace("0", "1"))
    assert site.refusal(tmp_path).codes == (ReasonCode.SNAPSHOT_HOST,)


def test_every_flipped_byte_of_the_bundle_is_refused(site: Site, tmp_path: Path) -> None:
    whole = site.bundle
    for position in range(0, len(whole), len(whole) // 50):
        site.bundle = whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
        site.refusal(tmp_path)
    for end in (0, 1, len(whole) // 2, len(whole) - 1):
        site.bundle = whole[:end]
        site.refusal(tmp_path)


def test_the_bundle_of_another_snapshot_is_of_its_plan(site: Site, tmp_path: Path) -> None:
    other = site.bundle
    site.grant(vcpus=2)
    site.bundle = other
    assert site.refusal(tmp_path).codes == (ReasonCode.SNAPSHOT_MISMATCH,)


ELSEWHERE = PrivateKey.generate()


def taking(it: Site, *, role: str = "host", imported: bool = True) -> None:
    """A policy that trusts another host's key, and takes what it exported; a snapshot of that host's."""
    signer = f'[[signers]]\nname = "elsewhere"\nroles = ["{role}"]\nkey = """\n{ELSEWHERE.public.pem}"""\n'
    it.world.change_policy("[launch]", f"{signer}[launch]\n{'imported-snapshots = true' * imported}")
    it.grant()
    it.sign(key=ELSEWHERE, policy=Digest.of(b"that host's policy"))


def test_one_of_another_host_is_imported_and_nothing_starts_from_it(site: Site, tmp_path: Path) -> None:
    taking(site)
    before = descriptors()
    found = site.imported(tmp_path)
    assert descriptors() == before, "it holds nothing open"
    assert (found.claim, found.digest, found.signer.name) == (site.claim(), Digest.of(site.bundle), "elsewhere")
    assert found.policy == site.world.policy.digest
    assert [it.number for it in found.steps] == [*range(1, 18)]
    assert site.refusal(tmp_path).codes == (ReasonCode.SIGNER_UNKNOWN,)


IMPORTS: tuple[Row[Site], ...] = (
    Row(2, ReasonCode.SIGNER_UNKNOWN, lambda it: it.sign(key=STRANGER), "a host that nobody trusts"),
    Row(4, ReasonCode.SIGNER_ROLE, lambda it: taking(it, role="builder"), "signed by who may sign builds"),
    Row(11, ReasonCode.SNAPSHOT_POLICY, lambda it: taking(it, imported=False), "the policy takes none"),
    Row(12, ReasonCode.SNAPSHOT_HOST, host(tsc_khz=FACTS.tsc_khz * 2), "another counter"),
    Row(12, ReasonCode.SNAPSHOT_HOST, host(boot=BOOT.replace("0", "1")), "of another boot"),
    Row(14, ReasonCode.ARTIFACT_MISMATCH, lambda it: setattr(it.world, "kernel", b"another"), "another kernel"),
    Row(15, ReasonCode.SNAPSHOT_MISMATCH, lambda it: it.sign(vcpus=2, key=ELSEWHERE), "another shape"),
)


@pytest.mark.parametrize("row", IMPORTS, ids=label)
def test_an_import_that_is_refused(site: Site, tmp_path: Path, row: Row[Site]) -> None:
    taking(site)
    row.change(site)
    before = descriptors()
    with pytest.raises(RefusedError) as caught:
        site.imported(tmp_path)
    assert descriptors() == before
    assert set(caught.value.codes) <= {row.code, ReasonCode.VERITY_MISMATCH}
    assert {it.number for it in caught.value.steps if it.reasons} == {row.step}


def test_of_a_plan_for_once_none_is_exported_or_imported(site: Site, tmp_path: Path) -> None:
    taking(site)
    site.grant(use=Use.ONCE)
    site.sign(ended_with=True, key=ELSEWHERE)
    with pytest.raises(RefusedError) as caught:
        site.imported(tmp_path)
    assert caught.value.codes == (ReasonCode.SNAPSHOT_FORBIDDEN,)
    site.sign(key=HOST, policy=site.world.policy.digest)
    site.verified(tmp_path).close()
    assert site.refusal(tmp_path, verify_export).codes == (ReasonCode.SNAPSHOT_FORBIDDEN,)


def assert_is_gone_on_from_here_alone(site: Site, directory: Path) -> None:
    site.verified(directory).close()
    assert site.refusal(directory, verify_export).codes == (ReasonCode.SNAPSHOT_FORBIDDEN,)
    site.sign(key=ELSEWHERE)
    with pytest.raises(RefusedError) as caught:
        site.imported(directory)
    assert caught.value.codes == (ReasonCode.SNAPSHOT_FORBIDDEN,)


def test_one_with_secrets_is_gone_on_from_here_alone(site: Site, tmp_path: Path) -> None:
    secret = SecretReference.parse("A=env:X", SecretTarget.FILE)
    taking(site)
    site.grant(secrets=(secret,), snapshot_with_secrets=True)
    site.sign(key=HOST, policy=site.world.policy.digest, secrets=("a",))
    assert_is_gone_on_from_here_alone(site, tmp_path)


def imported(it: Site) -> None:
    """A snapshot that this host imported, and signed a statement of its own about."""
    taking(it)
    it.exporters = it.bundle
    it.sign(key=HOST, policy=it.world.policy.digest, imported=Digest.of(it.bundle))


def test_an_imported_one_is_gone_on_from_and_not_handed_on(site: Site, tmp_path: Path) -> None:
    imported(site)
    assert_is_gone_on_from_here_alone(site, tmp_path)


UNTRUSTED: dict[str, tuple[ReasonCode, Change]] = {
    "the exporter's key is revoked": (
        ReasonCode.SIGNER_REVOKED,
        lambda it: revoke(it, keys=frozenset({ELSEWHERE.public.fingerprint})),
    ),
    "what it exported is revoked": (
        ReasonCode.BUNDLE_REVOKED,
        lambda it: revoke(it, digests=frozenset({Digest.of(it.exporters)})),
    ),
    "its statement is revoked": (
        ReasonCode.BUNDLE_REVOKED,
        lambda it: revoke(it, digests=frozenset({Digest.of(envelope.parse_bundle(it.exporters).payload)})),
    ),
    "its bundle is another one": (ReasonCode.SNAPSHOT_MISMATCH, lambda it: setattr(it, "exporters", it.bundle)),
    "its bundle is gone": (ReasonCode.BUNDLE_MALFORMED, lambda it: setattr(it, "exporters", b"")),
    "the policy takes none any more": (
        ReasonCode.SNAPSHOT_POLICY,
        lambda it: setattr(it.world, "policy", replace(it.world.policy, imported_snapshots=False)),
    ),
}


@pytest.mark.parametrize("why", UNTRUSTED)
def test_an_import_counts_as_long_as_its_exporter_does(site: Site, tmp_path: Path, why: str) -> None:
    code, change = UNTRUSTED[why]
    imported(site)
    change(site)
    refused = site.refusal(tmp_path)
    assert refused.codes == (code,)
    assert {it.number for it in refused.steps if it.reasons} == {11}


def test_its_own_export_does_not_outlive_the_policy(site: Site, tmp_path: Path) -> None:
    taking(site)
    site.sign(key=HOST)
    with pytest.raises(RefusedError) as caught:
        site.imported(tmp_path)
    assert caught.value.codes == (ReasonCode.SNAPSHOT_POLICY,)
    site.sign(key=HOST, policy=site.world.policy.digest)
    site.imported(tmp_path)


def test_the_steps_of_an_import_are_the_same_but_two() -> None:
    ours, theirs = (
        (*claims, *plans)
        for claims, plans in ((gate.CLAIM_STEPS, gate.PLAN_STEPS), (gate.IMPORT_CLAIM_STEPS, gate.MOVED_PLAN_STEPS))
    )
    assert [one.__name__ for one, other in zip(ours, theirs, strict=True) if one is not other] == [
        "step_11_policy",
        "step_17_once",
    ]
    for step in theirs:
        assert (step.__doc__ or "").startswith(step.__name__.split("_")[1] + ". ")


def test_it_owns_its_plan(site: Site, tmp_path: Path) -> None:
    before = descriptors()
    found = site.verified(tmp_path)
    assert len(descriptors()) == len(before) + 3
    found.close()
    found.close()
    assert descriptors() == before


def test_it_is_sealed(site: Site, tmp_path: Path) -> None:
    with site.verified(tmp_path) as found:
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="process"):
                copied(found)
        with pytest.raises(TypeError):
            json.dumps(found)
        with pytest.raises(AttributeError):
            found.claim = site.claim()  # type: ignore[misc]
        values = [getattr(found, name) for name in ("claim", "plan", "signer", "digest", "bundle", "steps")]
        with pytest.raises(TypeError, match="only verify_snapshot"):
            VerifiedSnapshot(*values, seal=object())  # type: ignore[arg-type]


def test_what_was_not_expected_is_a_refusal(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(gate, "is_same_frequency", broken)
    assert site.refusal(tmp_path).codes == (ReasonCode.UNEXPECTED,)
