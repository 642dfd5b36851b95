"""Signs claims for the roles of this user: with their private keys, whose passwords are asked for once, or keyless."""

from collections.abc import Callable, Iterable
from typing import Self

from mvmnix.api import keyless
from mvmnix.api.frontend import Frontend
from mvmnix.api.keyless import KeylessChoice
from mvmnix.api.own_secrets import read_secret
from mvmnix.config import Config, SigningRule
from mvmnix.errors import MvmnixError
from mvmnix.keys import PrivateKey, Role
from mvmnix.private_dirs import Directory
from mvmnix.provenance.bundle import envelope


def key_file(role: Role) -> str:
    """The name of a role's key in the keys directory."""
    return f"{role}.pem"


class Signer:
    """What signs. `config` is read when a key turns out to be encrypted, or something is to be signed."""

    def __init__(self, keys: Directory, config: Callable[[], Config], frontend: Frontend) -> None:
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
    def rule(self) -> SigningRule:
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
            keyless.prepared(self.rule)
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
            return keyless.sign(statement, self.rule, interactive=self._frontend.can_ask())
        return envelope.sign(statement, self.key(role)).to_bytes()
