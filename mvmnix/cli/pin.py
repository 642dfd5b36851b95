"""`mvm pin`: writes the lock files of packages and wheels, and fetches what they pin."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

import mvmnix
from mvmnix.api.context import SOURCES_LOCK
from mvmnix.builder.fetch.sources import fetch_all
from mvmnix.builder.pins import make as pins_make
from mvmnix.builder.pins.locks import DebianLock, PythonLock, Reach
from mvmnix.builder.pins.make import Change
from mvmnix.builder.pins.nix_store import add_to_nix
from mvmnix.builder.pins.parse import parse_debian, parse_python
from mvmnix.cli.telling import answer
from mvmnix.errors import UsageError
from mvmnix.state import Roots
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
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield FetchBar(progress)


def lock_directory() -> Path:
    """The modules/ directory of the flake around the working directory, else of the source tree that mvm runs from."""
    here = Path.cwd()
    trees = [tree for tree in (here, *here.parents) if (tree / "flake.nix").exists()][:1]
    trees.append(Path(mvmnix.__file__).resolve().parent.parent)
    for tree in trees:
        if (tree / "modules" / _DEBIAN).is_file():
            return tree / "modules"
    raise UsageError(
        f"found no modules/{_DEBIAN} around the working directory", hint="go to mvmnix's checkout, or give --lock-dir"
    )


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
        path = (lock_dir or lock_directory()) / _DEBIAN
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
        path = (lock_dir or lock_directory()) / _DEBIAN
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
        directory = lock_dir or lock_directory()
        path = directory / _PYTHON
        before = parse_python(path.read_bytes(), where=str(path)) if path.exists() else None
        after = pins_make.python((directory.parent / "pyproject.toml").read_bytes(), world)
        _write(path, after.serialise())
        _show(pins_make.changes(before.packages if before else {}, after.packages), path, as_json)


@pin.command()
@click.option("--store-only", is_flag=True, help="Leave /nix/store alone.")
@_LOCK_DIR
def fetch(store_only: bool, lock_dir: Path | None) -> None:
    """Fetch every pin by its hash, and make it valid in /nix/store."""
    with _world() as world:
        locks = _locks(lock_dir or lock_directory())
        sources = fetch_all(locks, world.store, world.progress)
        added = () if store_only else add_to_nix(sources, world.store)
    click.echo(f"{len(sources)} pins are in the source store, {len(added)} new in /nix/store", err=True)


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


def _show(changes: Sequence[Change], path: Path, as_json: bool) -> None:
    if as_json:
        answer("pins", [asdict(change) for change in changes])
        return
    for change in changes:
        click.echo(f"{change.name}: {change.before or 'new'} → {change.after or 'dropped'}", err=True)
    click.echo(f"{path}: {len(changes)} changes", err=True)
