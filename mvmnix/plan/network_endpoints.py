"""What a guest's network has at this host's side: ports that lead into the guest, a proxy, and a rate; pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Self

from mvmnix.formats import strict
from mvmnix.plan.network_hosts import HostKind, host_kind, is_address, is_local, parse_host

LARGEST_PORT: Final = 65_535
#: Takes a port at every address (ip(7), INADDR_ANY).
ANY_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - nothing is bound here
#: Both loopback addresses: programs that connect to this name may try either first (RFC 6724, section 2.1).
LOCALHOST: Final = "localhost"
LOOPBACK6: Final = "::1"
_LOOPBACK: Final = "127.0.0.1"
#: Of new connections: more than one gateway makes in a second, and all ports that there are.
_MOST_PER_SECOND: Final = 10_000
_MOST_BURST: Final = 65_535


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A port of the guest that is reached by one of the host: at an IPv4 address of it, or `localhost`.

    Raises ValueError.
    """

    address: str
    host: int
    guest: int

    def __post_init__(self) -> None:
        is_literal = is_address(self.address) and not IPv4Address(self.address).is_multicast
        if not is_literal and self.address != LOCALHOST:
            raise ValueError(f"not an IPv4 address of this host, or localhost: {self.address[:80]!r}")
        for port in (self.host, self.guest):
            if not 1 <= port <= LARGEST_PORT:
                raise ValueError(f"not a port: {port}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """What a user typed: [IP:]HOST:GUEST; at `localhost` otherwise. Raises ValueError.

        >>> PublishedPort.parse("8080:80").addresses
        ('127.0.0.1', '::1')
        """
        rest, _, guest = text.rpartition(":")
        address, colon, host = rest.rpartition(":")
        return cls(address if colon else LOCALHOST, parse_port(host, text), parse_port(guest, text))

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it is listened on."""
        return (_LOOPBACK, LOOPBACK6) if self.address == LOCALHOST else (self.address,)

    @property
    def typed(self) -> str:
        """As it is typed."""
        return f"{self.address}:{self.host}:{self.guest}"

    @property
    def value(self) -> Mapping[str, object]:
        """As it stands in a plan's predicate."""
        return {"address": self.address, "host": self.host, "guest": self.guest}

    @classmethod
    def read(cls, record: strict.Record) -> Self:
        """As `value` wrote it. Raises ValueError."""
        return cls(
            address=record.text("address", limit=15),
            host=record.integer("host", 1, LARGEST_PORT),
            guest=record.integer("guest", 1, LARGEST_PORT),
        )


@dataclass(frozen=True, slots=True)
class ConnectionRate:
    """How fast a guest may have new connections made: `burst` at once, then `per_second`. Raises ValueError.

    A connection that has ended holds a port of this host for a minute (TIME-WAIT: RFC 9293, section 3.6.1), of 28,232
    by default (ip(7), ip_local_port_range) towards one server: by the defaults a machine holds 7,000 of them at most.
    """

    per_second: int = 100
    burst: int = 1000

    def __post_init__(self) -> None:
        for name, value, most in (
            ("connections a second", self.per_second, _MOST_PER_SECOND),
            ("connections at once", self.burst, _MOST_BURST),
        ):
            if not 1 <= value <= most:
                raise ValueError(f"new {name} are between 1 and {most}, not {value}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """What a user typed: PER_SECOND[:BURST]; the burst is ten seconds' otherwise. Raises ValueError.

        >>> ConnectionRate.parse("20")
        ConnectionRate(per_second=20, burst=200)
        """
        if not re.fullmatch(r"[0-9]{1,9}(:[0-9]{1,9})?", text):
            raise ValueError(f"not a rate of connections, PER_SECOND[:BURST]: {text[:80]!r}")
        per_second, colon, burst = text.partition(":")
        return cls(int(per_second), int(burst) if colon else min(10 * int(per_second), _MOST_BURST))

    @property
    def typed(self) -> str:
        """As it is typed."""
        return f"{self.per_second}:{self.burst}"

    @property
    def value(self) -> Mapping[str, object]:
        """As it stands in a plan's predicate."""
        return {"perSecond": self.per_second, "burst": self.burst}

    @classmethod
    def read(cls, record: strict.Record) -> Self:
        """As `value` wrote it. Raises ValueError."""
        return cls(record.integer("perSecond", 1, _MOST_PER_SECOND), record.integer("burst", 1, _MOST_BURST))


DEFAULT_RATE: Final = ConnectionRate()


@dataclass(frozen=True, slots=True)
class UpstreamProxy:
    """A proxy by which a guest's connections go out, asked with CONNECT (RFC 9110, section 9.3.6). Raises ValueError.

    It resolves the names that rules allow, so that it judges their addresses, and mvm doesn't. Its own name may lead to
    public addresses only; a proxy on this host or in its networks is named by its address.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        if host_kind(self.host) not in {HostKind.NAME, HostKind.ADDRESS}:
            raise ValueError(f"not the name or the IPv4 address of a proxy: {self.host[:80]!r}")
        if is_local(self.host):
            raise ValueError(f"a proxy on this host is named by its address, as in 127.0.0.1: {self.host[:80]!r}")
        if not 1 <= self.port <= LARGEST_PORT:
            raise ValueError(f"not a port: {self.port}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """What a user typed: HOST:PORT. Raises ValueError.

        >>> UpstreamProxy.parse("proxy.example.com:3128").typed
        'proxy.example.com:3128'
        """
        host, _, port = text.rpartition(":")
        return cls(parse_host(host), parse_port(port, text))

    @property
    def typed(self) -> str:
        """As it is typed."""
        return f"{self.host}:{self.port}"

    @property
    def value(self) -> Mapping[str, object]:
        """As it stands in a plan's predicate."""
        return {"host": self.host, "port": self.port}

    @classmethod
    def read(cls, record: strict.Record) -> Self:
        """As `value` wrote it. Raises ValueError."""
        return cls(record.text("host"), record.integer("port", 1, LARGEST_PORT))


def parse_port(text: str, whole: str) -> int:
    """A port, in what was typed as a `whole`. Raises ValueError."""
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text):
        raise ValueError(f"not a port, {text[:20]!r}, in {whole[:80]!r}")
    return int(text)
