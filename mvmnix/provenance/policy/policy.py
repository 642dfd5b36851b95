"""The trust policy in force: who may say what, and how much of it is trusted.

Pure. What files say is read by provenance/policy/trust_text.py and revocations.py, put together by merge.py;
where they may come from is policy_files.py. The format is docs/reference/trust-policy.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, refuse
from mvmnix.formats.strict import canonical, show_time
from mvmnix.provenance.identity.trust import Signer, Trust
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.policy.rules import BuilderRule, Freshness, SourceRule, Thresholds, VerifierRule
from mvmnix.provenance.slsa.provenance import Provenance

if TYPE_CHECKING:
    from mvmnix.audit.record import Serials
    from mvmnix.config import CacheKey

#: The files that have a serial number, in the order of `TrustPolicy.serials`.
SERIAL_FILES: Final = (
    "the machine's trust.toml",
    "the user's trust.toml",
    "the machine's revocations.toml",
    "the user's revocations.toml",
)
#: How long before a policy expires its user is told.
SOON: Final = timedelta(days=30)
_DOMAIN: Final = b"mvmnix trust policy 1\0"


@dataclass(frozen=True, slots=True)
class RootPin:
    """A trust root, a trusted_root.json: its name in the file that pins it, and the SHA-256 of its bytes."""

    name: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """What one trust.toml says; `serial` grows with each change, after `expires` nothing of it holds.

    `plans` and `rebuilds` are thresholds, None where the file says nothing of them, as are `isolation`,
    `network_proxy`, whether a plan may name one, `unasked_verbs`, whether `mvm run` may grant verbs unasked,
    `warm_starts`, whether machines may start from templates, `imported_snapshots`, whether snapshots that other hosts
    exported count here, and `require_inclusion`: whether `mvm verify`, too, needs a log's proof, and takes neither its
    promise nor a timestamp.
    """

    serial: int
    expires: datetime
    signers: tuple[Signer, ...]
    builders: tuple[BuilderRule, ...]
    sources: SourceRule
    isolation: Isolation | None = None
    caches: "tuple[CacheKey, ...]" = ()
    import_from_derivation: bool = False
    roots: tuple[RootPin, ...] = ()
    plans: int | None = None
    rebuilds: int | None = None
    freshness: Freshness = field(default_factory=Freshness)
    verifiers: tuple[VerifierRule, ...] = ()
    require_inclusion: bool | None = None
    network_proxy: bool | None = None
    unasked_verbs: bool | None = None
    warm_starts: bool | None = None
    imported_snapshots: bool | None = None

    @property
    def required_isolation(self) -> Isolation:
        """What it requires between workload and host; a microVM where it says nothing."""
        return self.isolation or Isolation.MICROVM


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """The policy in force. Every source rule has to admit a flake; `digest` is over the exact bytes of all trust.toml.

    `serials` are those of SERIAL_FILES, 0 where there is no such file; `caches` are the keys whose word about a store
    path is trusted; `import_from_derivation` says whether evaluation may build, and read what it built;
    `network_proxy` whether a plan may have a guest's connections go out by a proxy, which judges their addresses;
    `unasked_verbs` whether a plan that `mvm run` makes may grant verbs unasked (docs/adr/0047), `warm_starts` whether
    machines may start from templates, and
    `imported_snapshots` whether snapshots count that a signer with the role `host` exported elsewhere.
    """

    trust: Trust
    builders: tuple[BuilderRule, ...]
    sources: tuple[SourceRule, ...]
    isolation: Isolation
    digest: Digest
    expires: datetime
    serials: "Serials"
    caches: "tuple[CacheKey, ...]" = ()
    import_from_derivation: bool = False
    thresholds: Thresholds = field(default_factory=Thresholds)
    freshness: Freshness = field(default_factory=Freshness)
    verifiers: tuple[VerifierRule, ...] = ()
    network_proxy: bool = True
    unasked_verbs: bool = True
    warm_starts: bool = True
    imported_snapshots: bool = False

    def __post_init__(self) -> None:
        if not self.trust.signers or not self.builders or not all(rule.patterns for rule in self.sources):
            why = "it names no signer, no builder or no source, so nothing could be trusted"
            hint = "name them (docs/reference/trust-policy.md), or remove the file and let `mvm run` make one"
            raise refuse(ReasonCode.POLICY_EMPTY, "the trust policy", why, hint)

    @property
    def state(self) -> Digest:
        """Over the policy's bytes, its serials and all that is revoked: another one whenever any of that changes."""
        revoked = self.trust.revocations
        identities = sorted([[each.text, each.regexp] for each in pair] for pair in revoked.identities)
        digests = [sorted(each.hex for each in digests) for digests in (revoked.keys, revoked.digests)]
        return Digest.of(canonical([self.digest.hex, list(self.serials), identities, *digests]))

    @property
    def signers(self) -> tuple[Signer, ...]:
        """Everybody who may sign something."""
        return self.trust.signers

    def admits_input(self, uri: str) -> bool:
        """Whether a lock node that is locked to this may be handed in: every source rule has to say so."""
        return all(rule.admits_input(uri) for rule in self.sources)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of original and locked that every source rule has."""
        first, *others = self.sources
        return tuple(pair for pair in first.pairs if all(pair in rule.pairs for rule in others))

    def level(self, it: Provenance, *, signer: Signer, image: str) -> int | None:
        """The highest SLSA Build level that is granted to such a provenance; None when it is not trusted at all."""
        who = signer.fingerprint
        rules = (rule for rule in self.builders if rule.admits(it, signer=who, image=image))
        return max((rule.level for rule in rules), default=None)

    def expired(self, now: datetime) -> Iterator[Reason]:
        """Why nothing may stand on this policy any more."""
        if now >= self.expires:
            why = f"it expired at {show_time(self.expires)}, and now it is {show_time(now)}"
            hint = "look whether it is still right, then set a later expires and a higher serial in trust.toml"
            yield Reason(ReasonCode.POLICY_EXPIRED, "the trust policy", why, hint)

    def rolled_back(self, latest: "Serials | None") -> Iterator[Reason]:
        """Why this policy is older than the one that the audit log saw last; `latest` are the serials there, if any."""
        if latest is None:
            return
        for name, here, before in zip(SERIAL_FILES, self.serials, latest, strict=True):
            if here < before:
                found = f"has serial {here}" if here else "is not there"
                why = f"it {found}, and the last one in the audit log had serial {before}"
                hint = f"put the newer file back, or write one with a serial of at least {before}"
                yield Reason(ReasonCode.POLICY_ROLLBACK, name, why, hint)


def digest_of(floor: bytes | None, user: bytes | None) -> Digest:
    """The digest of a policy: over both files' exact bytes, each with a mark that it exists and its length.

    >>> digest_of(b"", None) == digest_of(None, b"")
    False
    """
    parts = (b"\0" if data is None else b"\1" + len(data).to_bytes(8) + data for data in (floor, user))
    return Digest.of(_DOMAIN + b"".join(parts))
