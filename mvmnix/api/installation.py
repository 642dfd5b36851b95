"""Reads the pins of this installation: what its own builder image is made from, and what versions those files are."""

from collections.abc import Mapping

from mvmnix import own_flake
from mvmnix.builder.pins import DebianLock, PythonLock, parse_debian, parse_python
from mvmnix.model import Source


def _locks() -> tuple[DebianLock | None, PythonLock | None]:
    """The lock files, as far as this installation has them."""
    modules = own_flake.directory() / "modules"
    debian, python = modules / "debian/lock.json", modules / "python/lock.json"
    return (
        parse_debian(debian.read_bytes(), where=str(debian)) if debian.is_file() else None,
        parse_python(python.read_bytes(), where=str(python)) if python.is_file() else None,
    )


def pins() -> tuple[Source, ...]:
    """All that is pinned."""
    return tuple(source for lock in _locks() if lock is not None for source in lock.sources())


def debian_versions() -> Mapping[str, str]:
    """Full versions of Debian packages, by the URIs of their files: a file's name leaves out the epoch."""
    debian, _ = _locks()
    return {} if debian is None else {pin.source.uri: pin.version for pin in debian.packages.values()}
