"""The options for what a plan says besides what its image says, handed over as one argument."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from mvmnix.api.plans import PlanOptions
from mvmnix.cli.confidences import references
from mvmnix.cli.shares import shares
from mvmnix.errors import UsageError
from mvmnix.launch.labels import Labels, parse
from mvmnix.model import Verb


def _verbs(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> frozenset[Verb]:
    return frozenset(map(Verb, value))


def verbs_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which verbs a plan grants, for commands that make one; they are handed a frozenset of `Verb`."""
    return click.option(
        "--verb",
        "verbs",
        multiple=True,
        # streams go to ports, which have no option; what serves some makes a plan for them
        type=click.Choice([Verb.EXEC.value, Verb.SHELL.value, Verb.COPY.value]),
        callback=_verbs,
        help="Grant a verb, if the image offers it. Default: none. May be repeated.",
    )(command)


def _labels(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> Labels:
    try:
        return parse(value)
    except ValueError as error:
        raise UsageError(str(error), hint="--label tier=web") from error


def labels_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """What labels a plan gets, for commands that make one; they are handed `Labels`. Raises UsageError."""
    return click.option(
        "--label",
        "labels",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_labels,
        help="A label for `mvm ps --filter`. May be repeated.",
    )(command)


def plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hand over what the options say that are named here, and the command of the guest, as one argument `options`.

    Goes below the options themselves. Raises UsageError for a secret or a share that is none.
    """

    @wraps(command)
    def collected(
        *,
        secrets: tuple[str, ...],
        secret_variables: tuple[str, ...],
        shared: tuple[str, ...],
        **others: Any,
    ) -> Any:
        named = {name: others.pop(name) for name in ("command", "verbs", "labels", "data", "limits", "backend")}
        options = PlanOptions(secrets=references(secrets, secret_variables), shares=shares(shared), **named)
        return command(options=options, **others)

    return collected
