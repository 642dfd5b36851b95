"""Signs claims for the roles of this user: with their private keys, whose passwords are asked for once, or keyless."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self, assert_never

from mvmnix.api.frontend import Frontend
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.keys import PrivateKey, Role
from mvmnix.provenance.bundle import envelope
from mvmnix.system.private_dirs import Directory

if TYPE_CHECKING:
    from mvmnix.config import Config, SecretRef, SigningRule
    from mvmnix.provenance.identity.sigstore import Instance

#: No password or token is longer, in bytes.
_SECRET_LIMIT = 64 << 10


def read_secret(where: "SecretRef", what: str) -> str:
    """The secret, without a newline at its end. Raises UsageError when the reference leads nowhere."""
    from mvmnix.config import TokenPlace  # noqa: PLC0415 - who has a reference has loaded it

    match where.place:
        case TokenPlace.ENVIRONMENT:
            value = os.environ.get(where.name, "")
        case TokenPlace.FILE:
            value = _file(where, what)
        case _:
            assert_never(where.place)
    if not value:
        raise _unusable(where, what, "there is nothing")
    return value


def _file(where: "SecretRef", what: str) -> str:
    try:
        # without waiting for a FIFO's other end
        with os.fdopen(os.open(where.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise _unusable(where, what, "others may read it: chmod 600")
            return file.read(_SECRET_LIMIT).decode().removesuffix("\n")
    except OSError as error:
        raise _unusable(where, what, error.strerror or str(error)) from error
    except UnicodeDecodeError:
        raise _unusable(where, what, "it is not UTF-8") from None


def _unusable(where: "SecretRef", what: str, why: str) -> UsageError:
    return UsageError(f"{what} can't be had from {where}: {why}", hint="correct the reference, or what it refers to")


#: A trust configuration with hundreds of certificates is smaller, in bytes.
_LIMIT: Final = 4 << 20
#: Instances of Sigstore that are known by a name.
PUBLIC_INSTANCES: Final = ("production", "staging")


@dataclass(frozen=True, slots=True)
class KeylessChoice:
    """What one operation asks for on top of the configuration: keyless signing, where, with what token."""

    keyless: bool = False
    sigstore: str = ""
    token: "SecretRef | None" = None

    def over(self, rule: "SigningRule", roles: frozenset[Role]) -> "SigningRule":
        """The configuration's rule with what was asked for, which is about these roles."""
        return replace(
            rule,
            keyless=rule.keyless | (roles if self.keyless else frozenset()),
            sigstore=self.sigstore or rule.sigstore,
            token=self.token or rule.token,
        )


def sign_keyless(statement: bytes, rule: "SigningRule", *, interactive: bool) -> bytes:
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


def prepare_keyless(rule: "SigningRule") -> None:
    """Look whether signing keyless can begin at all, before minutes are spent. Raises UsageError."""
    if rule.token is not None:
        read_secret(rule.token, "the identity token")
    _where(rule)


def _where(rule: "SigningRule") -> "Instance | bytes":
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


def key_file(role: Role) -> str:
    """The name of a role's key in the keys directory."""
    return f"{role}.pem"


class Signer:
    """What signs. `config` is read when a key turns out to be encrypted, or something is to be signed."""

    def __init__(self, keys: Directory, config: "Callable[[], Config]", frontend: Frontend) -> None:
        self.keys = keys
        self._config = config
        self._frontend = frontend
        self._passwords: dict[Role, str] = {}
        self._asked = (KeylessChoice(), frozenset[Role]())

    def choose(self, choice: KeylessChoice, *roles: Role) -> Self:
        """Follow what this invocation asks for, where it signs in these roles."""
        self._asked = (choice, frozenset(roles))
        return self

    @property
    def rule(self) -> "SigningRule":
        """Which roles sign keyless, and how, by config.toml and by what was asked for."""
        choice, roles = self._asked
        return choice.over(self._config().signing, roles)

    def key(self, role: Role) -> PrivateKey:
        """The private key of a role. Raises MvmnixError when there is none, RefusedError KEY_…."""
        try:
            return PrivateKey.load(self.keys, key_file(role), lambda: self._password(role))
        except FileNotFoundError as error:
            where = self.keys.where(key_file(role))
            raise MvmnixError(f"there is no {role} key at {where}", hint=f"mvm key create {role}") from error

    def _password(self, role: Role) -> str:
        # asked for once: a supervisor, which is a fork of this process, signs when there is no terminal any more
        if role not in self._passwords:
            self._passwords[role] = self._fresh_password(role)
        return self._passwords[role]

    def _fresh_password(self, role: Role) -> str:
        """From where config.toml says, else from the user where one can be asked; "" without either."""
        where = self._config().key_password
        if where is not None:
            return read_secret(where, f"the password of the {role} key")
        return self._frontend.ask(f"Password of the {role} key") if self._frontend.can_ask() else ""

    def prepare(self, role: Role) -> None:
        """Look whether a role can sign at all, before minutes are spent. Raises MvmnixError."""
        if role in self.rule.keyless:
            prepare_keyless(self.rule)
        else:
            self.key(role)

    def has_signed(self, role: Role, bundles: Iterable[bytes]) -> bool:
        """Whether one of these bundles names the role's key as its signer, which proves nothing.

        False where the role signs keyless: who that is shows once it has signed. Raises MvmnixError without a key.
        """
        if role in self.rule.keyless:
            return False
        return any(envelope.parse_bundle(bundle).material.hint == self.key(role).public.hint for bundle in bundles)

    def sign(self, role: Role, statement: bytes) -> bytes:
        """The bundle of a statement, signed with the key of a role, or keyless."""
        if role in self.rule.keyless:
            return sign_keyless(statement, self.rule, interactive=self._frontend.can_ask())
        return envelope.sign(statement, self.key(role)).to_bytes()
