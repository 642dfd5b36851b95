"""Defines what the gateway asks of the dialer, and what that replies; pure.

They speak over a pair of sockets that keeps packets apart (sockets.py). What hasn't the shape of a packet is
`MalformedError`, and its reader ends: a process of ours wrote it, or one that a stranger has taken over.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final, Self

from mvmnix.formats.strict import MalformedError
from mvmnix.network.policy.decisions import Denial

_ASK: Final = struct.Struct(">IHB")
_REPLY: Final = struct.Struct(">IBB")
_LONGEST_ID: Final = 64
_HOST: Final = re.compile(r"[!-~]{1,253}")
#: A rule's id, and an address; either may be missing.
_ID: Final = re.compile(r"(?:[a-z0-9][a-z0-9.-]{0,63})?")
_ADDRESS: Final = re.compile(r"[0-9a-f:.]{0,45}")


@dataclass(frozen=True, slots=True)
class Ask:
    """Connect to this host and port, by this rule."""

    number: int
    rule: str
    host: str
    port: int

    def to_bytes(self) -> bytes:
        """As a packet."""
        rule = self.rule.encode("ascii")
        return _ASK.pack(self.number, self.port, len(rule)) + rule + self.host.encode("ascii")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises MalformedError."""
        try:
            number, port, size = _ASK.unpack_from(data)
            text = data[_ASK.size :].decode("ascii")
        except (struct.error, UnicodeDecodeError) as error:
            raise MalformedError("not a packet of the gateway's") from error
        rule, host = text[:size], text[size:]
        if not 0 < len(rule) <= _LONGEST_ID or not _HOST.fullmatch(host) or port == 0:
            raise MalformedError("not a packet of the gateway's")
        return cls(number, rule, host, port)


@dataclass(frozen=True, slots=True)
class Reply:
    """How it went: connected where there is no `code`, and the socket comes with it.

    `rule` decided it, `address` is what it is about, if any.
    """

    number: int
    code: Denial | None
    rule: str = ""
    address: str = ""

    def to_bytes(self) -> bytes:
        """As a packet."""
        code, rule = (self.code or "").encode("ascii"), self.rule.encode("ascii")
        return _REPLY.pack(self.number, len(code), len(rule)) + code + rule + self.address.encode("ascii")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises MalformedError."""
        try:
            number, code, rule = _REPLY.unpack_from(data)
            text = data[_REPLY.size :].decode("ascii")
            denial = Denial(text[:code]) if code else None
        except (struct.error, ValueError) as error:
            raise MalformedError("not a packet of the dialer's") from error
        found = cls(number, denial, text[code : code + rule], text[code + rule :])
        if len(found.rule) != rule or not _ID.fullmatch(found.rule) or not _ADDRESS.fullmatch(found.address):
            raise MalformedError("not a packet of the dialer's")
        return found
