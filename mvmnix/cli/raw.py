"""Puts what a guest said on a standard stream: byte by byte into files and pipes, as text to a terminal."""

from collections.abc import Callable, Iterable
from typing import TextIO

import click

from mvmnix.escaping import TerminalStream

#: Without it a guest could write over what stands on the user's screen, or have the terminal answer for the user.
raw_option = click.option(
    "--raw",
    is_flag=True,
    help="Give a terminal the guest's bytes raw, control sequences too.",
)


def shape(*, terminal: bool, raw: bool) -> Callable[[bytes], bytes] | None:
    """What is made of a guest's bytes before they are put there; None: nothing. The one rule about it."""
    return TerminalStream() if terminal and not raw else None


def show(chunks: Iterable[bytes], to: TextIO, *, raw: bool = False) -> None:
    """Each chunk as soon as it is there; `raw` gives a terminal its control sequences too."""
    shown = shape(terminal=to.isatty(), raw=raw) or bytes
    for chunk in chunks:
        to.buffer.write(shown(chunk))
        to.buffer.flush()
