"""The options by which a plan is told of limits, handed over as one argument."""

from collections.abc import Callable
from functools import reduce, wraps
from typing import Any, Final

import click

from mvmnix.api import (
    LEAST_CPU,
    MOST_CPU,
    MOST_KIB,
    MOST_SECONDS,
    MOST_SHARED_KIB,
    MOST_TASKS,
    MOST_WEIGHT,
    PlanLimits,
)
from mvmnix.syscall_tier import SystemCalls

#: Option, field of the limits, bounds, what the number counts, help.
_NUMBERS: Final = (
    ("--tasks", "tasks", 1, MOST_TASKS, "NUMBER", "Processes and threads in the guest."),
    (
        *("--cpu-percent", "cpu_percent", LEAST_CPU, MOST_CPU, "PERCENT"),
        "Of one processor of the host, for the whole machine. Default: its processors and half of one more.",
    ),
    (
        *("--cpu-weight", "cpu_weight", 1, MOST_WEIGHT, "WEIGHT"),
        "Relative CPU share under contention (cgroup cpu.weight). Default: 100.",
    ),
    ("--console-log", "console_kib", 1, MOST_KIB, "KIB", "What is kept of its console. Default: 4096."),
    (
        *("--output-log", "output_kib", 0, MOST_KIB, "KIB"),
        "What is kept of what its command prints, for mvm logs; 0: nothing. Default: 16384.",
    ),
    (
        *("--idle", "idle_seconds", 1, MOST_SECONDS, "SECONDS"),
        "End the machine after SECONDS without input or output. Default: never.",
    ),
    (
        *("--share-limit", "shared_kib", 1, MOST_SHARED_KIB, "KIB"),
        "End the machine once it has written KIB to its shares. Default: never.",
    ),
)
_OPTIONS: Final = (
    *(
        click.option(name, field, type=click.IntRange(low, high), metavar=metavar, help=text)
        for name, field, low, high, metavar, text in _NUMBERS
    ),
    click.option(
        "--system-calls",
        type=click.Choice([each.value for each in SystemCalls]),
        help="The filter over its commands, at least as strict as the image's. Default: the image's.",
    ),
)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a machine may use and for how long it may do nothing, as one argument `limits`."""

    @wraps(command)
    def limited(*, system_calls: str | None, **others: Any) -> Any:
        numbers = {field: others.pop(field) for _, field, *_ in _NUMBERS}
        tier = None if system_calls is None else SystemCalls(system_calls)
        return command(limits=PlanLimits(system_calls=tier, **numbers), **others)

    return reduce(lambda made, option: option(made), reversed(_OPTIONS), limited)
