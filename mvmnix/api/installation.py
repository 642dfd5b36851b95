"""Reads the pins of this installation: what its own builder image is made from, and what versions those files are."""

from collections.abc import Mapping

from mvmnix.builder.pins.locks import DebianLock, PythonLock, parse_debian, parse_python
from mvmnix.model import Source
from mvmnix.system import own_flake


def debian_locks() -> tuple[DebianLock, ...]:
    """The lock of Debian packages, as far as this installation has one."""
    path = own_flake.directory() / "modules/debian/lock.json"
    return (parse_debian(path.read_bytes(), where=str(path)),) if path.is_file() else ()


def _python_locks() -> tuple[PythonLock, ...]:
    path = own_flake.directory() / "modules/python/lock.json"
    return (parse_python(path.read_bytes(), where=str(path)),) if path.is_file() else ()


def pins() -> tuple[Source, ...]:
    """All that is pinned."""
    locks: tuple[DebianLock | PythonLock, ...] = (*debian_locks(), *_python_locks())
    return tuple(source for lock in locks for source in lock.sources())


def debian_versions() -> Mapping[str, str]:
    """Full versions of Debian packages, by the URIs of their files: a file's name leaves out the epoch."""
    return {pin.source.uri: pin.version for lock in debian_locks() for pin in lock.packages.values()}
