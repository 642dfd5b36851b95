"""Finds what a registry has attached to an image: bundles, attestations, signatures, all of them unverified.

1. What refers to the image is listed by the referrers API (OCI distribution specification 1.1, "Listing Referrers"),
   in one page or several; by a registry without it, under the tag that stands in for it (`sha256-HEX`, "Referrers Tag
   Schema").
2. cosign's own tags name two manifests more: `sha256-HEX.att` and `sha256-HEX.sig`.
3. A manifest that is listed, and the layers of those types that are read, come by digest, or not at all.
4. Pages, manifests, layers and bytes of all of them are counted; what is beyond the bounds is named, and not read.

What can't be read is named too, and does no harm to the others: any party may attach something. What a party attaches
beyond the bounds can keep others from being read, which then don't count: less is accepted by that, never more.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

from mvmnix.builder.fetch.https import Response
from mvmnix.builder.fetch.resumable import DownloadError, TooLargeError
from mvmnix.builder.oci.descriptors import INDEXES, LIMIT, MANIFESTS
from mvmnix.builder.oci.reference import OciRef
from mvmnix.builder.oci.registry import other_bytes
from mvmnix.digest import Digest
from mvmnix.errors import clipped
from mvmnix.formats.strict import MAX_INTEGER, MalformedError, Record, read
from mvmnix.provenance.bundle.envelope import BUNDLE_LIMIT

#: Pages of its list that are read of one image, manifests that are in it, and layers in all of these.
MOST_PAGES: Final = 128
MOST_MANIFESTS: Final = 128
MOST_LAYERS: Final = 1024
#: Bytes of all pages, manifests and layers that are read of one image.
MOST_BYTES: Final = 64 << 20
#: Characters of what is said of something that can't be read.
_WORDS: Final = 1024

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

    def get(self, reference: OciRef, path: str, write: Callable[[bytes], object], limit: int) -> Response:
        """Stream what lies under a path of the reference's repository."""

    def page_after(self, reference: OciRef, path: str, answer: Response) -> str:
        """The path of the page after the answer to a path, "" for none. Raises MalformedError."""

    def decode(self, data: bytes) -> object:
        """The value of these bytes as JSON. Raises MalformedError."""


#: What a registry has under a path, and how it answered.
type _Page = tuple[bytes, Response]


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
        for found in (self._referrers(), self._tagged("att"), self._tagged("sig")):
            try:
                yield from found
            except _Problem as problem:  # a bound, or a list that breaks off: what was read until then is there
                yield _unread(problem)

    @property
    def _tag(self) -> str:
        return f"sha256-{self.image.digest.hex}"

    def _referrers(self) -> Iterator[Attachment]:
        # 1. the list
        path = f"referrers/{self.image.digest}"
        if (page := self._named(path)) is not None:
            yield from self._pages(path, page)
        elif (page := self._named(f"manifests/{self._tag}")) is not None:
            yield from self._page(page[0])

    def _pages(self, path: str, page: _Page | None) -> Iterator[Attachment]:
        known = set[str]()
        while page is not None:
            data, answer = page
            yield from self._page(data)
            known.add(path)
            path = self._page_after(path, answer)
            if not path:
                return
            if path in known:
                raise _Problem("the list of referrers leads back to a page that was read")
            # 4. so many
            if len(known) == MOST_PAGES:
                raise _Problem(f"the list of referrers has more than {MOST_PAGES} pages; the others were not read")
            page = self._named(path)
        raise _Problem("the list of referrers breaks off: the registry does not have its next page")

    def _page(self, document: bytes) -> Iterator[Attachment]:
        try:
            found = read(self.registry.decode(document), "list", _index)
        except MalformedError as error:
            raise _Problem(f"the list of referrers can't be read: {error}") from error
        for each in found:
            if isinstance(each, _Listed) and each.artifact_type and not _TYPES.fullmatch(each.artifact_type):
                continue  # a list of components, say: nothing that is signed by itself
            # 4. so many
            self.manifests += 1
            if self.manifests > MOST_MANIFESTS:
                raise _Problem(f"more than {MOST_MANIFESTS} manifests refer to the image; the others were not read")
            yield from (_unread(each),) if isinstance(each, _Problem) else self._listed(each)

    def _listed(self, it: _Listed) -> Iterator[Attachment]:
        try:
            document = self._by_digest("manifests", it, LIMIT)
        except _Problem as problem:
            yield _unread(problem)
        else:
            yield from self._manifest(document, f"the manifest {it.digest}")

    def _page_after(self, path: str, answer: Response) -> str:
        try:
            return self.registry.page_after(self.image, path, answer)
        except MalformedError as error:
            raise _Problem(f"the list of referrers was not read on: {error}") from error

    def _tagged(self, suffix: str) -> Iterator[Attachment]:
        # 2. cosign's tags
        found = self._named(f"manifests/{self._tag}.{suffix}")
        if found is not None:
            yield from self._manifest(found[0], f"the tag .{suffix}")

    def _manifest(self, document: bytes, where: str) -> Iterator[Attachment]:
        try:
            layers = read(self.registry.decode(document), "manifest", lambda record: _layers(record, self.image.digest))
        except MalformedError as error:
            yield _unread(_Problem(f"{where} can't be read: {error}"))
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
            return _unread(problem, kind)

    def _named(self, path: str) -> _Page | None:
        """What the registry has there now; None where it has nothing."""
        try:
            return self._read(self.image, path, min(LIMIT, self.left))
        except DownloadError as error:
            if error.status == 404:
                return None
            raise

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
        if it.size > self.left:
            raise _Problem(f"{digest} was not read: all that is attached may have {MOST_BYTES} bytes")
        named = self.image.sibling(digest)
        try:
            data, _ = self._read(named, f"{kind}/{digest}", it.size)
        except DownloadError as error:
            if error.status != 404:
                raise
            raise _Problem(f"the registry lists {digest}, and does not have it") from error
        if (served := Digest.of(data)) != digest:
            raise _Problem(other_bytes(named, served).message)
        self.known[digest] = data
        return data

    def _read(self, reference: OciRef, path: str, limit: int) -> _Page:
        # 4. so many bytes
        said = bytearray()
        try:
            answer = self.registry.get(reference, path, said.extend, limit)
        except TooLargeError as error:
            raise _Problem(f"{path} can't be read: {error.reasons[0].why}") from error
        finally:
            self.left -= len(said)
        return bytes(said), answer


def _unread(problem: _Problem, kind: AttachmentKind = AttachmentKind.BUNDLE) -> Attachment:
    return Attachment(kind, b"", problem=clipped(str(problem), lines=1, characters=_WORDS))


def _index(record: Record) -> tuple[_Listed | _Problem, ...]:
    """What a list names, one by one: each entry repeats what a party has attached."""
    record.integer("schemaVersion", 2, 2)
    if record.has("mediaType"):
        record.text("mediaType", re.escape(INDEXES[0]))
    found = tuple(_entry(value, f"list.manifests[{number}]") for number, value in enumerate(record.array("manifests")))
    record.leave_rest()
    return found


def _entry(value: object, where: str) -> _Listed | _Problem:
    try:
        return read(value, where, _descriptor)
    except MalformedError as error:
        return _Problem(f"an entry of the list of referrers can't be read: {error}")


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
