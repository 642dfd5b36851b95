"""Reads an image's configuration: how it means to run, and what its layers are uncompressed; pure.

OCI image specification, config.md. It is full of things that say nothing about running here (labels, ports, history,
health checks, stop signals): those are left unread, docs/oci.md lists them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mvmnix.builder.oci.descriptors import MAX_LAYERS, Decode
from mvmnix.errors import ReasonCode, refuse
from mvmnix.model import Digest
from mvmnix.strict import MalformedError, Record, read

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
_HINT: Final = "have the image built again; docs/oci.md has what is read of a configuration"


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


def parse(data: bytes, what: str, decode: Decode, *, layers: int) -> ImageConfig:
    """The configuration in these bytes, for an image of so many layers.

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
    _leave(record)
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
    _leave(record)
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
    _leave(record)
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


def _leave(record: Record) -> None:
    """Leave the other fields unread, on purpose."""
    for name in record.names():
        record.has(name)
