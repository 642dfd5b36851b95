"""The options by which a plan is told of secrets, by reference, and how a plan's secrets are shown."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from mvmnix.api import Plan, SecretReference, SecretTarget
from mvmnix.errors import UsageError

_HINT: Final = (
    "NAME=env:VARIABLE, NAME=file:PATH, NAME=keyring:SERVICE/NAME or NAME='command:/PATH WORD…', for instance "
    "--secret DB_PASSWORD=env:DB_PASSWORD; never the secret itself, which everybody on this machine could see"
)


SECRET_OPTIONS: Final = (
    click.option(
        "--secret",
        "secrets",
        multiple=True,
        metavar="NAME=REFERENCE",
        help="A secret that the guest finds in /run/secrets/NAME: env:VARIABLE, file:PATH, keyring:SERVICE/NAME or "
        "command:WORDS, looked up when the machine starts. May be repeated.",
    ),
    click.option(
        "--secret-env",
        "secret_variables",
        multiple=True,
        metavar="NAME=REFERENCE",
        help="The same as the variable NAME of the guest's command.",
    ),
)


def references(secrets: tuple[str, ...], variables: tuple[str, ...]) -> tuple[SecretReference, ...]:
    """What was typed for the two options. Raises UsageError, which repeats nothing that could be a secret."""
    typed = [(text, SecretTarget.FILE) for text in secrets] + [(text, SecretTarget.VARIABLE) for text in variables]
    try:
        return tuple(SecretReference.parse(_from_here(text), target) for text, target in typed)
    except ValueError as error:
        raise UsageError(str(error), hint=_HINT) from None


def _from_here(text: str) -> str:
    """A relative path is meant from here."""
    name, file, path = text.partition("=file:")
    return f"{name}{file}{Path(path).absolute()}" if path else text


def secret_lines(plan: Plan) -> Iterator[str]:
    """For each secret of a plan a line that says who will see it."""
    for it in plan.secrets:
        yield f"guest-visible secret {it.name}: from {it}, as {it.place}; what runs in the guest can read and print it"
