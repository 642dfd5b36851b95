"""Verifies a verification summary (VSA) of an image, in numbered steps; the only minter of VerifiedSummary.

Steps 1 to 5, who signed it, are those of provenance/verify/authentication.py, for the role `verifier`. Only then is it
read:

6. it is an in-toto statement, version 1, without duplicate or unknown fields;
7. its predicate is a verification summary, version 1;
8. the predicate has every field in its bounds, and no other field.

Then it is held against what is known apart from it; all of these steps are taken, whatever the others say:

9. the policy names this signer with this verifier.id among its [[verifiers]];
10. its subjects are the image's four files, by the digests of their bytes, and no other file;
11. its resourceUri is this image's, and one that the policy trusts this verifier about;
12. it was verified under the policy in force, by the digest of the policy's bytes;
13. the verification passed;
14. the level is at least the one that the policy asks of this verifier;
15. it was verified before now, and no longer ago than the policy accepts from this verifier;
16. the verifier has looked at the provenance that is named here, by the digest of its bundle's bytes;
17. neither a file of the image is revoked nor a bundle that was looked at, by its digest or its statement's, by its
    signer, or by a file of the image that built it; a summary that doesn't say these holds where nothing is revoked;
18. the policy has not expired.

What the full evidence would be held against (sources, lock, caches, other builders) is the verifier's to have done: by
step 12 under the same rules.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, StepResult, refuse
from mvmnix.formats.strict import show_time
from mvmnix.keys import Role
from mvmnix.model import Artifact, Image
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.bundle.statement import Statement
from mvmnix.provenance.identity.trust import Signer
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.policy.rules import VerifierRule
from mvmnix.provenance.verify import checks, vsa, vsa_inputs
from mvmnix.provenance.verify.authentication import Authentic, authenticate, only_refusals
from mvmnix.provenance.verify.checks import SKEW, subject_differences
from mvmnix.provenance.verify.step_results import NOT_TAKEN, Findings, Steps
from mvmnix.provenance.verify.vsa import Result, Vsa
from mvmnix.sealed import Seal, Sealed

_WHAT: Final = "the verification summary"
_AGAIN: Final = "have the image verified again: `mvm verify --vsa OUT DIRECTORY`"


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary's bundle, handed in where the full evidence isn't; it is not verified."""

    data: bytes


_SEAL: Final = Seal()


@final
@_SEAL.of("verify_summary()")
@dataclass(frozen=True, slots=True)
class VerifiedSummary(Sealed):
    """A summary that passed every step: by whom and under which policy.

    `bundle` is the digest of the provenance bundle that it stands in for, `summary` that of its own; `steps` are those
    that were taken.

    It is no Verified[Provenance]: mvm has not seen how the image came to be. Sealed: `verify_summary` makes it.
    """

    claim: Vsa
    signer: Signer
    policy: Digest
    bundle: Digest
    summary: Digest
    steps: tuple[StepResult, ...]

    @property
    def level(self) -> int:
        """The SLSA Build level that the verifier grants."""
        return self.claim.level


@dataclass(frozen=True, slots=True)
class Evidence:
    """An authentic summary, and what it is held against; `provenance` is the digest of the provenance bundle."""

    claim: Vsa
    signer: Signer
    policy: TrustPolicy
    artifacts: tuple[Artifact, ...]
    image: Image
    provenance: Digest
    now: datetime

    @property
    def rule(self) -> VerifierRule | None:
        """What the policy says of this verifier: the entry that holds against least, for each holds as a whole."""
        who = (self.signer.fingerprint, self.claim.verifier_id)
        rules = [rule for rule in self.policy.verifiers if (rule.signer, rule.verifier_id) == who]
        return min(rules, key=lambda rule: len(tuple(_out_of_bounds(self, rule))), default=None)


def _out_of_bounds(it: Evidence, rule: VerifierRule) -> Iterator[Reason]:
    """Why this entry of the policy does not cover the summary."""
    yield from _strange(it, rule)
    yield from _low(it, rule)
    yield from _old(it, rule)


def _strange(it: Evidence, rule: VerifierRule) -> Iterator[Reason]:
    if not rule.admits_resource(it.claim.resource):
        why = f"{it.signer.name!r} is not trusted about {it.claim.resource}"
        hint = "hand in the full evidence, or add a pattern to the resources of that [[verifiers]] entry"
        yield Reason(ReasonCode.RESOURCE_MISMATCH, _WHAT, why, hint)


def _low(it: Evidence, rule: VerifierRule) -> Iterator[Reason]:
    if it.claim.level < rule.level:
        why = f"it says SLSA Build level {it.claim.level}, and the policy asks this verifier for {rule.level}"
        yield Reason(ReasonCode.LEVEL_INSUFFICIENT, _WHAT, why, "have it built where more can be said of it")


def _old(it: Evidence, rule: VerifierRule) -> Iterator[Reason]:
    if it.now - it.claim.time > rule.max_age:
        made, here = show_time(it.claim.time), show_time(it.now)
        why = f"it was verified at {made}, and now it is {here}; the policy accepts at most {rule.max_age}"
        yield Reason(ReasonCode.SUMMARY_STALE, _WHAT, why, _AGAIN)


type Step = Callable[[Evidence], Findings]


def step_6_statement(authentic: Authentic) -> Statement:
    """6. An in-toto statement."""
    return statement.parse(authentic.payload)


def step_7_predicate_type(it: Statement) -> None:
    """7. A summary, and not for instance a plan, by a signer who may sign both."""
    if it.predicate_type != vsa.PREDICATE_TYPE:
        why = f"its predicate is {it.predicate_type!r}, not {vsa.PREDICATE_TYPE!r}"
        raise refuse(ReasonCode.PREDICATE_TYPE, _WHAT, why, "hand in the summary's bundle")


def step_8_predicate(it: Statement) -> Vsa:
    """8. Every field in its bounds, and no other."""
    return vsa.from_statement(it)


def step_9_verifier(it: Evidence) -> Iterator[Reason]:
    """9. A key alone makes no signer a verifier."""
    if it.rule is None:
        why = f"verifier {it.claim.verifier_id!r}, named by {it.signer.name!r}, is not admitted"
        hint = "hand in the full evidence, or add a [[verifiers]] entry to trust.toml if you mean to trust it"
        yield Reason(ReasonCode.VERIFIER_NOT_ADMITTED, _WHAT, why, hint)


def step_10_subjects(it: Evidence) -> Iterator[Reason]:
    """10. All four files, and nothing else."""
    yield from subject_differences(it.claim.subjects, it.artifacts, what=_WHAT, hint=_AGAIN)


def step_11_resource(it: Evidence) -> Iterator[Reason]:
    """11. This image, and one about which this verifier is trusted."""
    expected = vsa.resource_of(it.image)
    if it.claim.resource != expected:
        why = f"it is about {it.claim.resource}, and the image is {expected}"
        yield Reason(ReasonCode.RESOURCE_MISMATCH, _WHAT, why, _AGAIN)
    elif it.rule is not None:
        yield from _strange(it, it.rule)


def step_12_policy(it: Evidence) -> Iterator[Reason]:
    """12. The very bytes of the policy in force."""
    if it.claim.policy != it.policy.digest:
        why = f"it was verified under policy {it.claim.policy}; the current policy is {it.policy.digest}"
        yield Reason(ReasonCode.POLICY_MISMATCH, _WHAT, why, f"give the verifier this policy, and {_AGAIN}")


def step_13_passed(it: Evidence) -> Iterator[Reason]:
    """13. A verifier that looked and said no."""
    if it.claim.result is not Result.PASSED:
        yield Reason(ReasonCode.VERIFICATION_FAILED, _WHAT, f"its result is {it.claim.result}", "build it again")


def step_14_level(it: Evidence) -> Findings:
    """14. The level that is asked of this verifier."""
    if it.rule is None:
        yield NOT_TAKEN
    else:
        yield from _low(it, it.rule)


def step_15_age(it: Evidence) -> Findings:
    """15. Neither from the future nor older than this verifier's word holds."""
    if it.claim.time > it.now + SKEW:
        why = f"it was verified at {show_time(it.claim.time)}, and now it is {show_time(it.now)}"
        yield Reason(ReasonCode.SUMMARY_STALE, _WHAT, why, f"look at both clocks, and {_AGAIN}")
    if it.rule is None:
        yield NOT_TAKEN
    else:
        yield from _old(it, it.rule)


def step_16_provenance(it: Evidence) -> Iterator[Reason]:
    """16. That provenance, and not another one of the same files."""
    if it.provenance not in {subject.digest for subject in it.claim.inputs}:
        why = f"the verifier has not looked at the provenance bundle {it.provenance}"
        yield Reason(ReasonCode.PROVENANCE_MISMATCH, _WHAT, why, f"name the provenance that it has seen, or {_AGAIN}")


def step_17_not_revoked(it: Evidence) -> Iterator[Reason]:
    """17. The files, and the evidence behind the summary; the summary itself is step 2's."""
    revocations = it.policy.trust.revocations
    yield from checks.revoked(it.artifacts, it.policy, it.image.name)
    if it.claim.relied_on is None and (revocations.keys or revocations.identities or revocations.digests):
        why = (
            "it doesn't name the statements, signers and builder images that it stands on, and the policy revokes some"
        )
        yield Reason(ReasonCode.SUMMARY_INCOMPLETE, _WHAT, why, f"with this version of mvm, {_AGAIN}")
    for each in it.claim.relied_on or ():
        yield from vsa_inputs.revoked(each, revocations)


def step_18_policy(it: Evidence) -> Iterator[Reason]:
    """18. An expired policy decides nothing."""
    yield from it.policy.expired(it.now)


STEPS: tuple[Step, ...] = (
    step_9_verifier,
    step_10_subjects,
    step_11_resource,
    step_12_policy,
    step_13_passed,
    step_14_level,
    step_15_age,
    step_16_provenance,
    step_17_not_revoked,
    step_18_policy,
)


def verify_summary(
    handed_in: Summary,
    *,
    policy: TrustPolicy,
    artifacts: tuple[Artifact, ...],
    image: Image,
    provenance: Digest,
    now: datetime,
) -> VerifiedSummary:
    """Take a summary through all steps.

    `artifacts` are the four files by their bytes, `image` what manifest.json's bytes say, `provenance` the digest of
    the provenance bundle that it stands in for, `now` a time with its zone. Raises RefusedError with every reason.
    """
    with only_refusals(_WHAT):
        authentic = authenticate(handed_in.data, trust=policy.trust, role=Role.VERIFIER, what=_WHAT)
        taken = Steps("summary", authentic.steps)
        claimed = taken.need(step_6_statement, authentic)
        taken.need(step_7_predicate_type, claimed)
        claim = taken.need(step_8_predicate, claimed)
        evidence = Evidence(claim, authentic.signer, policy, artifacts, image, provenance, now)
        taken.take_each(STEPS, evidence)
        taken.require()
        by = (authentic.signer, policy.digest, provenance, authentic.digest, taken.results)
        return VerifiedSummary(claim, *by, seal=_SEAL)
