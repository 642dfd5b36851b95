"""The option by which a plan gives a guest directories of the host, and how a plan's shares are shown."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import click

from mvmnix.cli.house import House
from mvmnix.errors import UsageError
from mvmnix.launch.plan import Plan
from mvmnix.launch.shares.dangers import MEANINGS, refuse_dangers
from mvmnix.launch.shares.opening import open_directory, opened, refuse_owner
from mvmnix.launch.shares.share import Share

_HINT: Final = (
    "--share DIRECTORY:/PLACE (read only), --share DIRECTORY:/PLACE:rw, --share DIRECTORY:/PLACE:ro,follow; "
    "docs/shares.md has the rest"
)


def share_option[F: Callable[..., object]](command: F) -> F:
    """Add --share, for `shares`."""
    return click.option(
        "--share",
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
        raise UsageError(str(error), hint=_HINT) from None


def refuse_shares(rooms: House, wanted: Sequence[Share]) -> None:
    """Refuse, before anything is built, what would be refused when a machine starts, as far as it is there already.

    Raises RefusedError [share-forbidden, share-unavailable], which is logged.
    """
    with rooms.recorded():
        for share in wanted:
            _judge(share, tuple(rooms.roots.paths.values()))


def with_shares(plan: Plan, wanted: tuple[Share, ...]) -> Plan:
    """The same plan with shares. Raises UsageError where they don't go together."""
    try:
        return replace(plan, shares=wanted)
    except ValueError as error:
        raise UsageError(str(error), hint=_HINT) from error


def told(plan: Plan) -> Iterator[str]:
    """For each share of a plan a line that says what the guest may do, and what was acknowledged."""
    for it in plan.shares:
        may = "reads and writes" if it.writable else "reads, and sees what changes in," if it.follow else "reads"
        yield f"shared directory {it.host}: the guest {may} it as {it.guest}"
        yield from (f"acknowledged for {it.host}: {MEANINGS[danger]} [{danger}]" for danger in it.acknowledged)


def _judge(share: Share, own: Sequence[str]) -> None:
    try:
        fd = open_directory(share.host)
    except FileNotFoundError:  # the plan may be for another host
        refuse_dangers(share, None, own)
        return
    except OSError:
        fd = opened(share)  # says what is wrong with it
    try:
        refuse_dangers(share, fd, own)
        refuse_owner(share, fd)
    finally:
        with suppress(OSError):
            os.close(fd)


def _from_here(text: str) -> str:
    host, colon, rest = text.partition(":")
    return f"{os.path.abspath(host)}{colon}{rest}" if host else text  # noqa: PTH100 - links stay, to be refused
