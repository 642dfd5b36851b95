"""Makes of an OCI image's description the flake that the builder VM builds a guest from; opens no layer.

1. The reference names an index or a manifest by digest; of an index, the image for linux/amd64 is taken.
2. The manifest names the configuration and the layers by digest; the configuration says how the image means to run.
3. The flake holds that as image.json, and this installation's modules. Each digest above is a pin of it, so that
   everything comes in by the questions that every build asks, and is named in its provenance.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mvmnix.builder import bootstrap
from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.flakes.flake_source import source_of
from mvmnix.builder.oci import descriptors
from mvmnix.builder.oci.descriptors import MAX_LAYERS, Decode, Descriptor, Index
from mvmnix.builder.oci.reference import SCHEME, OciRef
from mvmnix.builder.oci.registry import Registry
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, refuse
from mvmnix.formats import lock, nar
from mvmnix.formats.strict import MalformedError, Record, canonical, read

PLATFORM: Final = "linux/amd64"
#: Where every guest may write anyway (profiles/minimal.nix).
_WRITABLE: Final = frozenset({"/tmp", "/var/tmp"})  # noqa: S108 - paths in a guest
_TAKEN: Final = ("/dev", "/proc", "/sys")

_PLATFORM: Final = r"[\x20-\x7e]{1,64}"
_TEXT: Final = r"[^\x00]*"
_VARIABLE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=([^\x00]*)", re.DOTALL)
_WORD: Final = r"[A-Za-z0-9._][A-Za-z0-9._-]{0,63}"
_USER: Final = rf"(({_WORD})?(:{_WORD})?)"
_DIFF_ID: Final = r"sha256:[0-9a-f]{64}"
_HINT: Final = "have the image built again; docs/reference/oci.md has what is read of a configuration"

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
class ImageConfig:
    """How an image means to run; `user` as it stands there: names are looked up in the image, inside the VM.

    `volumes` are directories to write to; `diff_ids` the digests of the uncompressed layers, from the lowest up.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    user: str
    volumes: tuple[str, ...]
    diff_ids: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class OciImage:
    """An image for one platform: `documents` are index, manifest and configuration, as far as they were read."""

    reference: OciRef
    documents: tuple[OciRef, ...]
    layers: tuple[Descriptor, ...]
    config: ImageConfig


def build_request(reference: OciRef, registry: Registry) -> BuildRequest:
    """What a guest of this image is built from. Raises as `resolve_image` does."""
    image = resolve_image(reference, registry)
    # 3. the flake
    tree = {b"flake.nix": nar.File.of(_FLAKE), b"image.json": nar.File.of(describe_image(image))}
    label = f"path:oci/{str(reference).removeprefix(SCHEME)}"
    flake = source_of(nar.Dir(tree | bootstrap.parts(b"modules", b"profiles")), uri=label, commit=None, directory="")
    return BuildRequest(flake, lock.parse(flake.lock), ATTRIBUTE)


def resolve_image(reference: OciRef, registry: Registry) -> OciImage:
    """What a reference names. Raises RefusedError [oci-malformed, oci-unsupported, source-mismatch], DownloadError."""
    # 1. the manifest
    here = reference
    documents = [here]
    found = descriptors.parse(registry.document(here), str(here), registry.decode)
    if isinstance(found, Index):
        here = reference.sibling(found.choose(PLATFORM, str(here)).digest)
        documents.append(here)
        found = descriptors.parse(registry.document(here), str(here), registry.decode)
    if isinstance(found, Index):
        why = "the index names another index"
        raise refuse(ReasonCode.OCI_UNSUPPORTED, str(here), why, "name the image by its own digest")
    # 2. the configuration
    described = reference.sibling(found.config.digest)
    documents.append(described)
    said = parse_config(registry.blob(described), str(described), registry.decode, layers=len(found.layers))
    return OciImage(reference, tuple(documents), found.layers, said)


def describe_image(image: OciImage) -> bytes:
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


def parse_config(data: bytes, what: str, decode: Decode, *, layers: int) -> ImageConfig:
    """The configuration in these bytes, for an image of so many layers.

    It is that of the OCI image specification, config.md, which is full of things that say nothing about running here
    (labels, ports, history, health checks, stop signals): those are left unread, docs/reference/oci.md lists them.
    Raises RefusedError [oci-malformed, oci-unsupported].
    """
    try:
        platform, found = read(decode(data), "configuration", lambda record: _config(record, layers))
    except MalformedError as error:
        raise error.refused(ReasonCode.OCI_MALFORMED, what, _HINT) from error
    if platform != PLATFORM:
        hint = f"name an image that is built for {PLATFORM}"
        raise refuse(ReasonCode.OCI_UNSUPPORTED, what, f"it is for {platform}", hint)
    return found


def _config(record: Record, layers: int) -> tuple[str, ImageConfig]:
    platform = f"{record.text('os', _PLATFORM)}/{record.text('architecture', _PLATFORM)}"
    diff_ids = record.child("rootfs", _rootfs)
    if len(diff_ids) != layers:
        raise ValueError(f"it is for {len(diff_ids)} layers, and the manifest has {layers}")
    record.leave_rest()
    if _has(record, "config"):
        return platform, record.child("config", lambda execution: _execution(execution, diff_ids))
    return platform, ImageConfig((), {}, "/", "", (), diff_ids)


def _rootfs(record: Record) -> tuple[Digest, ...]:
    record.text("type", "layers")
    return tuple(Digest(text.removeprefix("sha256:")) for text in record.texts("diff_ids", _DIFF_ID, MAX_LAYERS))


def _execution(record: Record, diff_ids: tuple[Digest, ...]) -> ImageConfig:
    entrypoint, command = (
        record.texts(name, _TEXT, 512) if _has(record, name) else () for name in ("Entrypoint", "Cmd")
    )
    environment = _environment(record.texts("Env", _TEXT, 4096) if _has(record, "Env") else ())
    directory = record.text("WorkingDir") if _has(record, "WorkingDir") else ""
    user = record.text("User", _USER) if _has(record, "User") else ""
    volumes = record.child("Volumes", _volumes) if _has(record, "Volumes") else ()
    record.leave_rest()
    return ImageConfig(
        (*entrypoint, *command), environment, _absolute(directory or "/", "WorkingDir"), user, volumes, diff_ids
    )


def _environment(variables: tuple[str, ...]) -> dict[str, str]:
    result: dict[str, str] = {}
    for text in variables:
        match = _VARIABLE.fullmatch(text)
        if match is None:
            raise ValueError(f"Env: {text[:80]!r} is not a variable NAME=VALUE with a name that shells take")
        if match[1] in result:
            raise ValueError(f"Env: {match[1]} is listed twice")
        result[match[1]] = match[2]
    return result


def _volumes(record: Record) -> tuple[str, ...]:
    paths = {_absolute(name, "Volumes") for name in record.names()}
    record.leave_rest()
    for path in paths:
        if path == "/" or f"{path}/".startswith(tuple(f"{taken}/" for taken in _TAKEN)):
            raise ValueError(f"Volumes: {path!r} can't be one")
    return tuple(sorted(paths - _WRITABLE))


def _absolute(path: str, what: str) -> str:
    """A path without empty and single-dot components. Raises ValueError for a relative one, or one with `..`."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    clean = "/" + "/".join(parts)
    if not path.startswith("/") or ".." in parts or re.search(r"[\x00\n]", path) or len(clean.encode()) > 1024:
        raise ValueError(f"{what}: not a plain absolute path: {path[:80]!r}")
    return clean


def _has(record: Record, name: str) -> bool:
    """Go writes what is not there as null."""
    return record.has(name) and record.value(name) is not None
