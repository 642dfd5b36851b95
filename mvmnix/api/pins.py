"""Pins packages and wheels: finds the locks of the flake that one stands in, makes new ones, fetches what they pin."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mvmnix.api.context import SOURCES_LOCK
from mvmnix.builder.fetch.registries import Progress
from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.builder.nix.host_store import add_to_nix
from mvmnix.builder.pins import make
from mvmnix.builder.pins.locks import DebianLock, DependencyDepth, PythonLock, parse_debian, parse_python
from mvmnix.builder.pins.make import PinChange
from mvmnix.builder.pins.sources import fetch_all
from mvmnix.errors import UsageError
from mvmnix.formats import lock
from mvmnix.system import own_flake
from mvmnix.system.output_files import OutputFile
from mvmnix.system.roots import Roots
from mvmnix.system.store import Cache
from mvmnix.words import Words, check_words

_DEBIAN = "debian/lock.json"
_PYTHON = "python/lock.json"


@dataclass(frozen=True, slots=True)
class PinnedLock:
    """A lock as it was written, and what it says otherwise than before."""

    path: Path
    changes: Sequence[PinChange]


@dataclass(frozen=True, slots=True)
class FetchedPins:
    """How many pins are kept; how many of them the Nix store `where` did not have, both of which may be left alone."""

    pins: int
    added: int | None
    where: str


def lock_directory() -> Path:
    """Where locks are read: in the flake around the working directory, else in this installation's own flake.

    Raises UsageError, and RefusedError for a malformed flake.lock.
    """
    found = _of_the_flake() or [own_flake.directory() / "modules"]
    return _found([place for place in found if _has_locks(place)])


def own_lock_directory() -> Path:
    """Where locks are written: in the flake around the working directory, and nowhere else. Raises the same."""
    return _found(_of_the_flake())


def _found(places: list[Path]) -> Path:
    if not places:
        why = f"no modules/{_DEBIAN} in the flake around the working directory, nor in an input in the same tree"
        raise UsageError(why, hint="go to the flake whose guests need the package, or give --lock-dir")
    if len(places) > 1:
        hint = f"give --lock-dir: {' or '.join(map(str, places))}"
        raise UsageError(f"several inputs of the flake have a modules/{_DEBIAN}", hint=hint)
    return places[0]


def _has_locks(modules: Path) -> bool:
    return (modules / _DEBIAN).is_file()


def _of_the_flake() -> list[Path]:
    """The modules/ directory of the flake around us, or those of its inputs that lie in the same tree, by flake.lock.

    The same tree: the git work tree, or the flake's own directory where there is none. What leads out of it, by the
    path of an input or by a symbolic link, is none of the flake's, and nothing is written there.
    """
    here = Path.cwd()
    tree = next((each for each in (here, *here.parents) if (each / "flake.nix").exists()), None)
    if tree is None:
        return []
    places = [tree / "modules"]
    if not _has_locks(places[0]):
        path = tree / lock.FILE_NAME
        inputs = lock.parse(path.read_bytes() if path.is_file() else None).relative
        places = [tree / it.path / it.directory / "modules" for it in inputs if not it.parent]
    top = next((each for each in (tree, *tree.parents) if (each / ".git").exists()), tree).resolve()
    found = dict.fromkeys(place.resolve() for place in places if _has_locks(place))
    return [place for place in found if all(_within(top, place / name) for name in (_DEBIAN, _PYTHON))]


def _within(top: Path, lock_file: Path) -> bool:
    return lock_file.parent.resolve().is_relative_to(top)


def add_packages(
    names: Words, suite: str, reach: DependencyDepth, directory: Path | None, progress: Progress
) -> PinnedLock:
    """Add Debian packages to a lock, or make one. Raises UsageError for names that the suite doesn't have."""
    names = check_words(names)
    with _world(progress) as context:
        path = (directory or own_lock_directory()) / _DEBIAN
        before = parse_debian(path.read_bytes(), where=str(path)) if path.exists() else None
        after = make.add(before, names, reach, suite, context)
        return _written(path, after.serialise(), make.changes(before.packages if before else {}, after.packages))


def update_packages(names: Words, directory: Path | None, progress: Progress) -> PinnedLock:
    """Refresh pinned Debian packages: all, or these and what was built from the same sources."""
    names = check_words(names)
    with _world(progress) as context:
        path = (directory or own_lock_directory()) / _DEBIAN
        before = parse_debian(path.read_bytes(), where=str(path))
        after = make.update(before, names, context)
        return _written(path, after.serialise(), make.changes(before.packages, after.packages))


def pin_wheels(directory: Path | None, progress: Progress) -> PinnedLock:
    """Pin the wheels that mvm itself needs, as its pyproject.toml asks for. Raises UsageError without one."""
    with _world(progress) as context:
        directory = directory or own_lock_directory()
        path = directory / _PYTHON
        before = parse_python(path.read_bytes(), where=str(path)) if path.exists() else None
        project = directory.parent / "pyproject.toml"
        if not project.is_file():
            raise UsageError(f"{project} is not there, which names the wheels", hint="go to mvmnix's checkout")
        after = make.python(project.read_bytes(), context)
        return _written(path, after.serialise(), make.changes(before.packages if before else {}, after.packages))


def fetch_pins(directory: Path | None, progress: Progress, *, store_only: bool) -> FetchedPins:
    """Fetch every pin by its hash, and make it valid in the host's Nix store, unless that is left alone."""
    with _world(progress) as context, Roots.from_environment(os.environ) as roots:
        host = None if store_only else HostNix.find(roots)  # what is missing is told before minutes were spent
        sources = fetch_all(_locks(directory or lock_directory()), context.store, context.progress)
        if host is None:
            return FetchedPins(len(sources), None, "")
        return FetchedPins(len(sources), len(add_to_nix(host, sources, context.store)), host.store.where)


def _locks(directory: Path) -> list[DebianLock | PythonLock]:
    debian_path, python_path = directory / _DEBIAN, directory / _PYTHON
    return [
        parse_debian(debian_path.read_bytes(), where=str(debian_path)),
        parse_python(python_path.read_bytes(), where=str(python_path)),
    ]


@contextmanager
def _world(progress: Progress) -> Iterator[make.LockContext]:
    """What apt fetched, and the user's source store."""
    with (
        Roots.from_environment(os.environ) as roots,
        roots.cache.share(SOURCES_LOCK),
        roots.cache.child("sources") as sources,
    ):
        yield make.lock_context(Cache(sources), progress)


def _written(path: Path, data: bytes, changes: Sequence[PinChange]) -> PinnedLock:
    """Replace a lock as a whole, so that no reader sees half of it; an unchanged one is left alone."""
    OutputFile(str(path), makes_parents=True).write(data)
    return PinnedLock(path, changes)
