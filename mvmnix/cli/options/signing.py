"""The options of keyless signing, handed over as one argument, and how references to secrets are read from options.

A reference is read, never a secret itself.
"""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mvmnix.api import PUBLIC_INSTANCES, KeylessChoice
from mvmnix.errors import UsageError

if TYPE_CHECKING:
    from mvmnix.config import SecretRef


def secret_ref(text: str, option: str) -> "SecretRef":
    """The reference given for an option. A relative path is taken from here. Raises UsageError, without the text."""
    from mvmnix.config import SecretRef  # noqa: PLC0415 - who gives no reference doesn't pay for it

    try:
        place, colon, name = text.partition(":")
        return SecretRef.parse(f"{place}{colon}{Path(name).absolute()}" if place == "file" and name else text)
    except ValueError as error:
        hint = f"{option} env:NAME or {option} file:PATH; a secret itself would be seen by everybody on this machine"
        raise UsageError(f"{option} takes a reference, not the secret", hint=hint) from error


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
