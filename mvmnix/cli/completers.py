"""Completes parameters with names of what is kept, files and directories; loads nothing until a shell asks."""

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: By this variable a shell asks for completions; click's name for it.
COMPLETE: Final = "_MVM_COMPLETE"

#: Completes a parameter, as click calls it.
type Completer = Callable[[click.Context, click.Parameter, str], list[str]]


#: Completes it with what isn't a text alone, such as the shell's own paths.
type ItemCompleter = "Callable[[click.Context, click.Parameter, str], list[CompletionItem[Any]]]"


def _completer(names: Callable[[], Iterable[str]]) -> Completer:
    """What completes with names."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        from mvmnix.api import has_state  # noqa: PLC0415

        if not has_state(os.environ):
            return []
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def _machines(*states: str) -> Completer:
    def names() -> tuple[str, ...]:
        from mvmnix.api import machine_names  # noqa: PLC0415

        return machine_names(os.environ, states)

    return _completer(names)


def _images() -> tuple[str, ...]:
    from mvmnix.api import image_names  # noqa: PLC0415

    return image_names(os.environ)


def _plans() -> tuple[str, ...]:
    from mvmnix.api import plan_digests  # noqa: PLC0415

    return plan_digests(os.environ)


def _paths(kind: str) -> ItemCompleter:
    """What has the shell complete paths: `file` or `dir`."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> "list[CompletionItem[Any]]":
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        return [CompletionItem(incomplete, type=kind)]

    return complete


def _attributes(flake: str) -> tuple[str, ...]:
    from mvmnix.api import attribute_names  # noqa: PLC0415

    return attribute_names(os.environ, flake)


def _flake(*, kept: bool) -> ItemCompleter:
    """Completes FLAKE#ATTR: directories before the sign, attributes behind it; `kept`: or image:NAME."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> "list[CompletionItem[Any]]":
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        from mvmnix.api import KEPT_SCHEME  # noqa: PLC0415

        flake, mark, attribute = incomplete.partition("#")
        if mark:
            before, found = f"{flake}{mark}", [it for it in _attributes(flake) if it.startswith(attribute)]
        elif kept and incomplete.startswith(KEPT_SCHEME):
            before, found = KEPT_SCHEME, kept_image(context, parameter, incomplete.removeprefix(KEPT_SCHEME))
        else:
            return directory(context, parameter, incomplete)
        return [CompletionItem(f"{before}{name}") for name in found]

    return complete


any_machine = _machines()
running_machine = _machines("starting", "running", "paused", "stopping")
created_machine = _machines("created")
ended_machine = _machines("ended", "dead", "created")
kept_image = _completer(_images)
kept_plan = _completer(_plans)
file = _paths("file")
directory = _paths("dir")
flake_reference = _flake(kept=False)
flake_or_image = _flake(kept=True)
