"""The options for what a plan says besides what its image says, handed over as one argument; they are nowhere else."""

from collections.abc import Callable
from functools import reduce, wraps
from typing import Any, Final

import click

from mvmnix.api import Labels, PlanOptions, parse_labels
from mvmnix.cli.options.backend import backend_option
from mvmnix.cli.options.data import data_option
from mvmnix.cli.options.limits import limit_options
from mvmnix.cli.options.network import network_options
from mvmnix.cli.options.secrets import references, secret_options
from mvmnix.cli.options.shares import share_option, shares
from mvmnix.cli.options.workload import FIELDS, workload_options
from mvmnix.errors import UsageError
from mvmnix.model import Verb


def _verbs(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> frozenset[Verb]:
    return frozenset(map(Verb, value))


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
    type=click.Choice([Verb.EXEC.value, Verb.SHELL.value, Verb.COPY.value]),
    callback=_verbs,
    help="Grant a verb, if the image offers it. Default: none. May be repeated.",
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
    workload_options,
    share_option,
    data_option,
    network_options,
    secret_options,
    _VERBS,
    _LABELS,
    limit_options,
    backend_option,
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
        **others: Any,
    ) -> Any:
        names = ("command", "verbs", "labels", "data", "network", "limits", "backend")
        named = {name: others.pop(name) for name in names}
        means = {name: others.pop(name) for name in FIELDS}
        options = PlanOptions(
            secrets=references(secrets, secret_variables),
            shares=shares(shared),
            environment=means.pop("variables"),
            **means,
            **named,
        )
        return command(options=options, **others)

    return reduce(lambda made, option: option(made), reversed(_OPTIONS), collected)


def plan_option_names() -> frozenset[str]:
    """How these options are written, each of their names."""
    probe = click.command()(plan_options(lambda **_: None))
    return frozenset(name for param in probe.params for name in (*param.opts, *param.secondary_opts))
