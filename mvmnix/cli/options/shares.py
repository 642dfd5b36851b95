"""The option by which a plan gives a guest directories of the host, and how a plan's shares are shown."""

import os
from collections.abc import Callable, Iterator, Sequence

import click

from mvmnix.api import DANGER_MEANINGS, SHARE_HINT, Plan, Share
from mvmnix.errors import UsageError


def share_option[F: Callable[..., object]](command: F) -> F:
    """Add --share, which is --volume too, for `shares`."""
    return click.option(
        "--share",
        "--volume",
        "-v",
        "shared",
        multiple=True,
        metavar="SRC:DST[:ro|rw]",
        help="Give the guest the directory SRC of this host as DST; read only, unless :rw is said. May be repeated.",
    )(command)


def shares(texts: Sequence[str]) -> tuple[Share, ...]:
    """What was typed. A relative directory is meant from here. Raises UsageError."""
    try:
        return tuple(Share.parse(_from_here(text)) for text in texts)
    except ValueError as error:
        raise UsageError(str(error), hint=SHARE_HINT) from None


def share_lines(plan: Plan) -> Iterator[str]:
    """For each share of a plan a line that says what the guest may do, and what was acknowledged."""
    for it in plan.shares:
        may = "reads and writes" if it.writable else "reads, and sees what changes in," if it.follow else "reads"
        yield f"shared directory {it.host}: the guest {may} it as {it.guest}"
        yield from (f"acknowledged for {it.host}: {DANGER_MEANINGS[danger]} [{danger}]" for danger in it.acknowledged)


def _from_here(text: str) -> str:
    host, colon, rest = text.partition(":")
    return f"{os.path.abspath(host)}{colon}{rest}" if host else text  # noqa: PTH100 - links stay, to be refused
