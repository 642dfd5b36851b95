"""`mvm pin`: writes the lock files of packages and wheels, and fetches what they pin."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mvmnix import lock, own_flake
from mvmnix.api import SOURCES_LOCK
from mvmnix.builder.nix import HostNix, add_to_nix
from mvmnix.builder.pins import DebianLock, PinChange, PythonLock, Reach, fetch_all, parse_debian, parse_python
from mvmnix.builder.pins import make as pins_make
from mvmnix.cli.output import answer
from mvmnix.cli.verbosity import is_quiet
from mvmnix.errors import UsageError
from mvmnix.plural import counted
from mvmnix.roots import Roots
from mvmnix.store import Cache

_DEBIAN = "debian/lock.json"
_PYTHON = "python/lock.json"


class FetchBar:
    """The download progress port, drawn by rich."""

    def __init__(self, progress: Progress) -> None:
        """The caller starts and stops `progress`."""
        self._progress = progress
        self._task: TaskID | None = None
        self._bytes = 0

    def total(self, files: int) -> None:
        """Show a bar, unless nothing is missing."""
        if files:
            self._task = self._progress.add_task("fetching pins", total=files, mib=0)

    def advance(self, name: str, size: int) -> None:
        """One file more."""
        self._bytes += size
        if self._task is not None:
            self._progress.update(
                self._task, advance=1, mib=self._bytes / (1 << 20), description=f"fetched {name[:40]:<40}"
            )


@contextmanager
def fetch_bar() -> Iterator[FetchBar]:
    """A progress display on stderr for as long as the context lasts."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[mib]:.0f} MiB"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True, quiet=is_quiet())) as progress:
        yield FetchBar(progress)


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


_LOCK_DIR = click.option(
    "--lock-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where debian/ and python/ lie. Default: found.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON.")


@click.group()
def pin() -> None:
    """Pin packages and wheels by hash, and fetch what is pinned."""


@pin.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--suite", default="", help="Take NAME from this suite, e.g. trixie-security. Default: the release.")
@click.option(
    "--reach",
    type=click.Choice([each.value for each in Reach]),
    default=Reach.CLOSURE.value,
    help="Which dependencies to pin with it.",
)
@click.option("--no-depends", "reach", flag_value=Reach.ALONE.value, help="Pin NAME alone: --reach alone.")
@_LOCK_DIR
@_JSON
def debian(names: tuple[str, ...], suite: str, reach: Reach, lock_dir: Path | None, as_json: bool) -> None:
    """Add Debian packages, with everything they depend on, from apt's lists."""
    with _world() as world:
        path = (lock_dir or own_lock_directory()) / _DEBIAN
        before = parse_debian(path.read_bytes(), where=str(path)) if path.exists() else None
        after = pins_make.add(before, names, Reach(reach), suite, world)
        _write(path, after.serialise())
        _show(pins_make.changes(before.packages if before else {}, after.packages), path, as_json)


@pin.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@_LOCK_DIR
@_JSON
def update(names: tuple[str, ...], lock_dir: Path | None, as_json: bool) -> None:
    """Refresh pinned Debian packages: all, or NAMEs and what was built from the same sources."""
    with _world() as world:
        path = (lock_dir or own_lock_directory()) / _DEBIAN
        before = parse_debian(path.read_bytes(), where=str(path))
        after = pins_make.update(before, names, world)
        _write(path, after.serialise())
        _show(pins_make.changes(before.packages, after.packages), path, as_json)


@pin.command()
@_LOCK_DIR
@_JSON
def python(lock_dir: Path | None, as_json: bool) -> None:
    """Pin the wheels that mvm itself needs, as pyproject.toml asks for them."""
    with _world() as world:
        directory = lock_dir or own_lock_directory()
        path = directory / _PYTHON
        before = parse_python(path.read_bytes(), where=str(path)) if path.exists() else None
        project = directory.parent / "pyproject.toml"
        if not project.is_file():
            raise UsageError(f"{project} is not there, which names the wheels", hint="go to mvmnix's checkout")
        after = pins_make.python(project.read_bytes(), world)
        _write(path, after.serialise())
        _show(pins_make.changes(before.packages if before else {}, after.packages), path, as_json)


@pin.command()
@click.option("--store-only", is_flag=True, help="Leave the Nix store alone.")
@_LOCK_DIR
def fetch(store_only: bool, lock_dir: Path | None) -> None:
    """Fetch every pin by its hash, and make it valid in the Nix store that mvm uses."""
    with _world() as world, Roots.from_environment(os.environ) as roots:
        host = None if store_only else HostNix.find(roots)  # what is missing is told before minutes were spent
        locks = _locks(lock_dir or lock_directory())
        sources = fetch_all(locks, world.store, world.progress)
        added = "" if host is None else f", {len(add_to_nix(host, sources, world.store))} new in {host.store.where}"
    pins = counted(len(sources), "pin is", "pins are")
    click.echo(f"{pins} in the source store{added}", err=True)


def _locks(directory: Path) -> list[DebianLock | PythonLock]:
    debian_path, python_path = directory / _DEBIAN, directory / _PYTHON
    return [
        parse_debian(debian_path.read_bytes(), where=str(debian_path)),
        parse_python(python_path.read_bytes(), where=str(python_path)),
    ]


@contextmanager
def _world() -> Iterator[pins_make.World]:
    """What apt fetched, the user's source store, a progress display on stderr."""
    with (
        Roots.from_environment(os.environ) as roots,
        roots.cache.share(SOURCES_LOCK),
        roots.cache.child("sources") as sources,
        fetch_bar() as bar,
    ):
        yield pins_make.the_world(Cache(sources), bar)


def _write(path: Path, data: bytes) -> None:
    """Replace a lock as a whole, so that no reader sees half of it; an unchanged one is left alone."""
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def _show(changes: Sequence[PinChange], path: Path, as_json: bool) -> None:
    if as_json:
        answer("pins", [asdict(change) for change in changes])
        return
    for change in changes:
        click.echo(f"{change.name}: {change.before or 'new'} → {change.after or 'dropped'}", err=True)
    click.echo(f"{path}: {counted(len(changes), 'change')}", err=True)
