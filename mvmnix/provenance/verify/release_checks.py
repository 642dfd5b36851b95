"""Holds a build that mvm did not make against the trust policy: builder, source, age, as far as mvm reads them; pure.

It is the same policy as for images, and what it bounds and a statement does not tell is refused. An image of mvm's own
has more to be held against, which `mvm verify DIRECTORY` does (provenance/verify/verify.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.provenance.bundle.statement import Statement
from mvmnix.provenance.identity.trust import Signer
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa import foreign_builds, predicate
from mvmnix.provenance.slsa.build_types import BUILD_TYPE, PREDICATE_TYPE
from mvmnix.provenance.slsa.in_toto import ForeignStatement
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify import checks
from mvmnix.provenance.verify.authentication import Attested
from mvmnix.provenance.verify.requirements import StatementPosition, certified_reasons


@dataclass(frozen=True, slots=True)
class ReleasePolicy:
    """A trust policy at a time."""

    policy: TrustPolicy
    now: datetime

    def further(self, claim: ForeignStatement, attested: Attested, place: StatementPosition) -> Iterator[Reason]:
        """Why the policy does not admit what this statement says."""
        yield from self.policy.expired(self.now)
        if not foreign_builds.is_provenance(claim):
            why = f"the policy says who may build, and {place.name} is {claim.predicate_type!r}"
            hint = "verify it with --key or --certificate-identity, or hand in SLSA provenance"
            yield place.reason(ReasonCode.PREDICATE_TYPE, why, hint)
            return
        try:
            if is_own(claim):
                yield from self._own(_provenance(claim), attested.signer, place)
            else:
                yield from self._foreign(claim, attested.signer, place)
                yield from certified_reasons(claim, place)
        except RefusedError as error:
            yield from place.refused(error)

    def level(self, claim: ForeignStatement, signer: Signer) -> int | None:
        """The SLSA Build level that is granted to such a build; None when it is not trusted. Raises RefusedError.

        A rule for certain images or builder images is not about other files.
        """
        if is_own(claim):
            return self.policy.level(_provenance(claim), signer=signer, image="")
        said, who = foreign_builds.builder_id(claim), signer.fingerprint
        rules = (it for it in self.policy.builders if (it.builder_id, it.signer) == (said, who))
        return max((it.level for it in rules if not it.images and not it.builder_images), default=None)

    def _own(self, it: Provenance, signer: Signer, place: StatementPosition) -> Iterator[Reason]:
        if self.policy.level(it, signer=signer, image="") is None:
            yield _strange_builder(it.builder_id, signer, place)
        for rule in self.policy.sources:
            why = rule.problem(it.root)
            if why is not None:
                yield _strange_source(why, place)
        for reason in (
            *checks.stale(it, self.policy, self.now, place.name),
            *checks.revoked_builder(it, self.policy, place.name),
        ):
            yield place.reason(reason.code, f"{place.name}: {reason.why}", reason.hint)

    def _foreign(self, claim: ForeignStatement, signer: Signer, place: StatementPosition) -> Iterator[Reason]:
        if self.level(claim, signer) is None:
            yield _strange_builder(foreign_builds.builder_id(claim), signer, place)
        if self.policy.freshness.provenance is not None:
            why = f"the policy bounds the age of a build, and mvm doesn't read when {place.name} says it was"
            yield place.reason(
                ReasonCode.PROVENANCE_STALE, why, "verify it under a policy without freshness.provenance"
            )
        said = foreign_builds.origin(claim)
        uri = f"git+{said.repository}" if said.ref is None else f"git+{said.repository}@{said.ref}"
        for rule in self.policy.sources:
            if not any(fnmatchcase(uri, pattern) for pattern in rule.patterns):
                yield _strange_source(f"{uri} matches none of {', '.join(rule.patterns)}", place)


def is_own(claim: ForeignStatement) -> bool:
    """Whether mvm's own build type is claimed."""
    definition = claim.predicate.get("buildDefinition")
    return (
        claim.predicate_type == PREDICATE_TYPE
        and isinstance(definition, dict)
        and definition.get("buildType") == BUILD_TYPE
    )


def _provenance(claim: ForeignStatement) -> Provenance:
    return predicate.read_provenance(Statement((), claim.predicate_type, claim.predicate))


def _strange_builder(builder_id: str, signer: Signer, place: StatementPosition) -> Reason:
    why = f"{place.name}: builder {builder_id!r}, named by {signer.name!r}, is not admitted for every file"
    hint = "have it built by an admitted builder, or add a [[builders]] entry without images if you mean to"
    return place.reason(ReasonCode.BUILDER_NOT_ADMITTED, why, hint)


def _strange_source(why: str, place: StatementPosition) -> Reason:
    hint = "take what was built from an admitted source, or add a pattern to [sources] if you mean to"
    return place.reason(ReasonCode.SOURCE_NOT_ADMITTED, f"{place.name}: {why}", hint)
