"""What may be said of a plan besides what its image says: the verbs that it grants, its labels and limits."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from mvmnix.errors import Reason, ReasonCode, RefusedError, UsageError
from mvmnix.launch.labels import Labels, parse
from mvmnix.launch.limits import Limits
from mvmnix.launch.plan import Plan
from mvmnix.model import Image, Posture, Verb


def verbs_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which verbs a plan grants, for commands that make one."""
    return click.option(
        "--verb",
        "verbs",
        multiple=True,
        # streams go to ports, which nobody has named; whoever serves some makes a plan for them
        type=click.Choice([Verb.EXEC.value, Verb.SHELL.value, Verb.COPY.value]),
        help="Grant a verb, if the image offers it. Default: none. May be repeated.",
    )(command)


def grantable(image: Image, verbs: tuple[str, ...]) -> frozenset[Verb]:
    """The verbs, if a plan for this image may grant them. Raises RefusedError [verb-not-granted]."""
    wanted = frozenset(map(Verb, verbs))
    sealed = image.posture is Posture.SEALED
    if refused := sorted(wanted if sealed else wanted - image.verbs):
        why = "the image is sealed" if sealed else "the image doesn't offer it"
        hint = "add it to the image's verbs (posture dev), and build it"
        raise RefusedError(*(Reason(ReasonCode.VERB_NOT_GRANTED, verb, why, hint) for verb in refused))
    return wanted


def labels_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """What labels a plan gets, for commands that make one."""
    return click.option(
        "--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label for `mvm ps --filter`. May be repeated."
    )(command)


def within(made: Plan, image: Image, limits: Limits) -> Plan:
    """The plan with these limits. Raises UsageError for a filter that lets through more than the image's.

    And for a limit of what is written to shares where the plan has none for writing; so they come before.
    """
    if (tier := limits.system_calls) and not tier.within(image.system_calls):
        why = f"--system-calls {tier} lets through more than the image's filter, which is {image.system_calls}"
        raise UsageError(why, hint=f'build the image with systemCalls = "{tier}"; docs/guests.md says what that opens')
    try:
        return replace(made, limits=limits)
    except ValueError as error:
        raise UsageError(str(error), hint="--share SRC:DST:rw, or leave out --share-limit") from error


def parsed_labels(texts: tuple[str, ...]) -> Labels:
    """The labels that were typed. Raises UsageError."""
    try:
        return parse(texts)
    except ValueError as error:
        raise UsageError(str(error), hint="--label tier=web") from error


def labelled(made: Plan, texts: tuple[str, ...]) -> Plan:
    """The plan with these labels. Raises UsageError."""
    return replace(made, labels=parsed_labels(texts))
