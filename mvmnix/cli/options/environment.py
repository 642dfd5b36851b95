"""The option by which a command in a guest gets variables, and how NAME=VALUE is read."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from mvmnix.errors import UsageError

_HINT: Final = (
    "--env NAME=VALUE; the value of a variable of your own is not taken for it, and a secret goes by reference: "
    "--secret-env NAME=env:NAME, where a plan is made"
)


def env_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --env; the command is handed `variables`, a mapping. Raises UsageError for what has no value."""
    return click.option("--env", "-e", "variables", multiple=True, metavar="NAME=VALUE", callback=_read, help=help_text)


def _read(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> Mapping[str, str]:
    pairs = [text.partition("=") for text in value]
    if bad := [name for name, equals, _ in pairs if not name or not equals]:
        raise UsageError(f"the variable {bad[0]!r} has no value", hint=_HINT)
    return {name: value for name, _, value in pairs}
