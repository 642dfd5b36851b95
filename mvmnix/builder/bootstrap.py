"""Reads this installation's own flake, of which the builder image is made; builds nothing (host_build.py)."""

import os

from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.flakes.flake_source import source_of
from mvmnix.errors import MvmnixError
from mvmnix.formats import lock, nar
from mvmnix.system import own_flake
from mvmnix.system.fs_tree import tree_of_directory

#: What of this installation the builder image is made from.
FILES = tuple(map(os.fsencode, own_flake.FILES))
ATTRIBUTE = "builder"


def request() -> BuildRequest:
    """What the builder image is built from."""
    flake = source_of(nar.Dir(parts(*FILES)), uri="path:mvmnix", commit=None, directory="")
    return BuildRequest(flake, lock.parse(flake.lock), ATTRIBUTE)


def parts(*names: bytes) -> dict[bytes, nar.Node]:
    """These files and directories of this installation's flake, in memory."""
    fd = os.open(own_flake.directory(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return {name: _entry(fd, name) for name in names}
    finally:
        os.close(fd)


def _entry(root: int, name: bytes) -> nar.Node:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except OSError as error:
        missing = own_flake.directory() / name.decode()
        raise MvmnixError(f"{missing} is not there: {error.strerror}", hint="install mvm with its flake") from error
    try:
        if name in {b"modules", b"profiles"}:
            return _loaded(tree_of_directory(fd))
        with os.fdopen(os.dup(fd), "rb") as file:
            return nar.File.of(file.read())
    finally:
        os.close(fd)


def _loaded(tree: nar.Node) -> nar.Node:
    """The same tree, its files in memory; compiled Python that a checkout may hold is no part of it."""
    match tree:
        case nar.Dir():
            kept = {name: node for name, node in tree.entries.items() if name != b"__pycache__"}
            return nar.Dir({name: _loaded(node) for name, node in kept.items()})
        case nar.File():
            return nar.File.of(b"".join(tree.open()), executable=tree.executable)
        case nar.Symlink():
            return tree
