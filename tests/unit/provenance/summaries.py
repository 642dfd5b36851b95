"""A verifier of a small image: its key, a policy that names it, and its summaries, each re-signed after a change."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from mvmnix.keys import PrivateKey, Role
from mvmnix.model import Digest
from mvmnix.provenance import vsa
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.provenance.policy_rules import VerifierRule
from mvmnix.provenance.statement import Subject
from mvmnix.provenance.trust import Signer, Trust
from mvmnix.provenance.vsa import Result, Vsa
from tests.unit.provenance.world import NOW, Change, World, signed

VERIFIER = PrivateKey.generate()
ID = "https://verifier.example/gate"
RULE = VerifierRule(VERIFIER.public.fingerprint, ID, timedelta(days=7), 1, ("urn:mvmnix:image:hello:*",))


def with_verifier(policy: TrustPolicy, *rules: VerifierRule) -> TrustPolicy:
    """The policy, believing that verifier too. Its digest is another's: files can't be written here."""
    signers = (*policy.trust.signers, Signer("gate", VERIFIER.public, frozenset({Role.VERIFIER})))
    trust = Trust(signers, policy.trust.roots, policy.trust.revocations)
    return replace(policy, trust=trust, verifiers=rules or (RULE,))


def summary(world: World, **changes: Any) -> Vsa:
    """What the verifier says of the world's image."""
    made = Vsa(
        verifier_id=ID,
        version="0.1.0",
        time=NOW - timedelta(hours=1),
        resource=vsa.resource_of(world.image),
        policy=world.policy.digest,
        inputs=vsa.inputs_of(map(Digest.of, (world.provenance_bundle, *world.parts))),
        result=Result.PASSED,
        level=1,
        subjects=tuple(Subject(it.name, it.digest) for it in world.image.artifacts),
    )
    return replace(made, **changes)


def sign(world: World, *changes: Change, key: PrivateKey = VERIFIER, **fields: Any) -> bytes:
    """The bundle of the summary, with something changed in its statement."""
    return signed(vsa.to_statement(summary(world, **fields)), changes, key)


OTHER = Digest.of(b"other")
