"""Makes of an OCI image's description the flake that the builder VM builds a guest from; opens no layer.

1. The reference names an index or a manifest by digest; of an index, the image for linux/amd64 is taken.
2. The manifest names the configuration and the layers by digest; the configuration says how the image means to run.
3. The flake holds that as image.json, and this installation's modules. Each digest above is a pin of it, so that
   everything comes in by the questions that every build asks, and is named in its provenance.
"""

from dataclasses import dataclass
from typing import Final

from mvmnix import lock, nar
from mvmnix.builder import bootstrap
from mvmnix.builder.flakes.flake_source import source_of
from mvmnix.builder.oci import config, descriptors
from mvmnix.builder.oci.config import ImageConfig
from mvmnix.builder.oci.descriptors import Index, Layer
from mvmnix.builder.oci.reference import SCHEME, OciRef
from mvmnix.builder.oci.registry import Registry
from mvmnix.builder.session.session import BuildRequest
from mvmnix.errors import ReasonCode, refuse
from mvmnix.strict import canonical

ATTRIBUTE: Final = "default"
_FLAKE: Final = b"""\
{
  description = "An OCI image as a guest; written by mvm";

  outputs =
    { self }:
    let
      house = import ./modules { system = "x86_64-linux"; };
    in
    {
      packages.x86_64-linux.default = house.mkOciGuest { image = ./image.json; };
    };
}
"""


@dataclass(frozen=True, slots=True)
class OciImage:
    """An image for one platform: `documents` are index, manifest and configuration, as far as they were read."""

    reference: OciRef
    documents: tuple[OciRef, ...]
    layers: tuple[Layer, ...]
    config: ImageConfig


def resolve(reference: OciRef, registry: Registry) -> OciImage:
    """What a reference names. Raises RefusedError [oci-malformed, oci-unsupported, source-mismatch], DownloadError."""
    # 1. the manifest
    here = reference
    documents = [here]
    found = descriptors.parse(registry.document(here), str(here), registry.decode)
    if isinstance(found, Index):
        here = reference.sibling(found.choose(config.PLATFORM, str(here)).digest)
        documents.append(here)
        found = descriptors.parse(registry.document(here), str(here), registry.decode)
    if isinstance(found, Index):
        why = "the index names another index"
        raise refuse(ReasonCode.OCI_UNSUPPORTED, str(here), why, "name the image by its own digest")
    # 2. the configuration
    described = reference.sibling(found.config.digest)
    documents.append(described)
    said = config.parse(registry.blob(described), str(described), registry.decode, layers=len(found.layers))
    return OciImage(reference, tuple(documents), found.layers, said)


def request(reference: OciRef, registry: Registry) -> BuildRequest:
    """What a guest of this image is built from. Raises as `resolve` does."""
    image = resolve(reference, registry)
    # 3. the flake
    tree = {b"flake.nix": nar.File.of(_FLAKE), b"image.json": nar.File.of(describe(image))}
    label = f"path:oci/{str(reference).removeprefix(SCHEME)}"
    flake = source_of(nar.Dir(tree | bootstrap.parts(b"modules", b"profiles")), uri=label, commit=None, directory="")
    return BuildRequest(flake, lock.parse(flake.lock), ATTRIBUTE)


def describe(image: OciImage) -> bytes:
    """The bytes of image.json, which modules/oci/ reads."""
    said = image.config
    layers = [
        _pin(image.reference.sibling(layer.digest)) | {"size": layer.size, "gzip": layer.gzip, "diffId": diff_id.hex}
        for layer, diff_id in zip(image.layers, said.diff_ids, strict=True)
    ]
    return canonical(
        {
            "name": image.reference.name.rpartition("/")[2][:64],
            "pins": [_pin(document) for document in image.documents],
            "layers": layers,
            "command": list(said.command),
            "environment": dict(said.environment),
            "directory": said.directory,
            "user": said.user,
            "volumes": list(said.volumes),
        }
    )


def _pin(reference: OciRef) -> dict[str, object]:
    return {"url": str(reference), "sha256": reference.digest.hex}
