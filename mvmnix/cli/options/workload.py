"""The options for what a plan runs, as whom and with which means; each is read where it was typed."""

import re
from collections.abc import Callable
from functools import reduce
from typing import Any, Final, override

import click

from mvmnix.api import Accelerator
from mvmnix.cli.options.environment import env_option
from mvmnix.errors import UsageError
from mvmnix.model import User

_LEAST_MIB: Final = 96
_MOST_MIB: Final = 2**20
_SUFFIXES: Final = {"": 1, "m": 1, "g": 1024}


class MemorySize(click.ParamType[int]):
    """A number of MiB, or one with the suffix `m` or `g`, as podman-run(1) has them."""

    name = "size"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of MiB, from 96 to 1 TiB."""
        found = re.fullmatch(r"([0-9]{1,7})([mg]?)", str(value).lower(), re.ASCII)
        size = int(found[1]) * _SUFFIXES[found[2]] if found else 0
        if not _LEAST_MIB <= size <= _MOST_MIB:
            self.fail(f"{value!r} is not a size from 96m to 1024g: write MiB, or 512m, or 2g.", param, ctx)
        return size


def _user(_context: click.Context, _option: click.Parameter, value: str | None) -> User | None:
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,10})(?::([0-9]{1,10}))?", value, re.ASCII)
    try:
        return User(int(found[1]), int(found[2] or found[1])) if found else _unknown(value)
    except ValueError as error:
        raise UsageError(str(error), hint="--user 1000, or --user UID:GID") from error


def _unknown(value: str) -> User:
    raise ValueError(f"not a numeric user: {value[:80]!r}; mvm reads no user names from an image")


def _accelerator(_context: click.Context, _option: click.Parameter, value: str | None) -> Accelerator | None:
    return None if value is None else Accelerator(value)


_OPTIONS: Final = (
    click.option("--vcpus", "-c", type=click.IntRange(1, 64), help="Processors. Default: the image's."),
    click.option(
        "--memory",
        "-m",
        "memory_mib",
        type=MemorySize(),
        metavar="MIB",
        help="Memory: 512, 512m or 2g. Default: the image's.",
    ),
    click.option(
        "--scratch", "scratch_mib", type=click.IntRange(1, _MOST_MIB), metavar="MIB", help="Scratch space, in memory."
    ),
    click.option(
        "--timeout",
        "wall_seconds",
        type=click.IntRange(1, 2**31 - 1),
        metavar="SECONDS",
        help="Wall time of the run. Default: a day.",
    ),
    click.option(
        "--accelerator",
        type=click.Choice([each.value for each in Accelerator]),
        callback=_accelerator,
        help="What must execute the guest. Default: any.",
    ),
    env_option("A variable for the guest's commands. May be repeated."),
    click.option("--workdir", "-w", "directory", default="", metavar="DIRECTORY", help="Where its commands run."),
    click.option("--user", "-u", metavar="UID[:GID]", callback=_user, help="As whom they run; never root."),
)
#: What a command is handed for these.
FIELDS: Final = (
    *("vcpus", "memory_mib", "scratch_mib", "wall_seconds", "accelerator"),
    *("variables", "directory", "user"),
)


def workload_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add these options; the command is handed each of `FIELDS`. Raises UsageError for what can't be meant."""
    return reduce(lambda made, option: option(made), reversed(_OPTIONS), command)
