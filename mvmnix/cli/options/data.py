"""The option by which a plan gives a machine a disk for data, and how a plan's disk is shown."""

from collections.abc import Callable, Iterator

import click

from mvmnix.api import DATA_HINT, DataDisk, Plan
from mvmnix.errors import UsageError


def _parsed(_context: click.Context, _option: click.Parameter, value: str | None) -> DataDisk | None:
    try:
        return None if value is None else DataDisk.parse(value)
    except ValueError as error:
        raise UsageError(str(error), hint=DATA_HINT) from None


def data_option[F: Callable[..., object]](command: F) -> F:
    """Add --data; the command is handed a `DataDisk` or None. Raises UsageError for what is none."""
    return click.option(
        "--data",
        metavar="MIB:PATH",
        callback=_parsed,
        help="A disk of its own at PATH, writable, encrypted, and gone when the machine ends.",
    )(command)


def data_lines(plan: Plan) -> Iterator[str]:
    """A line that says what the guest gets, if it gets one."""
    if plan.data is not None:
        yield f"data disk of {plan.data.size_mib} MiB: the guest reads and writes it as {plan.data.path}, until it ends"
