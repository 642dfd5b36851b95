"""Chooses what signs a claim: the key of a role, or keyless Sigstore for an OIDC identity; the options for it."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Final, Self

import click

from mvmnix.cli.secrets import reference, secret
from mvmnix.config import SecretRef, SigningRule
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.keys import Role
from mvmnix.provenance import envelope

if TYPE_CHECKING:
    from mvmnix.provenance.sigstore import Instance

#: A trust configuration with hundreds of certificates is smaller, in bytes.
_LIMIT: Final = 4 << 20
_PUBLIC: Final = ("production", "staging")


@dataclass(frozen=True, slots=True)
class Choice:
    """What an invocation asks for on top of the configuration: everything it signs keyless, where, with what token."""

    keyless: bool = False
    sigstore: str = ""
    token: SecretRef | None = None

    @classmethod
    def of(cls, keyless: bool, token: str, instance: str | None, config: str) -> Self:
        """What was typed. Raises UsageError for what goes without --keyless, or not together."""
        if instance and config:
            raise UsageError("--sigstore and --trust-config are two answers to one question", hint="give one of them")
        where = instance or (os.path.realpath(config) if config else "")
        found = reference(token, "--identity-token") if token else None
        return cls(keyless or bool(where or token), where, found)

    def over(self, rule: SigningRule, roles: frozenset[Role]) -> SigningRule:
        """The configuration's rule with what was asked for; --keyless is about these roles."""
        return replace(
            rule,
            keyless=rule.keyless | (roles if self.keyless else frozenset()),
            sigstore=self.sigstore or rule.sigstore,
            token=self.token or rule.token,
        )


def signing(command: Callable[..., None]) -> Callable[..., None]:
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
        "--sigstore", "instance", type=click.Choice(_PUBLIC), help="The public instance. Default: production."
    )
    @click.option(
        "--trust-config", "config", default="", type=click.Path(), help="Another instance: its trust configuration."
    )
    @wraps(command)
    def chosen(keyless: bool, token: str, instance: str | None, config: str, **others: object) -> None:
        command(choice=Choice.of(keyless, token, instance, config), **others)

    return chosen


def at_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def sign(statement: bytes, rule: SigningRule) -> bytes:
    """The canonical bundle of a statement that CA, log and timestamp authority were asked about. Raises MvmnixError."""
    from mvmnix.provenance import sigstore  # noqa: PLC0415 - a third of a second, which keys don't pay

    token = None if rule.token is None else secret(rule.token, "the identity token").strip()
    made = sigstore.sign(statement, token=token, interactive=at_terminal(), where=_where(rule))
    bundle = envelope.parse_foreign(made)
    if not isinstance(bundle, envelope.Bundle) or bundle.payload != statement:
        raise MvmnixError("the library signed something else", hint="report this as a bug")
    return bundle.to_bytes()


def prepared(rule: SigningRule) -> None:
    """Look whether signing keyless can begin at all, before minutes are spent. Raises UsageError."""
    if rule.token is not None:
        secret(rule.token, "the identity token")
    _where(rule)


def _where(rule: SigningRule) -> "Instance | bytes":
    """The instance that signs, by its name or by its trust configuration. Raises UsageError."""
    from mvmnix.provenance import sigstore  # noqa: PLC0415 - as above

    if rule.sigstore in _PUBLIC:
        return sigstore.Instance(rule.sigstore)
    try:
        data = _trust_config(rule.sigstore)
        sigstore.look_at_config(data)
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        hint = "name a ClientTrustConfig: --trust-config FILE, or `sigstore` under [signing] in config.toml"
        raise UsageError(f"{rule.sigstore} is no trust configuration: {told}", hint=hint) from error
    return data


def _trust_config(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - bounded
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise ValueError(f"it is larger than {_LIMIT} bytes")
    return data
