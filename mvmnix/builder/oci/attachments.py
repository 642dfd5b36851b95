"""Finds what a registry has attached to an image: bundles, attestations, signatures, all of them unverified.

1. What refers to the image is listed by the referrers API (OCI distribution specification 1.1, "Listing Referrers"); by
   a registry without it, under the tag that stands in for it (`sha256-HEX`, "Referrers Tag Schema").
2. cosign's own tags name two manifests more: `sha256-HEX.att` and `sha256-HEX.sig`.
3. A manifest that is listed, and the layers of those types that are read, come by digest, or not at all.
4. Manifests, layers and their bytes are counted; what is beyond the bounds is named, and not read.

What can't be read is named too, and does no harm to the others: any party may attach something.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

from mvmnix.builder.fetch import DownloadError
from mvmnix.builder.oci.descriptors import INDEXES, LIMIT, MANIFESTS
from mvmnix.builder.oci.reference import OciRef
from mvmnix.builder.oci.registry import other_bytes
from mvmnix.model import Digest
from mvmnix.provenance.bundle import BUNDLE_LIMIT
from mvmnix.strict import MAX_INTEGER, MalformedError, Record, read

#: Manifests that are read of one image, and layers in all of them.
MOST_MANIFESTS: Final = 128
MOST_LAYERS: Final = 1024
#: Bytes of all layers that are read of one image.
MOST_BYTES: Final = 64 << 20

_BUNDLE: Final = r"application/vnd\.dev\.sigstore\.bundle(\.v0\.[0-9]+\+json|\+json;version=0\.[0-9]+)"
#: Artifact types of manifests that are read. Clients that keep the tag themselves (step 1) write the type of the
#: configuration in the list, which says nothing; cosign's is that of its older layout of signatures.
_TYPES: Final = re.compile(rf"{_BUNDLE}|application/vnd\.(oci\.empty\.v1|dev\.cosign\.artifact\.(sig|att)\.v1)\+json")
_TEXT: Final = r"[!-~]{0,255}"
_DIGEST: Final = r"[a-z0-9+._-]{1,32}:[A-Za-z0-9=_-]{1,256}"
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class AttachmentKind(StrEnum):
    """How something is attached."""

    BUNDLE = "bundle"
    ENVELOPE = "attestation in cosign's layout"
    SIGNATURE = "signature in cosign's layout"


_KINDS: Final = (
    (re.compile(_BUNDLE), AttachmentKind.BUNDLE),
    (re.compile(r"application/vnd\.dsse\.envelope\.v1\+json"), AttachmentKind.ENVELOPE),
    (re.compile(r"application/vnd\.dev\.cosign\.simplesigning\.v1\+json"), AttachmentKind.SIGNATURE),
)


@dataclass(frozen=True, slots=True)
class Attachment:
    """Something that is attached: its bytes, and what a manifest says beside them. `problem` says why there is none."""

    kind: AttachmentKind
    data: bytes
    annotations: Mapping[str, str] = _NONE
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Listed:
    """What an index or manifest names."""

    media_type: str
    digest: str
    size: int
    artifact_type: str | None = None
    annotations: Mapping[str, str] = _NONE


class Asked(Protocol):
    """What is asked; see RegistryClient."""

    def get(self, reference: OciRef, path: str, write: Callable[[bytes], object], limit: int) -> None:
        """Stream what lies under a path of the reference's repository."""

    def decode(self, data: bytes) -> object:
        """The value of these bytes as JSON. Raises MalformedError."""


class _Problem(Exception):  # noqa: N818 - a verdict on one attachment, which becomes a text
    """Why something that is attached can't be read."""


def find_attachments(image: OciRef, registry: Asked) -> tuple[Attachment, ...]:
    """All that is attached to an image, in the order of the steps.

    Raises DownloadError and RefusedError where the registry can't be asked, or must not be.
    """
    return tuple(_Search(image, registry).run())


@dataclass(slots=True)
class _Search:
    image: OciRef
    registry: Asked
    manifests: int = 0
    layers: int = 0
    left: int = MOST_BYTES
    known: dict[Digest, bytes] = field(default_factory=dict)

    def run(self) -> Iterator[Attachment]:
        try:
            yield from self._referrers()
            for suffix in ("att", "sig"):
                # 2. cosign's tags
                document = self._named(f"manifests/{self._tag}.{suffix}")
                if document is not None:
                    yield from self._manifest(document, f"the tag .{suffix}")
        except _Problem as problem:  # a bound: what was read until then is there
            yield Attachment(AttachmentKind.BUNDLE, b"", problem=str(problem))

    @property
    def _tag(self) -> str:
        return f"sha256-{self.image.digest.hex}"

    def _referrers(self) -> Iterator[Attachment]:
        # 1. the list
        listed = self._named(f"referrers/{self.image.digest}")
        if listed is None:
            listed = self._named(f"manifests/{self._tag}")
        if listed is None:
            return
        try:
            found = read(self.registry.decode(listed), "list", _index)
        except MalformedError as error:
            yield Attachment(AttachmentKind.BUNDLE, b"", problem=f"the list of referrers can't be read: {error}")
            return
        for each in found:
            if each.artifact_type and not _TYPES.fullmatch(each.artifact_type):
                continue  # a list of components, say: nothing that is signed by itself
            yield from self._listed(each)

    def _listed(self, it: _Listed) -> Iterator[Attachment]:
        # 4. so many
        self.manifests += 1
        if self.manifests > MOST_MANIFESTS:
            raise _Problem(f"more than {MOST_MANIFESTS} manifests refer to the image; the others were not read")
        try:
            document = self._by_digest("manifests", it, LIMIT)
        except _Problem as problem:
            yield Attachment(AttachmentKind.BUNDLE, b"", problem=str(problem))
        else:
            yield from self._manifest(document, f"the manifest {it.digest}")

    def _manifest(self, document: bytes, where: str) -> Iterator[Attachment]:
        try:
            layers = read(self.registry.decode(document), "manifest", lambda record: _layers(record, self.image.digest))
        except MalformedError as error:
            yield Attachment(AttachmentKind.BUNDLE, b"", problem=f"{where} can't be read: {error}")
            return
        for each in layers:
            kind = next((kind for pattern, kind in _KINDS if pattern.fullmatch(each.media_type)), None)
            if kind is not None:
                yield self._layer(each, kind)

    def _layer(self, it: _Listed, kind: AttachmentKind) -> Attachment:
        # 4. so many
        self.layers += 1
        if self.layers > MOST_LAYERS:
            raise _Problem(f"more than {MOST_LAYERS} layers refer to the image; the others were not read")
        try:
            return Attachment(kind, self._by_digest("blobs", it, BUNDLE_LIMIT), it.annotations)
        except _Problem as problem:
            return Attachment(kind, b"", problem=str(problem))

    def _named(self, path: str) -> bytes | None:
        """What the registry has there now; None where it has nothing."""
        said = bytearray()
        try:
            self.registry.get(self.image, path, said.extend, LIMIT)
        except DownloadError as error:
            if error.status == 404:
                return None
            raise
        return bytes(said)

    def _by_digest(self, kind: str, it: _Listed, limit: int) -> bytes:
        # 3. by digest
        algorithm, _, text = it.digest.partition(":")
        try:
            digest = Digest(text if algorithm == "sha256" else "")
        except ValueError as error:
            raise _Problem(f"{it.digest[:80]} is not a SHA-256 digest") from error
        if digest in self.known:
            return self.known[digest]
        if it.size > limit:
            raise _Problem(f"{digest} is larger than {limit} bytes")
        self.left -= it.size
        if self.left < 0:
            raise _Problem(f"what is attached is larger than {MOST_BYTES} bytes; the rest was not read")
        said, named = bytearray(), self.image.sibling(digest)
        try:
            self.registry.get(named, f"{kind}/{digest}", said.extend, it.size)
        except DownloadError as error:
            if error.status != 404:
                raise
            raise _Problem(f"the registry lists {digest}, and does not have it") from error
        data = bytes(said)
        if (served := Digest.of(data)) != digest:
            raise _Problem(other_bytes(named, served).message)
        self.known[digest] = data
        return data


def _index(record: Record) -> tuple[_Listed, ...]:
    record.integer("schemaVersion", 2, 2)
    if record.has("mediaType"):
        record.text("mediaType", re.escape(INDEXES[0]))
    found = record.each("manifests", _descriptor)
    record.leave_rest()
    return found


def _layers(record: Record, image: Digest) -> tuple[_Listed, ...]:
    record.integer("schemaVersion", 2, 2)
    if record.has("mediaType"):
        record.text("mediaType", "|".join(map(re.escape, MANIFESTS)))
    if record.has("subject") and record.child("subject", _descriptor).digest != str(image):
        raise ValueError("it refers to another image")
    found = record.each("layers", _descriptor)
    record.leave_rest()
    return found


def _descriptor(record: Record) -> _Listed:
    media_type = record.text("mediaType", _TEXT)
    digest, size = record.text("digest", _DIGEST), record.integer("size", 0, MAX_INTEGER)
    kind = record.text("artifactType", _TEXT) if record.has("artifactType") else None
    annotations = record.child("annotations", _annotations) if record.has("annotations") else _NONE
    record.leave_rest()
    return _Listed(media_type, digest, size, kind, annotations)


def _annotations(record: Record) -> Mapping[str, str]:
    return {name: record.text(name, limit=LIMIT) for name in record.names()}
