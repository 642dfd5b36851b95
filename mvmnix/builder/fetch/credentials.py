"""Reads a credential when the one lock node is fetched that the configuration names it for; keeps none, shows none."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from mvmnix.config import CredentialRule, TokenPlace
from mvmnix.errors import MvmnixError

#: No token is longer, in bytes.
_LIMIT = 64 << 10


@dataclass(frozen=True, slots=True)
class Credentials:
    """The rules of the configuration, in order, and the environment that they may name variables of."""

    rules: Sequence[CredentialRule] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def authorization(self, uri: str) -> str:
        """The Authorization header for a lock node with this URI, by the first rule that matches; "" without one.

        A bare token is a bearer token (RFC 6750); a value of two words (`Basic …`) is taken as it is. Raises
        MvmnixError when the reference leads nowhere.
        """
        for rule in self.rules:
            if fnmatchcase(uri, rule.node):
                value = self._value(rule).strip()
                if not re.fullmatch(r"[!-~]+( [!-~]+)?", value):
                    raise _unusable(rule, "it is not a token: one line of printable ASCII")
                return value if " " in value else f"Bearer {value}"
        return ""

    def _value(self, rule: CredentialRule) -> str:
        match rule.place:
            case TokenPlace.ENVIRONMENT:
                if rule.name not in self.environment:
                    raise _unusable(rule, "the variable is not set")
                return self.environment[rule.name]
            case TokenPlace.FILE:
                return _file(rule)


def _file(rule: CredentialRule) -> str:
    try:
        # without waiting for a FIFO's other end
        with os.fdopen(os.open(rule.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & 0o077:
                raise _unusable(rule, "others may read it: chmod 600")
            return file.read(_LIMIT).decode("ascii", "replace")
    except OSError as error:
        raise _unusable(rule, error.strerror or str(error)) from error


def _unusable(rule: CredentialRule, why: str) -> MvmnixError:
    hint = "correct config.toml, [[credentials]], or what it refers to"
    return MvmnixError(f"the credential {rule.place}:{rule.name} for {rule.node} can't be used: {why}", hint=hint)
