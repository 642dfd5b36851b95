"""Makes OCI images for tests: descriptions that can be bent, and a registry in memory."""

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mvmnix.builder.oci.descriptors import LIMIT
from mvmnix.builder.oci.reference import OciRef
from mvmnix.digest import Digest
from mvmnix.formats.strict import parse_json

OCI: Final = "application/vnd.oci.image."
DOCKER: Final = "application/vnd.docker."
INDEX, MANIFEST, CONFIG = f"{OCI}index.v1+json", f"{OCI}manifest.v1+json", f"{OCI}config.v1+json"
LAYER: Final = f"{OCI}layer.v1.tar+gzip"

#: JSON, as an image's author writes it.
type Document = dict[str, Any]


def name_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def text(document: Document) -> bytes:
    return json.dumps(document).encode()


def descriptor(data: bytes, media_type: str, **more: object) -> Document:
    return {"mediaType": media_type, "digest": name_of(data), "size": len(data), **more}


def config_of(layers: Sequence[bytes] = (), **execution: object) -> Document:
    return {
        "os": "linux",
        "architecture": "amd64",
        "config": execution,
        "rootfs": {"type": "layers", "diff_ids": [name_of(layer) for layer in layers]},
    }


@dataclass
class Pushed:
    """An image as it lies in a registry; `layers` are uncompressed archives."""

    layers: Sequence[bytes]
    config: Document
    manifest: Document = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        packed = [gzip.compress(layer, mtime=0) for layer in self.layers]
        config = text(self.config)
        self.blobs |= {name_of(data): data for data in (*packed, config)}
        self.manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(config, CONFIG),
            "layers": [descriptor(data, LAYER) for data in packed],
        } | self.manifest

    @property
    def document(self) -> bytes:
        return text(self.manifest)

    def index(self, *others: Document, platform: str = "linux/amd64") -> bytes:
        """An index that names this image for a platform, behind others."""
        system, architecture = platform.split("/")
        mine = descriptor(self.document, MANIFEST, platform={"os": system, "architecture": architecture})
        return text({"schemaVersion": 2, "mediaType": INDEX, "manifests": [*others, mine]})


def pushed(*layers: bytes, **execution: object) -> Pushed:
    return Pushed(layers, config_of(layers, **execution))


@dataclass
class Memory:
    """A registry that is a dictionary; notes what it is asked for."""

    things: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def hold(self, *documents: bytes, image: Pushed | None = None) -> OciRef:
        """Keep these; the last one's name."""
        self.things |= {name_of(data): data for data in documents} | (image.blobs if image else {})
        return OciRef("registry.test", "team/app", Digest.of(documents[-1]))

    def document(self, reference: OciRef) -> bytes:
        self.asked.append(str(reference))
        return self.things[str(reference.digest)]

    blob = document

    def decode(self, data: bytes) -> object:
        return parse_json(data, limit=LIMIT)
