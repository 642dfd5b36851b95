"""The options of keyless signing, handed over as one argument."""

import os
from collections.abc import Callable
from functools import wraps

import click

from mvmnix.api import PUBLIC_INSTANCES, KeylessChoice
from mvmnix.cli.options.own_secrets import secret_ref
from mvmnix.errors import UsageError


def signing_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of keyless signing, handed over as one argument `choice`."""

    @click.option("--keyless", is_flag=True, help="Sign for an OIDC identity with Sigstore, not with a key.")
    @click.option(
        "--identity-token",
        "token",
        default="",
        metavar="env:NAME|file:PATH",
        help="Where the OIDC token lies. Default: the CI job's; at a terminal, a log-in in a browser.",
    )
    @click.option(
        "--sigstore", "instance", type=click.Choice(PUBLIC_INSTANCES), help="The public instance. Default: production."
    )
    @click.option(
        "--trust-config", "config", default="", type=click.Path(), help="Another instance: its trust configuration."
    )
    @wraps(command)
    def chosen(keyless: bool, token: str, instance: str | None, config: str, **others: object) -> None:
        command(choice=keyless_choice(keyless, token, instance, config), **others)

    return chosen


def keyless_choice(keyless: bool, token: str, instance: str | None, config: str) -> KeylessChoice:
    """What was typed. Raises UsageError for options that exclude each other."""
    if instance and config:
        raise UsageError("--sigstore and --trust-config are two answers to one question", hint="give one of them")
    where = instance or (os.path.realpath(config) if config else "")
    found = secret_ref(token, "--identity-token") if token else None
    return KeylessChoice(keyless or bool(where or token), where, found)
