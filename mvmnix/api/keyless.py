"""Signs statements keyless: with Sigstore, for an OIDC identity."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mvmnix.api.own_secrets import read_secret
from mvmnix.config import SecretRef, SigningRule
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.keys import Role
from mvmnix.provenance.bundle import envelope

if TYPE_CHECKING:
    from mvmnix.provenance.identity.sigstore import Instance

#: A trust configuration with hundreds of certificates is smaller, in bytes.
_LIMIT: Final = 4 << 20
#: Instances of Sigstore that are known by a name.
PUBLIC_INSTANCES: Final = ("production", "staging")


@dataclass(frozen=True, slots=True)
class KeylessChoice:
    """What one operation asks for on top of the configuration: keyless signing, where, with what token."""

    keyless: bool = False
    sigstore: str = ""
    token: SecretRef | None = None

    def over(self, rule: SigningRule, roles: frozenset[Role]) -> SigningRule:
        """The configuration's rule with what was asked for, which is about these roles."""
        return replace(
            rule,
            keyless=rule.keyless | (roles if self.keyless else frozenset()),
            sigstore=self.sigstore or rule.sigstore,
            token=self.token or rule.token,
        )


def sign(statement: bytes, rule: SigningRule, *, interactive: bool) -> bytes:
    """The canonical bundle of a statement, signed with the help of CA, log and timestamp authority.

    `interactive`: where there is no token, a person may log in with a browser. Raises MvmnixError.
    """
    from mvmnix.provenance.identity import sigstore  # noqa: PLC0415 - a third of a second, which keys don't pay

    token = None if rule.token is None else read_secret(rule.token, "the identity token").strip()
    made = sigstore.sign(statement, token=token, interactive=interactive, where=_where(rule))
    bundle = envelope.parse_foreign(made)
    if not isinstance(bundle, envelope.Bundle) or bundle.payload != statement:
        raise MvmnixError("the library signed something else", hint="report this as a bug")
    return bundle.to_bytes()


def prepared(rule: SigningRule) -> None:
    """Look whether signing keyless can begin at all, before minutes are spent. Raises UsageError."""
    if rule.token is not None:
        read_secret(rule.token, "the identity token")
    _where(rule)


def _where(rule: SigningRule) -> "Instance | bytes":
    """The instance that signs, by its name or by its trust configuration. Raises UsageError."""
    from mvmnix.provenance.identity import sigstore  # noqa: PLC0415 - as above

    if rule.sigstore in PUBLIC_INSTANCES:
        return sigstore.Instance(rule.sigstore)
    try:
        data = _trust_config(rule.sigstore)
        sigstore.look_at_config(data)
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        hint = "name a ClientTrustConfig: --trust-config FILE, or `sigstore` under [signing] in config.toml"
        raise UsageError(f"{rule.sigstore} is not a trust configuration: {told}", hint=hint) from error
    return data


def _trust_config(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - bounded
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise ValueError(f"it is larger than {_LIMIT} bytes")
    return data
