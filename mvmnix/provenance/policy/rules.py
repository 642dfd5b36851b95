"""The rules of a trust policy, each of which admits something or says that another admits no less; pure.

docs/reference/trust-policy.md has their meaning and how they are written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final

from mvmnix.digest import Digest
from mvmnix.provenance.slsa.provenance import HOST_NIX, Provenance, RootTree

#: The only image that the host's own Nix may have built.
BUILDER_IMAGE: Final = "builder"
#: What in a provenance stands for the whole image of the builder VM.
_MANIFEST: Final = "manifest.json"

#: Signers of a user's file, by fingerprint, and those of the floor's that may sign all that they may.
type Covered = Mapping[Digest, frozenset[Digest]]


@dataclass(frozen=True, slots=True)
class BuilderRule:
    """A builder id that a signer may name, the SLSA Build level that it is worth at most, and for which images.

    `signer` is the fingerprint of who may. No image names mean every image; for `HOST_NIX` it is `builder` and no
    other. `builder_images` are the digests of the manifest.json of images that the builder VM may have run; none mean
    every one.
    """

    builder_id: str
    signer: Digest
    level: int
    images: frozenset[str]
    builder_images: frozenset[Digest] = frozenset()

    def admits(self, it: Provenance, *, signer: Digest, image: str) -> bool:
        """Whether a provenance by this signer, naming this builder and builder image, is trusted for this image."""
        return (
            (self.builder_id, self.signer) == (it.builder_id, signer)
            and (not self.images or image in self.images)
            and (self.builder_id != HOST_NIX or image == BUILDER_IMAGE)
            and (not self.builder_images or builder_manifest(it) in self.builder_images)
        )

    def within(self, other: "BuilderRule", covered: Covered) -> bool:
        """Whether this rule admits nothing that the other does not."""
        return (
            self.builder_id == other.builder_id
            and other.signer in covered[self.signer]
            and self.level <= other.level
            and _subset(self.images, other.images)
            and _subset(self.builder_images, other.builder_images)
        )


def builder_manifest(it: Provenance) -> Digest | None:
    """The digest of the manifest.json of the image that built; None where the host's Nix did."""
    return next((subject.digest for subject in it.builder_image if subject.name == _MANIFEST), None)


def _subset[T](few: frozenset[T], many: frozenset[T]) -> bool:
    """Whether the first names nothing else than the second; nothing at all means everything."""
    return not many or (bool(few) and few <= many)


@dataclass(frozen=True, slots=True)
class VerifierRule:
    """A verifier whose summary (VSA) is taken instead of the full evidence: the signer's fingerprint, `verifier.id`.

    The summary may be `max_age` old, has to say `level` at least (SLSA Build), and to be about a resource that matches
    one of the patterns (as those of SourceRule).
    """

    signer: Digest
    verifier_id: str
    max_age: timedelta
    level: int
    resources: tuple[str, ...] = ("*",)

    def admits_resource(self, uri: str) -> bool:
        """Whether the verifier is trusted about this resource."""
        return any(fnmatchcase(uri, pattern) for pattern in self.resources)

    def within(self, other: "VerifierRule", covered: Covered) -> bool:
        """Whether this rule admits nothing that the other does not."""
        return (
            self.verifier_id == other.verifier_id
            and other.signer in covered[self.signer]
            and self.max_age <= other.max_age
            and self.level >= other.level
            and ("*" in other.resources or set(self.resources) <= set(other.resources))
        )


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many have to say the same: signers of a plan, and builders of an image; the first one counts."""

    plans: int = 1
    rebuilds: int = 1


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old things may be; None: without a bound.

    How long ago a build may have ended, how long a plan's window may be, how long ago it may have begun; and since when
    snapshots count, the time itself included.
    """

    provenance: timedelta | None = None
    plan_window: timedelta | None = None
    plan_age: timedelta | None = None
    snapshots_not_before: datetime | None = None

    def stricter(self, other: "Freshness") -> "Freshness":
        """What satisfies both."""
        return Freshness(
            _shorter(self.provenance, other.provenance),
            _shorter(self.plan_window, other.plan_window),
            _shorter(self.plan_age, other.plan_age),
            max(filter(None, (self.snapshots_not_before, other.snapshots_not_before)), default=None),
        )


def _shorter(one: timedelta | None, other: timedelta | None) -> timedelta | None:
    return min((bound for bound in (one, other) if bound is not None), default=None)


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
        if self.matching(root.uri) is None:
            return f"{root.uri} matches none of {', '.join(self.patterns)}"
        return None

    def admits_input(self, uri: str) -> bool:
        """Whether a lock node that is locked to this may be handed in."""
        return self.matching_input(uri) is not None

    def matching(self, uri: str) -> str | None:
        """The first pattern that matches the URI of a root tree."""
        return next((pattern for pattern in self.patterns if fnmatchcase(uri, pattern)), None)

    def matching_input(self, uri: str) -> str | None:
        """The first pattern that matches what a lock node is locked to."""
        return next((pattern for pattern in self.inputs if fnmatchcase(uri, pattern)), None)
