"""Verifies files of any build against bundles of any tool; the caller says whom to trust and what to require."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mvmnix.api import files
from mvmnix.api.verify import bundles
from mvmnix.errors import ReasonCode, RefusedError, UsageError, refuse
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.verify.artifact_verifier import AcceptedArtifact, HandedIn, VerificationCriteria
from mvmnix.provenance.verify.registry_responses import Packed

#: How an image in a registry is named.
_IN_REGISTRY = "oci://"


@dataclass(frozen=True, slots=True)
class FailedArtifact:
    """A file for which too little counts, and why."""

    name: str
    blob: Blob
    refused: RefusedError


type ArtifactVerdict = AcceptedArtifact | FailedArtifact


def verify_artifacts(
    artifacts: Sequence[str], bundle: str, criteria: VerificationCriteria
) -> tuple[ArtifactVerdict, ...]:
    """A verdict for each, whatever the others are. Raises UsageError, UnreadableError before the first.

    For an image in a registry, without `bundle`, MvmnixError too: where its registry can't be asked, or must not be.
    """
    if not bundle and any(files.digest_in(artifact) for artifact in artifacts):
        raise UsageError("a digest has no bundle beside it", hint="name one: --bundle BUNDLE")
    shared = HandedIn(bundles.bundles(bundle), criteria) if bundle else None
    verdicts = list[ArtifactVerdict]()
    for name, blob, handed_in in [_handed_in(name, shared, criteria) for name in artifacts]:
        try:
            if in_registry(name) and not handed_in:
                why, hint = "its registry has neither bundle nor attestation nor signature for it", "have it signed"
                raise refuse(ReasonCode.ATTESTATION_MISSING, name, why, hint)
            verdicts.append(handed_in.judge(name, blob))
        except RefusedError as refused:
            verdicts.append(FailedArtifact(name, blob, refused))
    return tuple(verdicts)


def in_registry(artifact: str) -> bool:
    """Whether it names an image in a registry."""
    return artifact.startswith(_IN_REGISTRY)


def _handed_in(name: str, shared: HandedIn | None, criteria: VerificationCriteria) -> tuple[str, Blob, HandedIn]:
    """What a name means, and the bundles: those that were named, or those that are where it is."""
    where_it_is: Callable[[str], Sequence[bytes | Packed]] = bundles.beside
    if in_registry(name):
        from mvmnix.api.verify import attached  # noqa: PLC0415 - files don't pay for what asks a network

        blob, where_it_is = attached.image_blob(name), attached.attachments_of
    else:
        blob = files.blob(name)
    return name, blob, HandedIn(where_it_is(name), criteria) if shared is None else shared
