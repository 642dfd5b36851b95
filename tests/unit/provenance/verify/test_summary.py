"""Each step of a summary's verification refuses what only it refuses, and refuses nothing when it is taken out."""

import copy
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.keys import Algorithm, PrivateKey, Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.identity.trust import Pattern, Revocations, Signer, Trust
from mvmnix.provenance.verify import summary as module
from mvmnix.provenance.verify import vsa, vsa_inputs
from mvmnix.provenance.verify.authentication import authenticate
from mvmnix.provenance.verify.summary import Summary, VerifiedSummary, verify_summary
from mvmnix.provenance.verify.vsa import Result
from tests.support.refusals import refusal_codes
from tests.unit.provenance import world as worlds
from tests.unit.provenance.summaries import ID, OTHER, RULE, VERIFIER, relied_on, sign, summary, with_verifier
from tests.unit.provenance.world import BUILDER, NOW, PLANNER, STRANGER, World, drop, put


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = worlds.new_world(tmp_path)
    made.policy = with_verifier(made.policy)
    return made


def check(it: World, bundle: bytes) -> VerifiedSummary:
    return verify_summary(
        Summary(bundle),
        policy=it.policy,
        artifacts=it.image.artifacts,
        image=it.image,
        provenance=Digest.of(it.provenance_bundle),
        now=it.now,
    )


def test_evidence(world: World) -> None:
    bundle = sign(world)
    found = check(world, bundle)
    assert (found.claim, found.signer.name, found.level) == (summary(world), "gate", 1)
    assert (found.policy, found.summary) == (world.policy.digest, Digest.of(bundle))
    assert found.bundle == Digest.of(world.provenance_bundle)


def revoke(world: World, digest: Digest) -> None:
    trust = Trust(world.policy.trust.signers, world.policy.trust.roots, Revocations(digests=frozenset({digest})))
    world.policy = replace(world.policy, trust=trust)


@dataclass(frozen=True)
class Row:
    """What is wrong, which step says so, and the bundle of it."""

    step: str
    code: Code
    make: Callable[[World], bytes]


def changed(world: World, **changes: Any) -> bytes:
    """The right bundle, for a policy that is another."""
    world.policy = replace(world.policy, **changes)
    return sign(world)


def revoked(world: World, digest: Digest) -> bytes:
    return revoking(world, digests=frozenset({digest}))


def revoking(world: World, relied_on: Any = ..., **what: Any) -> bytes:
    """The bundle of a summary from before these revocations; `relied_on` where it is not to say what it stands on."""
    bundle = sign(world) if relied_on is ... else sign(world, relied_on=relied_on)
    trust = Trust(world.policy.trust.signers, world.policy.trust.roots, Revocations(**what))
    world.policy = replace(world.policy, trust=trust)
    return bundle


def mirrored_of(world: World) -> Digest:
    """The provenance by the digest of its bundle with the other ECDSA signature; by a builder with such a key."""
    key = PrivateKey.generate(Algorithm.ECDSA_P256)
    signers = (*world.policy.trust.signers, Signer("second", key.public, frozenset({Role.BUILDER})))
    world.policy = replace(world.policy, trust=Trust(signers))
    world.sign_provenance(key=key)
    (found,) = relied_on(world)
    assert found.mirrored is not None
    assert found.mirrored != found.bundle
    return found.mirrored


def revoked_identity(world: World) -> bytes:
    (found,) = relied_on(world)
    named = replace(found, identity=("somebody@host", "https://issuer"))
    bundle = sign(world, relied_on=(named,))
    revoking(world, identities=((Pattern(".*@host", regexp=True), Pattern("https://issuer")),))
    return bundle


def revoked_parts(world: World) -> bytes:
    world.keep_parts()
    return revoked(world, Digest.of(envelope.parse_bundle(world.parts[0]).payload))


ROWS = {
    "another id": Row("step_9_verifier", Code.VERIFIER_NOT_ADMITTED, lambda w: sign(w, verifier_id=ID + "/2")),
    "no verifiers": Row("step_9_verifier", Code.VERIFIER_NOT_ADMITTED, lambda w: changed(w, verifiers=())),
    "another's rule": Row(
        "step_9_verifier",
        Code.VERIFIER_NOT_ADMITTED,
        lambda w: changed(w, verifiers=(replace(RULE, signer=BUILDER.public.fingerprint),)),
    ),
    **{
        f"another {name}": Row(
            "step_10_subjects",
            Code.SUBJECT_MISMATCH,
            lambda w, n=number: sign(w, put({"sha256": OTHER.hex}, "subject", n, "digest")),  # type: ignore[misc]
        )
        for number, name in enumerate(("kernel", "initrd", "rootfs", "manifest.json"))
    },
    **{
        f"no {name}": Row(
            "step_10_subjects",
            Code.SUBJECT_MISMATCH,
            lambda w, n=number: sign(w, drop("subject", n)),  # type: ignore[misc]
        )
        for number, name in enumerate(("kernel", "initrd", "rootfs", "manifest.json"))
    },
    "one file more": Row(
        "step_10_subjects",
        Code.SUBJECT_MISMATCH,
        lambda w: sign(w, lambda it: it["subject"].append({"name": "more", "digest": {"sha256": OTHER.hex}})),
    ),
    "another image": Row(
        "step_11_resource",
        Code.RESOURCE_MISMATCH,
        lambda w: sign(w, resource=f"urn:mvmnix:image:hello:sha256:{OTHER.hex}"),
    ),
    "another name": Row(
        "step_11_resource",
        Code.RESOURCE_MISMATCH,
        lambda w: sign(w, resource=summary(w).resource.replace(":hello:", ":hello2:")),
    ),
    "a resource that is not its own": Row(
        "step_11_resource",
        Code.RESOURCE_MISMATCH,
        lambda w: changed(w, verifiers=(replace(RULE, resources=("urn:mvmnix:image:other:*",)),)),
    ),
    "another policy": Row("step_12_policy", Code.POLICY_MISMATCH, lambda w: sign(w, policy=OTHER)),
    "failed": Row("step_13_passed", Code.VERIFICATION_FAILED, lambda w: sign(w, result=Result.FAILED)),
    "a lower level": Row("step_14_level", Code.LEVEL_INSUFFICIENT, lambda w: sign(w, level=0)),
    "a level that is asked for": Row(
        "step_14_level", Code.LEVEL_INSUFFICIENT, lambda w: changed(w, verifiers=(replace(RULE, level=2),))
    ),
    "old": Row("step_15_age", Code.SUMMARY_STALE, lambda w: sign(w, time=NOW - timedelta(days=7, seconds=1))),
    "from the future": Row("step_15_age", Code.SUMMARY_STALE, lambda w: sign(w, time=NOW + timedelta(minutes=6))),
    "another provenance": Row(
        "step_16_provenance", Code.PROVENANCE_MISMATCH, lambda w: sign(w, inputs=vsa.inputs_of([OTHER]), relied_on=None)
    ),
    "a revoked file": Row("step_17_not_revoked", Code.IMAGE_REVOKED, lambda w: revoked(w, w.image.manifest.digest)),
    "revoked evidence": Row(
        "step_17_not_revoked", Code.BUNDLE_REVOKED, lambda w: revoked(w, Digest.of(w.provenance_bundle))
    ),
    "a revoked statement": Row(
        "step_17_not_revoked",
        Code.BUNDLE_REVOKED,
        lambda w: revoked(w, Digest.of(envelope.parse_bundle(w.provenance_bundle).payload)),
    ),
    "evidence that is revoked in its other spelling": Row(
        "step_17_not_revoked", Code.BUNDLE_REVOKED, lambda w: revoked(w, mirrored_of(w))
    ),
    "a revoked key of the builder": Row(
        "step_17_not_revoked", Code.SIGNER_REVOKED, lambda w: revoking(w, keys=frozenset({BUILDER.public.fingerprint}))
    ),
    "a revoked identity": Row("step_17_not_revoked", Code.SIGNER_REVOKED, revoked_identity),
    **{
        f"the builder image's {name}, revoked": Row(
            "step_17_not_revoked",
            Code.IMAGE_REVOKED,
            lambda w, n=name: revoked(w, Digest.of(n.encode())),  # type: ignore[misc]
        )
        for name in worlds.BUILDER_FILES
    },
    "a revoked statement of kept parts": Row("step_17_not_revoked", Code.BUNDLE_REVOKED, revoked_parts),
    "a key of the builder's, and a summary that names no signers": Row(
        "step_17_not_revoked",
        Code.SUMMARY_INCOMPLETE,
        lambda w: revoking(w, relied_on=None, keys=frozenset({BUILDER.public.fingerprint})),
    ),
    "an identity, and a summary that names no signers": Row(
        "step_17_not_revoked",
        Code.SUMMARY_INCOMPLETE,
        lambda w: revoking(w, relied_on=None, identities=((Pattern("a"), Pattern("b")),)),
    ),
    "any digest, and a summary that names no statements": Row(
        "step_17_not_revoked",
        Code.SUMMARY_INCOMPLETE,
        lambda w: revoking(w, relied_on=None, digests=frozenset({OTHER})),
    ),
    "an expired policy": Row("step_18_policy", Code.POLICY_EXPIRED, lambda w: changed(w, expires=NOW)),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_step_refuses_and_nothing_else_would(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS[name]
    bundle = row.make(world)
    assert set(refusal_codes(check, world, bundle)) == {row.code}
    monkeypatch.setattr(module, "STEPS", tuple(step for step in module.STEPS if step.__name__ != row.step))
    assert check(world, bundle).summary == Digest.of(bundle)


def test_every_step_has_a_row() -> None:
    assert {row.step for row in ROWS.values()} == {step.__name__ for step in module.STEPS}


def revoked_itself(world: World) -> bytes:
    bundle = sign(world)
    revoke(world, Digest.of(bundle))
    return bundle


BEFORE: dict[str, tuple[Code, Callable[[World], bytes]]] = {
    "a stranger's": (Code.SIGNER_UNKNOWN, lambda w: sign(w, key=STRANGER)),
    "a builder's": (Code.SIGNER_ROLE, lambda w: sign(w, key=BUILDER)),
    "a planner's": (Code.SIGNER_ROLE, lambda w: sign(w, key=PLANNER)),
    "unsigned": (
        Code.UNSIGNED,
        lambda w: worlds.rewritten(sign(w), lambda it: it["dsseEnvelope"].update(signatures=[])),
    ),
    "flipped": (Code.SIGNATURE_INVALID, lambda w: worlds.flipped_signature(sign(w))),
    "formatted": (Code.BUNDLE_NOT_CANONICAL, lambda w: sign(w) + b"\n"),
    "revoked": (Code.BUNDLE_REVOKED, revoked_itself),
    "a provenance": (Code.SIGNER_ROLE, lambda w: w.provenance_bundle),
    "another type": (Code.PREDICATE_TYPE, lambda w: sign(w, put("https://slsa.dev/provenance/v1", "predicateType"))),
    "an older version": (
        Code.PREDICATE_TYPE,
        lambda w: sign(w, put("https://slsa.dev/verification_summary/v0.2", "predicateType")),
    ),
    "a duplicate key": (
        Code.STATEMENT_MALFORMED,
        lambda w: worlds.resigned(
            sign(w), lambda it: it.replace(b'"timeVerified"', b'"slsaVersion":"1.1","timeVerified"'), VERIFIER
        ),
    ),
}


@pytest.mark.parametrize("name", BEFORE)
def test_what_is_not_even_read(world: World, name: str) -> None:
    code, make = BEFORE[name]
    assert code in refusal_codes(check, world, make(world))


INPUT = ("predicate", vsa_inputs.FIELD, 0)
MALFORMED: dict[str, worlds.Change] = {
    "another statement": put("https://in-toto.io/Statement/v0.1", "_type"),
    "two subjects of one name": lambda it: it["subject"].append(it["subject"][0]),
    "an unknown field": put(1, "predicate", "more"),
    "no level": put([], "predicate", "verifiedLevels"),
    "two levels": put(["SLSA_BUILD_LEVEL_1", "SLSA_BUILD_LEVEL_3"], "predicate", "verifiedLevels"),
    "a level that there is not": put(["SLSA_BUILD_LEVEL_4"], "predicate", "verifiedLevels"),
    "another result": put("passed", "predicate", "verificationResult"),
    "another slsa": put("1.0", "predicate", "slsaVersion"),
    "no time": put("yesterday", "predicate", "timeVerified"),
    "no evidence": put([], "predicate", "inputAttestations"),
    "inputs under other names": put("evidence-1", *INPUT, "name"),
    "not all inputs": put([], "predicate", vsa_inputs.FIELD),
    "an input's unknown field": put(1, *INPUT, "more"),
    **{f"an input without its {it}": drop(*INPUT, it) for it in ("name", "statement", "key", "builderImage")},
    **{
        f"without {it}": drop("predicate", it)
        for it in (
            *("verifier", "timeVerified", "resourceUri", "policy", "inputAttestations", "verificationResult"),
            *("verifiedLevels", "slsaVersion"),
        )
    },
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_says_something_else_than_a_summary(world: World, name: str) -> None:
    assert Code.STATEMENT_MALFORMED in refusal_codes(check, world, sign(world, MALFORMED[name]))


def test_all_reasons_at_once(world: World) -> None:
    bundle = sign(world, policy=OTHER, level=0, result=Result.FAILED, time=NOW - timedelta(days=30))
    found = refusal_codes(check, world, bundle)
    assert found == (Code.POLICY_MISMATCH, Code.VERIFICATION_FAILED, Code.LEVEL_INSUFFICIENT, Code.SUMMARY_STALE)


def test_entries_of_one_verifier_are_not_mixed(world: World) -> None:
    """A long-lived word at a high level, a short-lived one at a low one: nothing is both long-lived and low."""
    long, low = replace(RULE, level=3, max_age=timedelta(days=30)), replace(RULE, level=0, max_age=timedelta(hours=2))
    for rules in ((long, low), (low, long)):
        world.policy = replace(world.policy, verifiers=rules)
        assert check(world, sign(world, level=0)).level == 0
        assert check(world, sign(world, level=3, time=NOW - timedelta(days=20))).level == 3
        with pytest.raises(RefusedError):
            check(world, sign(world, level=0, time=NOW - timedelta(days=20)))


def test_exact_bounds(world: World) -> None:
    for time in (NOW - timedelta(days=7), NOW + timedelta(minutes=5)):
        assert check(world, sign(world, time=time)).claim.time == time
    assert check(world, sign(world, level=3)).level == 3


def test_it_is_sealed(world: World) -> None:
    found = check(world, sign(world))
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="process"):
            copied(found)
    values = (found.claim, found.signer, found.policy, found.bundle, found.summary, found.steps)
    with pytest.raises(TypeError, match="only verify_summary"):
        VerifiedSummary(*values, seal=object())  # type: ignore[arg-type]


def test_it_is_written_and_read_alike(world: World) -> None:
    made = summary(world, level=2)
    assert vsa.from_statement(vsa.to_statement(made)) == made
    assert vsa.verifier_of(VERIFIER.public) == f"urn:mvmnix:verifier:sha256:{VERIFIER.public.fingerprint.hex}"
    assert [it.name for it in vsa.inputs_of(map(Digest.of, (b"a", b"b", b"a", b"c")))] == [
        "provenance",
        "evidence-1",
        "evidence-2",
    ]


def test_how_much_a_summary_stands_on(world: World) -> None:
    subjects = vsa.inputs_of(Digest.of(b"%d" % number) for number in range(1025))
    most = summary(world, inputs=subjects[:1024], relied_on=None)
    assert vsa.from_statement(vsa.to_statement(most)) == most
    with pytest.raises(RefusedError, match="inputAttestations: not an array of at most 1024 values"):
        vsa.from_statement(vsa.to_statement(replace(most, inputs=subjects)))
    (one,) = relied_on(world)
    files = vsa.inputs_of(Digest.of(b"%d" % number) for number in range(17))
    most = summary(world, relied_on=(replace(one, builder_image=files[:16]),))
    assert vsa.from_statement(vsa.to_statement(most)) == most
    with pytest.raises(RefusedError, match="builderImage: not an array of at most 16 values"):
        vsa.from_statement(vsa.to_statement(replace(most, relied_on=(replace(one, builder_image=files),))))


def test_an_older_summary_holds_where_nothing_is_revoked(world: World) -> None:
    assert check(world, sign(world, relied_on=None)).claim.relied_on is None


def test_what_a_summary_stands_on(world: World) -> None:
    """The provenance and the kept parts, each by digest, statement, key and builder image; no stranger's bundle."""
    world.keep_parts()
    (part,) = world.parts
    made = relied_on(world)
    assert [(it.name, it.bundle, it.statement) for it in made] == [
        (name, Digest.of(data), Digest.of(envelope.parse_bundle(data).payload))
        for name, data in (("provenance", world.provenance_bundle), ("evidence-1", part))
    ]
    assert {it.key for it in made} == {BUILDER.public.fingerprint}
    assert {tuple(subject.name for subject in it.builder_image) for it in made} == {worlds.BUILDER_FILES}
    world.parts = (part, part, worlds.resigned(part, lambda it: it, STRANGER), b"no bundle")
    assert relied_on(world) == made


def flipped(data: bytes) -> Iterator[bytes]:
    for index in range(0, len(data), 7):
        yield data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


def test_any_flipped_bit_is_refused(world: World) -> None:
    for bundle in flipped(sign(world)):
        with pytest.raises(RefusedError):
            check(world, bundle)


def test_the_steps_are_those_of_the_docstring() -> None:
    said = {int(number) for number in re.findall(r"(?m)^(\d+)\. ", module.__doc__ or "")}
    assert said == set(range(6, 19))
    taken = [int(step.__name__.split("_")[1]) for step in module.STEPS]
    assert taken == list(range(9, 19))


def test_a_verifier_signs_nothing_else(world: World) -> None:
    """A VSA key in the policy is no builder's."""
    world.sign_provenance(key=VERIFIER)
    bundle, trust = world.provenance_bundle, world.policy.trust
    assert Code.SIGNER_ROLE in refusal_codes(authenticate, bundle, trust=trust, role=Role.BUILDER, what="it")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verifier_id": "two words"}, "not a URI"),
        ({"resource": ""}, "not a URI"),
        ({"level": -1}, "no SLSA Build level -1"),
        ({"level": 4}, "no SLSA Build level 4"),
        ({"inputs": ()}, "at least one evidence digest"),
    ],
)
def test_what_no_verifier_says(world: World, changes: dict[str, Any], words: str) -> None:
    made = summary(world)
    assert [replace(made, level=level).level for level in (0, 3)] == [0, 3]
    with pytest.raises(ValueError, match=words):
        replace(made, **changes)


def test_of_a_verifier_s_entries_the_one_that_holds_least_against_it(world: World) -> None:
    """In whatever order they stand."""
    strict = (replace(RULE, resources=("urn:other:*",)), replace(RULE, level=3), replace(RULE, max_age=timedelta(0)))
    policy = world.policy
    for other in strict:
        for rules in ((other, RULE), (RULE, other)):
            world.policy = with_verifier(replace(policy, verifiers=()), *rules)
            assert check(world, sign(world)).level == 1


@pytest.mark.parametrize(("subject", "revoked"), [("ci@mvmnix.test", True), ("else@mvmnix.test", False)])
def test_an_input_by_an_identity(subject: str, revoked: bool) -> None:
    it = vsa_inputs.SummaryInput("provenance", OTHER, None, OTHER, OTHER, ("ci@mvmnix.test", "https://issuer.test"), ())
    named = (Pattern(subject), Pattern("https://issuer.test"))
    codes = [reason.code for reason in vsa_inputs.revoked(it, Revocations(identities=(named,)))]
    assert codes == [Code.SIGNER_REVOKED] * revoked
