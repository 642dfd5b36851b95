"""Defines what gateway and dialer tell the supervisor, and what that gives them.

They speak over pairs of sockets that keep packets apart (sockets.py). What hasn't the shape of a packet is
`MalformedError`, and its reader ends: a process of ours wrote it, or one that a stranger has taken over.
"""

import os
import re
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from mvmnix.formats.strict import MalformedError, Record, canonical, parse_json, read
from mvmnix.network.policy.decisions import LIFTABLE, Denial, missing_flag
from mvmnix.plan import network
from mvmnix.plan.network import Network, Protocol

_HANDED_OVER: Final = struct.Struct(">HH")


class NetworkEventKind(StrEnum):
    """What an event is about: a question of DNS, a connection's begin and end, a refusal, or one of our own processes.

    OPENED is the dialer's word, and for a further rule of a connection of HTTP the gateway's. INBOUND is a connection
    into the guest, from the host's `address` to the guest's `port`. READY: the process serves. The gateway isn't ours
    any more after BREACH, since it asked for what no rule admits, and FORGED, since it reported a connection that the
    dialer didn't make. UNREPORTED: the dialer made a connection that the gateway didn't report.
    """

    READY = "ready"
    NAME = "name"
    OPENED = "opened"
    CLOSED = "closed"
    DENIED = "denied"
    BREACH = "breach"
    FORGED = "forged"
    UNREPORTED = "unreported"
    INBOUND = "inbound"
    INBOUND_CLOSED = "inbound-closed"


_KINDS: Final = frozenset(map(str, NetworkEventKind))
_CODES: Final = frozenset({"", *map(str, Denial)})
#: What a text is, where there is one.
_TEXTS: Final = {
    "rule": r"[a-z0-9][a-z0-9.-]{0,63}",
    "code": r"[a-z-]{1,40}",
    "name": r"[!-~]{1,255}",
    "address": r"[0-9a-f:.]{2,45}",
    "protocol": "|".join(Protocol),
    "method": r"[-!#$%&'*+.^_`|~0-9A-Za-z]{1,32}",  # as requests are read (gateway/http_heads.py)
}
#: The port for which a name is looked up, as long as none is known.
_USUAL_PORT: Final = 443
#: The most that a number is.
_NUMBERS: Final = {"port": 65_535, "sent": 2**53 - 1, "received": 2**53 - 1, "slot": 65_535, "connection": 2**32 - 1}
_EVENT: Final = re.compile(
    "\0".join(
        (r"([a-z-]{1,20})", *(f"((?:{it})?)" for it in _TEXTS.values()), *[r"(0|[1-9][0-9]{0,15})"] * len(_NUMBERS))
    ).encode()
)


@dataclass(frozen=True, slots=True)
class NetworkEvent:
    """One verdict. `code` is a denial's, `sent` and `received` are the guest's bytes.

    `name` and `address` are what was asked for and where it led; empty where there is none. `protocol` is that of the
    rule, or of a request that was refused, whose method is `method`. `connection` is the number by which the gateway
    asked the dialer for it.
    """

    kind: NetworkEventKind
    rule: str = ""
    code: str = ""
    name: str = ""
    address: str = ""
    port: int = 0
    sent: int = 0
    received: int = 0
    protocol: str = ""
    method: str = ""
    slot: int = 0
    connection: int = 0

    @property
    def flag(self) -> str:
        """The option that would allow what was refused, made of the fields by `missing_flag`; "" where none would."""
        if self.code not in LIFTABLE:
            return ""
        protocol = Protocol(self.protocol) if self.protocol else None
        return missing_flag(self.name or self.address, self.port or _USUAL_PORT, protocol, method=self.method)

    def fields(self) -> dict[str, object]:
        """What it says, by name."""
        said = {name: getattr(self, name) for name in (*_TEXTS, *_NUMBERS)}
        return {"kind": self.kind} | {name: value for name, value in said.items() if value}

    def to_bytes(self) -> bytes:
        """As a packet: all fields in their order, parted by NUL."""
        return "\0".join((self.kind, *(str(getattr(self, name)) for name in (*_TEXTS, *_NUMBERS)))).encode("ascii")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises MalformedError."""
        found = _EVENT.fullmatch(data)
        if found is None:
            raise MalformedError("not an event of the gateway's or the dialer's")
        kind, *fields = (each.decode("ascii") for each in found.groups())
        texts = dict(zip(_TEXTS, fields, strict=False))
        numbers = {name: int(each) for name, each in zip(_NUMBERS, fields[len(_TEXTS) :], strict=True)}
        known = kind in _KINDS and texts["code"] in _CODES
        if not known or any(numbers[name] > most for name, most in _NUMBERS.items()):
            raise MalformedError("not an event of the gateway's or the dialer's")
        said: dict[str, Any] = {"kind": NetworkEventKind(kind), **texts, **numbers}
        return cls(**said)

    @classmethod
    def read(cls, record: Record) -> Self:
        """As `fields` has it."""
        said: dict[str, Any] = {"kind": record.choice("kind", NetworkEventKind)}
        said |= {name: record.text(name, pattern) for name, pattern in _TEXTS.items() if record.has(name)}
        said |= {name: record.integer(name, 0, most) for name, most in _NUMBERS.items() if record.has(name)}
        return cls(**said)


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Supervisor to gateway, with two descriptors: a client of the host's, and its connection to a port of the guest's.

    `slot` is a number that the gateway names when it is done with them.
    """

    slot: int
    port: int

    def to_bytes(self) -> bytes:
        """As a packet."""
        return _HANDED_OVER.pack(self.slot, self.port)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises MalformedError."""
        try:
            return cls(*_HANDED_OVER.unpack(data))
        except struct.error as error:
            raise MalformedError("not a packet of the supervisor's") from error


#: What is written down when the gateway or the dialer has ended.
GATEWAY_ENDED: Final = NetworkEvent(NetworkEventKind.DENIED, code=Denial.GATEWAY_ENDED)


def read_network(fd: int) -> Network:
    """What the supervisor gave a process of the plan, in a file that is closed then. Raises MalformedError."""
    with os.fdopen(fd, "rb") as file:
        return read(parse_json(file.read()), "network", network.from_record)


def network_bytes(given: Network) -> bytes:
    """What `read_network` reads."""
    return canonical(network.to_json(given))
