"""`mvm pin`: writes the lock files of packages and wheels, and fetches what they pin."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mvmnix.api import DependencyDepth, PinnedLock, add_packages, fetch_pins, pin_wheels, update_packages
from mvmnix.cli.options.enum_choice import EnumChoice
from mvmnix.cli.output import answer
from mvmnix.cli.verbosity import is_quiet
from mvmnix.plural import counted


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
    type=EnumChoice(DependencyDepth),
    default=DependencyDepth.CLOSURE.value,
    help="Which dependencies to pin with it.",
)
@click.option("--no-depends", "reach", flag_value=DependencyDepth.ALONE.value, help="Pin NAME alone: --reach alone.")
@_LOCK_DIR
@_JSON
def debian(names: tuple[str, ...], suite: str, reach: DependencyDepth, lock_dir: Path | None, as_json: bool) -> None:
    """Add Debian packages, with everything they depend on, from apt's lists."""
    with fetch_bar() as bar:
        _show(add_packages(names, suite, DependencyDepth(reach), lock_dir, bar), as_json)


@pin.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@_LOCK_DIR
@_JSON
def update(names: tuple[str, ...], lock_dir: Path | None, as_json: bool) -> None:
    """Refresh pinned Debian packages: all, or NAMEs and what was built from the same sources."""
    with fetch_bar() as bar:
        _show(update_packages(names, lock_dir, bar), as_json)


@pin.command()
@_LOCK_DIR
@_JSON
def python(lock_dir: Path | None, as_json: bool) -> None:
    """Pin the wheels that mvm itself needs, as pyproject.toml asks for them."""
    with fetch_bar() as bar:
        _show(pin_wheels(lock_dir, bar), as_json)


@pin.command()
@click.option("--store-only", is_flag=True, help="Leave the Nix store alone.")
@_LOCK_DIR
def fetch(store_only: bool, lock_dir: Path | None) -> None:
    """Fetch every pin by its hash, and make it valid in the Nix store that mvm uses."""
    with fetch_bar() as bar:
        found = fetch_pins(lock_dir, bar, store_only=store_only)
    added = "" if found.added is None else f", {found.added} new in {found.where}"
    click.echo(f"{counted(found.pins, 'pin is', 'pins are')} in the source store{added}", err=True)


def _show(made: PinnedLock, as_json: bool) -> None:
    if as_json:
        answer("pins", [asdict(change) for change in made.changes])
        return
    for change in made.changes:
        click.echo(f"{change.name}: {change.before or 'new'} → {change.after or 'dropped'}", err=True)
    click.echo(f"{made.path}: {counted(len(made.changes), 'change')}", err=True)
