"""Which part of the host's system a helper sees, read-only: programs, libraries, certificates; nothing of users."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: Directories beside /usr, or links into it (merged directories).
_DIRECTORIES: Final = ("/bin", "/lib", "/lib32", "/lib64", "/sbin")
#: NixOS has its programs there; elsewhere the store holds what users built, and isn't shown.
_NIXOS: Final = ("/nix/store", "/run/current-system")
#: Certificates, links of programs' names, the loader's cache.
_SETTINGS: Final = ("/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/alternatives", "/etc/ld.so.cache")


def mounts() -> tuple[str, ...]:
    """The words that have bubblewrap mount it (bwrap(1))."""
    links = [path for path in _places() if path.is_symlink()]
    return (
        *(word for path in _mounted() for word in ("--ro-bind", str(path), str(path))),
        *(word for path in links for word in ("--symlink", str(path.readlink()), str(path))),
    )


def paths() -> tuple[Path, ...]:
    """The directories and files in it that are mounted, by their names on both sides."""
    return tuple(_mounted())


def _mounted() -> Iterator[Path]:
    yield from (path for path in _places() if path.is_dir() and not path.is_symlink())
    yield from (path for path in map(Path, _SETTINGS) if path.exists())


def _places() -> Iterator[Path]:
    nixos = _NIXOS if Path(_NIXOS[1]).exists() else ()
    yield from (Path("/usr"), *map(Path, (*_DIRECTORIES, *nixos)))
