"""A verifier of a small image: its key, a policy that names it, and its summaries, each re-signed after a change."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from mvmnix.digest import Digest
from mvmnix.keys import PrivateKey, Role
from mvmnix.provenance.bundle.statement import Statement, Subject
from mvmnix.provenance.identity.trust import Signer, Trust
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.policy.rules import VerifierRule
from mvmnix.provenance.slsa import parts, predicate
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify import vsa, vsa_inputs
from mvmnix.provenance.verify.vsa import Result, Vsa
from mvmnix.provenance.verify.vsa_inputs import SummaryInput
from tests.unit.provenance.world import NOW, Change, World, signed

VERIFIER = PrivateKey.generate()
ID = "https://verifier.example/gate"
RULE = VerifierRule(VERIFIER.public.fingerprint, ID, timedelta(days=7), 1, ("urn:mvmnix:image:hello:*",))


def with_verifier(policy: TrustPolicy, *rules: VerifierRule) -> TrustPolicy:
    """The policy, trusting that verifier too. Its digest is another's: files can't be written here."""
    signers = (*policy.trust.signers, Signer("gate", VERIFIER.public, frozenset({Role.VERIFIER})))
    trust = Trust(signers, policy.trust.roots, policy.trust.revocations)
    return replace(policy, trust=trust, verifiers=rules or (RULE,))


def summary(world: World, **changes: Any) -> Vsa:
    """What the verifier says of the world's image."""
    inputs = relied_on(world)
    made = Vsa(
        verifier_id=ID,
        version="0.1.0",
        time=NOW - timedelta(hours=1),
        resource=vsa.resource_of(world.image),
        policy=world.policy.digest,
        inputs=vsa.inputs_of(it.bundle for it in inputs),
        result=Result.PASSED,
        level=1,
        subjects=tuple(Subject(it.name, it.digest) for it in world.image.artifacts),
        relied_on=inputs,
    )
    return replace(made, **changes)


def relied_on(world: World) -> tuple[SummaryInput, ...]:
    """What revocations can name of the world's bundles."""
    kept = [(data, _of_parts) for data in world.parts]
    return vsa_inputs.relied_on([(world.provenance_bundle, predicate.read_provenance), *kept], world.policy.trust)


def _of_parts(it: Statement) -> Provenance:
    return parts.from_statement(it).provenance


def sign(world: World, *changes: Change, key: PrivateKey = VERIFIER, **fields: Any) -> bytes:
    """The bundle of the summary, with something changed in its statement."""
    return signed(vsa.to_statement(summary(world, **fields)), changes, key)


OTHER = Digest.of(b"other")
