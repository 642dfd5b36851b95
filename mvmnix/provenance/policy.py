"""The trust policy: who may say what, and how much of it is believed; a user's file only narrows the machine's floor.

Pure: bytes in, a policy out. Where the bytes may come from is provenance/policy_files.py; the format, which
provenance/policy_text.py reads, is docs/trust-policy.md.
"""

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from mvmnix.config import CacheKey
from mvmnix.errors import Reason, ReasonCode, RefusedError, refuse
from mvmnix.keys import PublicKey, Role
from mvmnix.model import Digest
from mvmnix.provenance.slsa import HOST_NIX, RootTree

#: The only image that the host's own Nix may have built.
BUILDER_IMAGE: Final = "builder"
_DOMAIN: Final = b"mvmnix trust policy 1\0"


class Isolation(StrEnum):
    """What stands between a workload and the host."""

    MICROVM = "microvm"
    CONTAINER = "container: not a microVM"


@dataclass(frozen=True, slots=True, order=True)
class Signer:
    """A key with a name for people, and the claims that it may sign."""

    name: str
    key: PublicKey
    roles: frozenset[Role]

    def __post_init__(self) -> None:
        if not self.roles:
            raise ValueError(f"signer {self.name!r} has no role")


@dataclass(frozen=True, slots=True, order=True)
class BuilderRule:
    """A builder id that a signer may name, the SLSA Build level that it is worth at most, and for which images.

    No image names mean every image; for `HOST_NIX` it is `builder` and no other.
    """

    builder_id: str
    signer: Digest
    level: int
    images: frozenset[str]

    def admits(self, *, builder_id: str, signer: Digest, image: str) -> bool:
        """Whether a provenance by this key, naming this builder, is believed for this image."""
        return (
            (self.builder_id, self.signer) == (builder_id, signer)
            and (not self.images or image in self.images)
            and (self.builder_id != HOST_NIX or image == BUILDER_IMAGE)
        )

    def within(self, other: "BuilderRule") -> bool:
        """Whether this rule admits nothing that the other does not."""
        return (
            (self.builder_id, self.signer) == (other.builder_id, other.signer)
            and self.level <= other.level
            and (not other.images or (bool(self.images) and self.images <= other.images))
        )


@dataclass(frozen=True, slots=True)
class SourceRule:
    """Which flakes may be built and run: patterns (`*`, `?`, `[…]`) of the root tree's URI; local copies or not.

    `inputs` are patterns of what nodes of flake.lock are locked to; `pairs` say what of that, by the second pattern,
    may stand for what a node asks for, by the first.
    """

    patterns: tuple[str, ...]
    allow_local: bool
    inputs: tuple[str, ...] = ("*",)
    pairs: tuple[tuple[str, str], ...] = ()

    def problem(self, root: RootTree) -> str | None:
        """Why the rule does not admit this root tree; None when it does."""
        if root.commit is None and not self.allow_local:
            return f"{root.uri} is a local copy that no commit has"
        if not any(fnmatchcase(root.uri, pattern) for pattern in self.patterns):
            return f"{root.uri} matches none of {', '.join(self.patterns)}"
        return None

    def admits_input(self, uri: str) -> bool:
        """Whether a lock node that is locked to this may be handed in."""
        return any(fnmatchcase(uri, pattern) for pattern in self.inputs)


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """What one trust.toml says."""

    signers: tuple[Signer, ...]
    builders: tuple[BuilderRule, ...]
    sources: SourceRule
    isolation: Isolation
    caches: tuple[CacheKey, ...] = ()
    import_from_derivation: bool = False


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """The policy in force. Every source rule has to admit a flake; `digest` is over the exact bytes of all files.

    `caches` are the keys whose word about a store path is believed; `import_from_derivation` says whether evaluation
    may build, and read what it built.
    """

    signers: tuple[Signer, ...]
    builders: tuple[BuilderRule, ...]
    sources: tuple[SourceRule, ...]
    isolation: Isolation
    digest: Digest
    caches: tuple[CacheKey, ...] = ()
    import_from_derivation: bool = False

    def __post_init__(self) -> None:
        if not self.signers or not self.builders or not all(rule.patterns for rule in self.sources):
            why = "it names no signer, no builder or no source, so nothing could be believed"
            hint = "name them (docs/trust-policy.md), or remove the file and let `mvm run` make one"
            raise refuse(ReasonCode.POLICY_EMPTY, "the trust policy", why, hint)

    def admits_input(self, uri: str) -> bool:
        """Whether a lock node that is locked to this may be handed in: every source rule has to say so."""
        return all(rule.admits_input(uri) for rule in self.sources)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of original and locked that every source rule has."""
        first, *others = self.sources
        return tuple(pair for pair in first.pairs if all(pair in rule.pairs for rule in others))

    def signer(self, hint: str) -> Signer | None:
        """The signer whose key a bundle's hint names."""
        return next((signer for signer in self.signers if signer.key.hint == hint), None)

    def level(self, *, builder_id: str, signer: Signer, image: str) -> int | None:
        """The highest SLSA Build level that is granted to such a provenance; None when it is not believed at all."""
        key = signer.key.fingerprint
        rules = (rule for rule in self.builders if rule.admits(builder_id=builder_id, signer=key, image=image))
        return max((rule.level for rule in rules), default=None)


def digest_of(floor: bytes | None, user: bytes | None) -> Digest:
    """The digest of a policy: over both files' exact bytes, each with a mark that it exists and its length.

    >>> digest_of(b"", None) == digest_of(None, b"")
    False
    """
    parts = (b"\0" if data is None else b"\1" + len(data).to_bytes(8) + data for data in (floor, user))
    return Digest.of(_DOMAIN + b"".join(parts))


def combine(floor: PolicyFile | None, user: PolicyFile | None, digest: Digest) -> TrustPolicy:
    """The policy of one file, or of a user's file within the floor.

    Raises RefusedError: POLICY_MISSING without any file, POLICY_WIDENS with everything that the user's file adds to
    the floor, POLICY_EMPTY when nothing is left that could be believed.
    """
    if floor is not None and user is not None:
        reasons = tuple(Reason(ReasonCode.POLICY_WIDENS, "trust.toml", why, _ASK) for why in _widening(user, floor))
        if reasons:
            raise RefusedError(*reasons)
        return _policy(user, (floor.sources, user.sources), digest)
    only = user or floor
    if only is None:
        hint = (
            "run `mvm run` once, which makes keys and a policy for this workstation, or write one: docs/trust-policy.md"
        )
        raise refuse(ReasonCode.POLICY_MISSING, "trust.toml", "there is no trust policy", hint)
    return _policy(only, (only.sources,), digest)


def _policy(it: PolicyFile, sources: tuple[SourceRule, ...], digest: Digest) -> TrustPolicy:
    return TrustPolicy(it.signers, it.builders, sources, it.isolation, digest, it.caches, it.import_from_derivation)


_ASK: Final = "take it out of your trust.toml, or have the machine's owner add it to the floor"


def _widening(user: PolicyFile, floor: PolicyFile) -> list[str]:
    """What the user's file would allow and the floor does not."""
    allowed = {signer.key: signer.roles for signer in floor.signers}
    why = [
        f"signer {signer.name!r} has roles that the floor does not give to that key: {', '.join(sorted(more))}"
        for signer in user.signers
        if (more := signer.roles - allowed.get(signer.key, frozenset()))
    ]
    why += [
        f"builder {rule.builder_id!r} is believed further than in the floor"
        for rule in user.builders
        if not any(rule.within(other) for other in floor.builders)
    ]
    if user.sources.allow_local and not floor.sources.allow_local:
        why.append("it allows local copies as sources, which the floor does not")
    why += [
        f"it pairs {original!r} with {locked!r}, which the floor does not"
        for original, locked in user.sources.pairs
        if (original, locked) not in floor.sources.pairs
    ]
    why += [f"the cache key {key.name!r} is not one of the floor's" for key in user.caches if key not in floor.caches]
    if user.import_from_derivation and not floor.import_from_derivation:
        why.append("it allows import from derivation, which the floor does not")
    if user.isolation is not floor.isolation:
        why.append(f"it requires isolation {user.isolation!r}, the floor {floor.isolation!r}")
    return why
