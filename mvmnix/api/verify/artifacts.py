"""Verifies files of any build against bundles of any tool: which bundles there are, and a verdict for each file.

Bundles are those of a file that is named, or of the one beside each artifact: one as JSON, several as JSON Lines.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mvmnix.api import files
from mvmnix.api.files import file_bytes
from mvmnix.errors import ReasonCode, RefusedError, UnreadableError, UsageError, refuse
from mvmnix.formats import strict
from mvmnix.images.file_names import BUNDLE_SUFFIX
from mvmnix.plural import counted
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.bundle.envelope import BUNDLE_LIMIT
from mvmnix.provenance.verify.artifact_verifier import AcceptedArtifact, HandedIn, VerificationCriteria
from mvmnix.provenance.verify.registry_responses import Packed
from mvmnix.words import Words, check_words

#: Bytes of a file of bundles, and how many there may be.
LIMIT = 64 * 2**20
MOST_BUNDLES = 1024

#: Lines of such a file; a bundle that is set over many has some hundred.
_LINES = 2**20

_BESIDE = "name the bundle: --bundle BUNDLE"
#: How an image in a registry is named.
_IN_REGISTRY = "oci://"


@dataclass(frozen=True, slots=True)
class FailedArtifact:
    """A file for which too little counts, and why."""

    name: str
    blob: Blob
    refused: RefusedError


type ArtifactVerdict = AcceptedArtifact | FailedArtifact


def verify_artifacts(artifacts: Words, bundle: str, criteria: VerificationCriteria) -> tuple[ArtifactVerdict, ...]:
    """A verdict for each, whatever the others are. Raises UsageError, UnreadableError before the first.

    For an image in a registry, without `bundle`, MvmnixError too: where its registry can't be asked, or must not be.
    """
    artifacts = check_words(artifacts)
    if not bundle and any(files.digest_in(artifact) for artifact in artifacts):
        raise UsageError("a digest has no bundle beside it", hint="name one: --bundle BUNDLE")
    shared = HandedIn(read_bundles(bundle), criteria) if bundle else None
    verdicts = list[ArtifactVerdict]()
    for name, blob, handed_in in [_handed_in(name, shared, criteria) for name in artifacts]:
        try:
            if shared is None and in_registry(name) and not handed_in:
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
    where_it_is: Callable[[str], Sequence[bytes | Packed]] = bundles_beside
    if in_registry(name):
        from mvmnix.api.verify import attached  # noqa: PLC0415 - files don't pay for what asks a network

        blob, where_it_is = attached.image_blob(name), attached.attachments_of
    else:
        blob = files.blob(name)
    return name, blob, HandedIn(where_it_is(name), criteria) if shared is None else shared


def read_bundles(path: str) -> tuple[bytes, ...]:
    """The bundles of a file, or of stdin for `-`; none of them is parsed yet. Raises UsageError, UnreadableError.

    A file of which a line is a JSON object by itself, the first one or, if it is no JSON as a whole, any one, holds one
    bundle a line (JSON Lines); any other holds one.
    """
    return _several(path, file_bytes(path, LIMIT))


def bundles_beside(artifact: str) -> tuple[bytes, ...]:
    """The bundles in the file beside an artifact, which has to be a regular one. Raises as `read_bundles` does."""
    path = artifact + BUNDLE_SUFFIX
    return _several(path, files.read(path, LIMIT, _BESIDE))


def _several(path: str, data: bytes) -> tuple[bytes, ...]:
    if data.count(b"\n") + data.count(b"\r") > _LINES:
        raise UnreadableError(f"{path} has more than {_LINES} lines", hint="hand in bundles, one a line or a file")
    lines = [line for line in data.splitlines() if line.strip()]
    found = tuple(lines) if _are_lines(lines, data) else (data,) if data.strip() else ()
    if len(found) > MOST_BUNDLES:
        raise UnreadableError(
            f"{path} holds {counted(len(found), 'bundle')}", hint=f"hand in at most {MOST_BUNDLES} at a time"
        )
    return found


def _are_lines(lines: list[bytes], data: bytes) -> bool:
    if not lines or _is_whole(lines[0]):
        return bool(lines)
    if len(lines) == 1 or not any(map(_is_whole, lines)):
        return False
    try:
        strict.parse_json(data, limit=BUNDLE_LIMIT, fraction=float)
    except strict.MalformedError:
        return True  # a line that is none does no harm to the others
    return False


def _is_whole(line: bytes) -> bool:
    """Whether a line looks like a whole object: those of a bundle that was set over many lines do not."""
    text = line.strip()
    return len(text) > 1 and text.startswith(b"{") and text.endswith(b"}")
