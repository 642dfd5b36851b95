"""How failures and results are told: words on stderr, each stranger's string escaped; JSON on stdout if asked for.

What a guest said goes on a standard stream byte by byte into files and pipes, as text to a terminal.
"""

import json
import os
import select
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

import click

from mvmnix.cli.verbosity import is_quiet
from mvmnix.errors import MvmnixError, Reason, RefusedError
from mvmnix.formats.escaping import TerminalStream, escape
from mvmnix.plural import counted

if TYPE_CHECKING:
    from mvmnix.api import Loop

#: The one envelope of every `--json` answer.
ENVELOPE_VERSION = 1
MIB = 1 << 20
#: Under this key click's context holds the notices that its command has shown.
_SHOWN: Final = "mvmnix.notices"
#: Without it a guest could write over what stands on the user's screen, or have the terminal answer for the user.
raw_option = click.option(
    "--raw",
    is_flag=True,
    help="Give a terminal the guest's bytes raw, control sequences too.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def color() -> bool | None:
    """Whether stderr gets colours: never where NO_COLOR says something, else where it is a terminal (None)."""
    return False if os.environ.get("NO_COLOR") else None


def _told(text: str) -> str:
    """Escaped, and with its further lines set in, so that none of them looks like one of ours."""
    return escape(text).replace("\n", "\n        ")


def explaining(reasons: Iterable[Reason]) -> str:
    """Return the commands that explain the codes of these reasons, each once."""
    return "; ".join(dict.fromkeys(f"mvm explain {reason.code}" for reason in reasons))


def tell(error: MvmnixError) -> int:
    """Tell a failure on stderr; returns the exit code."""
    match error:
        case RefusedError():
            for reason in error.reasons:
                click.secho(
                    _told(f"mvm: {reason.what}: refused [{reason.code}]"), err=True, fg="red", bold=True, color=color()
                )
                click.echo(_told(f"  why:  {reason.why}"), err=True)
                click.echo(_told(f"  next: {reason.hint}"), err=True)
            click.echo(f"  more: {explaining(error.reasons)}", err=True)
        case _:
            click.secho(_told(f"mvm: {error.message}"), err=True, fg="red", color=color())
            if error.hint:
                click.echo(_told(f"  next: {error.hint}"), err=True)
    if error.command:
        click.echo(_told(f"  ran:  {error.command}"), err=True)
    if error.log:
        click.echo(_told(f"  log:  {error.log}"), err=True)
    return error.exit_code


def is_news(text: str) -> bool:
    """Whether the command that runs in this thread shows this notice for the first time, and may show notices."""
    context = click.get_current_context(silent=True)
    shown: set[str] = set() if context is None else context.meta.setdefault(_SHOWN, set())
    is_first = text not in shown
    shown.add(text)
    return is_first and not is_quiet()


def notice(text: str) -> None:
    """A line for the user, on stderr, once in a command; none if quiet was asked for."""
    if is_news(text):
        click.secho(escape(f"mvm: {text}"), err=True, fg="yellow", color=color())


class Terminal:
    """The frontend of the command line (api/frontend.py): notices on stderr, passwords asked for at a terminal."""

    def notice(self, text: str) -> None:
        """Print a line on stderr."""
        notice(text)

    def can_ask(self) -> bool:
        """Whether standard input and standard error are a terminal."""
        return os.isatty(0) and os.isatty(2)  # the numbers: a stream that was closed is None in sys

    def ask(self, what: str) -> str:
        """Ask for a secret, without echo."""
        asked: str = click.prompt(what, hide_input=True, err=True)
        return asked

    def interruptible(self, loop: "Loop") -> AbstractContextManager[None]:
        """Have SIGHUP, SIGINT and SIGTERM raised where the loop waits."""
        from mvmnix.api import stopping_signals  # noqa: PLC0415 - what starts no machine does without

        return stopping_signals(loop)


TERMINAL: Final = Terminal()


def answer(kind: str, result: object) -> None:
    """Print a result as JSON on stdout, in the one envelope: version, kind, result."""
    click.echo(json.dumps({"version": ENVELOPE_VERSION, "kind": kind, "result": result}, indent=2, sort_keys=True))


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows on stdout, escaped and never cut: a digest is there to be copied."""
    shown = [header, *(tuple(map(escape, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def short(digests: Iterable[str]) -> dict[str, str]:
    """The beginnings of digests for a table, by the digests: 12 digits, or as many as it takes to tell them apart."""
    found = {text: text.removeprefix("sha256:") for text in digests}
    count = next(
        count for count in range(12, 65, 4) if len({it[:count] for it in found.values()}) == len(found) or count == 64
    )
    return {text: digits[:count] for text, digits in found.items()}


def tell_freed(what: str, leftovers: int, size: int, *, dry: bool) -> None:
    """A line on stderr: what went, or would go."""
    verb = "would free" if dry else "freed"
    click.echo(f"{verb} {size / MIB:.1f} MiB: {what}, {counted(leftovers, 'leftover')} of killed writers", err=True)


def is_reader_gone() -> bool:
    """Return whether standard output is a pipe or socket that its reader has closed."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def shape(*, terminal: bool, raw: bool) -> Callable[[bytes], bytes] | None:
    """What is made of a guest's bytes before they are put there; None: nothing. The one rule about it."""
    return TerminalStream() if terminal and not raw else None
