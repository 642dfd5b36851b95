"""The options for what a plan says besides what its image says, handed over as one argument; they are nowhere else."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce, wraps
from typing import Any, Final

import click

from mvmnix.api import (
    DANGER_MEANINGS,
    DATA_HINT,
    LEAST_CPU,
    LEAST_MIB,
    MOST_CPU,
    MOST_KIB,
    MOST_MIB,
    MOST_SECONDS,
    MOST_SHARED_KIB,
    MOST_TASKS,
    MOST_VCPUS,
    MOST_WEIGHT,
    SHARE_HINT,
    Accelerator,
    Backend,
    DataDisk,
    Labels,
    Plan,
    PlanLimits,
    PlanOptions,
    Share,
    Start,
    parse_labels,
)
from mvmnix.cli.options.enum_choice import EnumChoice
from mvmnix.cli.options.environment import env_option
from mvmnix.cli.options.network import network_options
from mvmnix.cli.options.quantities import Size, Span, parse_size_in
from mvmnix.cli.options.secrets import SECRET_OPTIONS, references
from mvmnix.errors import UsageError
from mvmnix.model import SystemCalls, User, Verb

_SHARE: Final = click.option(
    "--share",
    "--volume",
    "-v",
    "shared",
    multiple=True,
    metavar="SRC:DST[:ro|rw]",
    help="Give the guest the directory SRC of this host as DST; read only, unless :rw is said. May be repeated.",
)


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


def _data_disk(_context: click.Context, _option: click.Parameter, value: str | None) -> DataDisk | None:
    if value is None:
        return None
    size, _, path = value.partition(":")
    try:
        return DataDisk(parse_size_in(size, "m"), path)
    except ValueError as error:
        raise UsageError(str(error), hint=DATA_HINT) from None


_DATA: Final = click.option(
    "--data",
    metavar="SIZE:PATH",
    callback=_data_disk,
    help="A disk of its own at PATH, writable, encrypted, and gone when the machine ends.",
)


def data_lines(plan: Plan) -> Iterator[str]:
    """A line that says what the guest gets, if it gets one."""
    if plan.data is not None:
        yield f"data disk of {plan.data.size_mib} MiB: the guest reads and writes it as {plan.data.path}, until it ends"


_BACKEND: Final = click.option(
    "--backend",
    type=EnumChoice(Backend),
    default=Backend.QEMU.value,
    show_default=True,
    help="What runs it. container is Preview, no microVM; firecracker and cloud-hypervisor are Planned: refused.",
)


def isolation_line(plan: Plan) -> str:
    """What will hold what the plan starts, as far as the plan says it; one line for people."""
    first, *others = (it.explained for it in plan.boundaries)
    return "; ".join((f"isolation: {first}", *(f"where KVM doesn't work: {it}" for it in others)))


def _user(_context: click.Context, _option: click.Parameter, value: str | None) -> User | None:
    if value is None:
        return None
    try:
        return User.parse(value)
    except ValueError as error:
        raise UsageError(str(error), hint="--user 1000, or --user UID:GID") from error


#: The machine's shape, on which templates depend too.
VCPUS: Final = click.option(
    "--vcpus", "-c", type=click.IntRange(1, MOST_VCPUS), help="Processors. Default: the image's."
)
MEMORY: Final = click.option(
    "--memory",
    "-m",
    "memory_mib",
    type=Size("m", LEAST_MIB, MOST_MIB),
    metavar="MIB",
    help="Memory: 512, 512m or 2g. Default: the image's.",
)
_WORKLOAD_OPTIONS: Final = (
    VCPUS,
    MEMORY,
    click.option(
        "--scratch", "scratch_mib", type=Size("m", 1, MOST_MIB), metavar="MIB", help="Scratch space, in memory."
    ),
    click.option(
        "--timeout",
        "wall_seconds",
        type=Span("s", 1, 2**31 - 1),
        metavar="SECONDS",
        help="Wall time of the run. Default: a day.",
    ),
    click.option(
        "--accelerator",
        type=EnumChoice(Accelerator),
        help="What must execute the guest. Default: any.",
    ),
    click.option(
        "--start",
        type=EnumChoice(Start),
        help="From what it may start: cold, by a boot alone, or any, also from a template (`mvm warm`). Default: any.",
    ),
    env_option("A variable for the guest's commands. May be repeated."),
    click.option("--workdir", "-w", "directory", default="", metavar="DIRECTORY", help="Where its commands run."),
    click.option("--user", "-u", metavar="UID[:GID]", callback=_user, help="As whom they run; never root."),
)
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
_NUMBER_TYPES: Final[Mapping[str, Callable[[int, int], click.ParamType[int]]]] = {
    "KIB": partial(Size, "k"),
    "SECONDS": partial(Span, "s"),
}
_LIMIT_OPTIONS: Final = (
    *(
        click.option(
            name, field, type=_NUMBER_TYPES.get(metavar, click.IntRange)(least, most), metavar=metavar, help=text
        )
        for name, field, least, most, metavar, text in _NUMBERS
    ),
    click.option(
        "--system-calls",
        type=EnumChoice(SystemCalls),
        help="The filter over its commands, at least as strict as the image's. Default: the image's.",
    ),
)


def _labels(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> Labels:
    try:
        return parse_labels(value)
    except ValueError as error:
        raise UsageError(str(error), hint="--label tier=web") from error


_VERBS: Final = click.option(
    "--verb",
    "verbs",
    multiple=True,
    # streams go to ports, which have no option; what serves some makes a plan for them
    type=EnumChoice((Verb.EXEC, Verb.SHELL, Verb.COPY, Verb.SNAPSHOT)),
    help="Grant this verb, if the image offers it, and none that is not named. May be repeated.",
)
_SNAPSHOT: Final = click.option(
    "--snapshot-with-secrets",
    is_flag=True,
    help="Allow snapshots of a guest that is told secrets; it goes on from one while they are the same.",
)
_LABELS: Final = click.option(
    "--label",
    "-l",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_labels,
    help="A label for `mvm ps --filter`. May be repeated.",
)
_OPTIONS: Final[tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...]] = (
    *_WORKLOAD_OPTIONS,
    _SHARE,
    _DATA,
    network_options,
    *SECRET_OPTIONS,
    _VERBS,
    _SNAPSHOT,
    _LABELS,
    *_LIMIT_OPTIONS,
    _BACKEND,
)
_LIMITS: Final = (*(field for _, field, *_ in _NUMBERS), "system_calls")
#: What goes into the noun as the options hand it over.
_UNCHANGED: Final = (
    *("command", "labels", "data", "network", "backend", "accelerator", "start", "directory", "user"),
    *("vcpus", "memory_mib", "scratch_mib", "wall_seconds", "snapshot_with_secrets"),
)


def plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options, for commands that make a plan; they, and the guest's command, are one argument `options`.

    Raises UsageError for what can't be meant.
    """

    @wraps(command)
    def collected(
        *,
        secrets: tuple[str, ...],
        secret_variables: tuple[str, ...],
        shared: tuple[str, ...],
        variables: Mapping[str, str],
        verbs: tuple[Verb, ...],
        **others: Any,
    ) -> Any:
        options = PlanOptions(
            secrets=references(secrets, secret_variables),
            shares=shares(shared),
            environment=variables,
            verbs=frozenset(verbs),
            limits=PlanLimits(**{name: others.pop(name) for name in _LIMITS}),
            **{name: others.pop(name) for name in _UNCHANGED},
        )
        return command(options=options, **others)

    return reduce(lambda made, option: option(made), reversed(_OPTIONS), collected)


def plan_option_names() -> frozenset[str]:
    """How these options are written, each of their names."""
    probe = click.command()(plan_options(lambda **_: None))
    return frozenset(name for param in probe.params for name in (*param.opts, *param.secondary_opts))
