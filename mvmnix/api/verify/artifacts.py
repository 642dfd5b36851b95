"""Verifies files of any build against bundles of any tool; the caller says whom to trust and what to require."""

from collections.abc import Sequence
from dataclasses import dataclass

from mvmnix.api import files
from mvmnix.api.verify import bundles
from mvmnix.errors import RefusedError, UsageError
from mvmnix.provenance.bundle import Blob
from mvmnix.provenance.verify import AcceptedArtifact, VerificationCriteria, judge_artifact


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
    """A verdict for each, whatever the others are. Raises UsageError, UnreadableError before the first."""
    if not bundle and any(files.digest_in(artifact) for artifact in artifacts):
        raise UsageError("a digest has no bundle beside it", hint="name one: --bundle BUNDLE")
    shared = bundles.bundles(bundle) if bundle else None
    found = [(name, files.blob(name), bundles.beside(name) if shared is None else shared) for name in artifacts]
    verdicts = list[ArtifactVerdict]()
    for name, blob, handed_in in found:
        try:
            verdicts.append(judge_artifact(name, blob, handed_in, criteria))
        except RefusedError as refused:
            verdicts.append(FailedArtifact(name, blob, refused))
    return tuple(verdicts)
