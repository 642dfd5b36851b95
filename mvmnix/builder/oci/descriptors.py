"""Reads image indexes and manifests, OCI's and Docker's, by their exact media types; pure.

OCI image specification, image-index.md, manifest.md, descriptor.md; Docker's "Image Manifest Version 2, Schema 2".
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats.strict import MAX_INTEGER, MalformedError, Record, read

#: Larger documents are refused unread, in bytes (the distribution specification asks registries to take this much).
LIMIT: Final = 4 << 20
MAX_LAYERS: Final = 127
#: All layers of an image as they are sent, in bytes; what they are uncompressed is bounded in the builder VM.
MAX_BYTES: Final = 2 << 30

#: What gives the value of a document in JSON, or raises MalformedError.
type Decode = Callable[[bytes], object]

_OCI: Final = "application/vnd.oci.image."
_DOCKER: Final = "application/vnd.docker."
INDEXES: Final = (f"{_OCI}index.v1+json", f"{_DOCKER}distribution.manifest.list.v2+json")
MANIFESTS: Final = (f"{_OCI}manifest.v1+json", f"{_DOCKER}distribution.manifest.v2+json")
_CONFIGS: Final = (f"{_OCI}config.v1+json", f"{_DOCKER}container.image.v1+json")
#: Media types of layers, and whether they are compressed by gzip.
_LAYERS: Final = {
    f"{_OCI}layer.v1.tar": False,
    f"{_OCI}layer.v1.tar+gzip": True,
    f"{_DOCKER}image.rootfs.diff.tar": False,
    f"{_DOCKER}image.rootfs.diff.tar.gzip": True,
}
_MEDIA_TYPE: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+/-]{0,254}"
_DIGEST: Final = r"sha256:[0-9a-f]{64}"
_PLATFORM: Final = r"[\x20-\x7e]{0,128}"
_HINT: Final = "look at what the registry serves under that digest; docs/reference/oci.md has what is read"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What an index or a manifest names: a media type, the digest and size in bytes of it."""

    media_type: str
    digest: Digest
    size: int

    @property
    def gzip(self) -> bool:
        """Whether it is a layer whose archive is compressed."""
        return _LAYERS.get(self.media_type, False)


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image for one platform: where its configuration is, and its layers from the lowest up."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """An index: for `linux/amd64` and the others, as far as they are images, what to read instead."""

    platforms: tuple[tuple[str, Descriptor], ...]

    def choose(self, platform: str, what: str) -> Descriptor:
        """The first image for a platform. Raises RefusedError [oci-unsupported]."""
        for name, descriptor in self.platforms:
            if name == platform:
                return descriptor
        offered = ", ".join(sorted({name for name, _ in self.platforms})) or "none"
        why = f"it has no image for {platform}; it has: {offered[:300]}"
        raise RefusedError(Reason(ReasonCode.OCI_UNSUPPORTED, what, why, f"name an image that is built for {platform}"))


def parse(data: bytes, what: str, decode: Decode) -> Index | Manifest:
    """The index or manifest in these bytes. Raises RefusedError [oci-malformed, oci-unsupported] with all reasons."""
    unsupported: list[str] = []
    try:
        found = read(decode(data), "document", lambda record: _document(record, unsupported))
    except MalformedError as error:
        raise error.refused(ReasonCode.OCI_MALFORMED, what, _HINT) from error
    if unsupported:
        reasons = (
            Reason(ReasonCode.OCI_UNSUPPORTED, what, why, "docs/reference/oci.md has what is supported")
            for why in unsupported
        )
        raise RefusedError(*reasons)
    return found


def _document(record: Record, unsupported: list[str]) -> Index | Manifest:
    """Which of the two it is, is said once: by its media type, or by what it has (CVE-2021-41190)."""
    record.integer("schemaVersion", 2, 2)
    is_index, is_manifest = record.has("manifests"), record.has("layers") or record.has("config")
    if is_index == is_manifest:
        raise ValueError("neither an index nor a manifest, or both")
    if record.has("mediaType"):
        record.text("mediaType", "|".join(map(re.escape, INDEXES if is_index else MANIFESTS)))
    for name in ("annotations", "subject"):
        record.has(name)
    if record.has("artifactType"):
        unsupported.append("it is an artifact, not an image")
    return _index(record) if is_index else _manifest(record, unsupported)


def _index(record: Record) -> Index:
    images = record.each("manifests", _platform, 1024)
    return Index(tuple((name, found) for name, found in images if found.media_type in MANIFESTS))


def _platform(record: Record) -> tuple[str, Descriptor]:
    platform = record.child("platform", _platform_name) if record.has("platform") else "unknown"
    return platform, _descriptor(record)


def _platform_name(record: Record) -> str:
    for name in ("os.version", "os.features", "features"):
        record.has(name)
    variant = record.text("variant", _PLATFORM) if record.has("variant") else ""
    name = f"{record.text('os', _PLATFORM)}/{record.text('architecture', _PLATFORM)}"
    return f"{name}/{variant}" if variant else name


def _descriptor(record: Record) -> Descriptor:
    for name in ("annotations", "data", "urls", "artifactType", "platform"):
        record.has(name)
    media_type = record.text("mediaType", _MEDIA_TYPE)
    digest = record.parsed("digest", _digest, Digest("0" * 64))
    return Descriptor(media_type, digest, record.integer("size", 1, MAX_INTEGER))


def _digest(text: str) -> Digest:
    if not re.fullmatch(_DIGEST, text):
        raise ValueError(f"not a SHA-256 digest: {text[:80]!r}")
    return Digest(text.removeprefix("sha256:"))


def _manifest(record: Record, unsupported: list[str]) -> Manifest:
    config = record.child("config", _descriptor)
    if config.media_type not in _CONFIGS:
        unsupported.append(f"its configuration is of type {config.media_type}, so it is not an image")
    elif config.size > LIMIT:
        unsupported.append(f"its configuration is larger than {LIMIT} bytes")
    layers = record.each("layers", lambda each: _layer(each, unsupported), MAX_LAYERS)
    if not layers:
        unsupported.append("it has no layers")
    if sum({layer.digest: layer.size for layer in layers}.values()) > MAX_BYTES:
        unsupported.append(f"its layers are larger than {MAX_BYTES} bytes")
    return Manifest(config, layers)


def _layer(record: Record, unsupported: list[str]) -> Descriptor:
    if record.has("urls") and record.array("urls"):
        unsupported.append("a layer that lies elsewhere (urls)")
    found = _descriptor(record)
    if found.media_type not in _LAYERS:
        unsupported.append(f"a layer of type {found.media_type}")
    return found
