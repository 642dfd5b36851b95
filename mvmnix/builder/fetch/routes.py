"""Decides where a sandboxed helper may be connected to, by the name it asks for and the addresses of that name; pure.

1. Git may reach the one origin that was admitted (allowlist.py), by that very name.
2. A registry's client (pip, apt) may reach what its owner's configuration names, wherever that lies.
3. It may also follow a link or redirect to another name, on port 80 or 443, if each of the name's addresses is one of
   the public Internet, or the address and port of a configured place. It may not name an address.
4. Where its owner configured a proxy, the proxy is all that it may reach.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, Self
from urllib.parse import urlsplit

from mvmnix.builder.fetch.allowlist import Url, must_be_peer
from mvmnix.errors import ReasonCode, RefusedError, refuse

_PORTS: Final = {"http": 80, "https": 443}
_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")
_CONFIGURE: Final = "if that is right, name the host in the configuration of pip or apt; docs/reference/fetching.md"
_ELSEWHERE: Final = "if that is right, take the address to which it leads; docs/reference/fetching.md"
_PROXY: Final = (
    "correct the proxy's address or the list of exceptions (https_proxy, no_proxy); docs/reference/fetching.md"
)


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """A host (a lower-case name, or an address without brackets) and a TCP port."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Of an http or https URL, whose path and user information are left out. Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("not an http or https URL")
        return cls(parts.hostname.lower(), parts.port or _PORTS[parts.scheme])


class Route(Protocol):
    """Where connections may lead. Both methods raise RefusedError [fetch-not-allowed]."""

    @property
    def needed(self) -> Sequence[Endpoint]:
        """What has to be resolved before a name can be judged."""

    def admit(self, asked: Endpoint) -> None:
        """Whether it may be resolved at all."""

    def judge(self, asked: Endpoint, addresses: Sequence[str], known: Mapping[Endpoint, Sequence[str]]) -> None:
        """Whether all of its addresses may be connected to; `known` has those of `needed`."""


@dataclass(frozen=True, slots=True)
class ToOrigin:
    """To one admitted origin."""

    url: Url
    needed: tuple[Endpoint, ...] = field(default=(), init=False)

    def admit(self, asked: Endpoint) -> None:
        """Only the origin itself."""
        # 1. this origin alone
        if asked != Endpoint(self.url.host.strip("[]"), self.url.port):
            raise _refused(asked, f"it is not {self.url.origin}", _ELSEWHERE)

    def judge(self, asked: Endpoint, addresses: Sequence[str], known: Mapping[Endpoint, Sequence[str]]) -> None:  # noqa: ARG002
        """As the fetcher's own peers are judged."""
        for address in addresses:
            must_be_peer(str(self.url), address, local=self.url.local)


@dataclass(frozen=True, slots=True)
class ToConfigured:
    """To what a client's configuration names, and from there to other public places."""

    endpoints: frozenset[Endpoint]

    @property
    def needed(self) -> Sequence[Endpoint]:
        """What is configured."""
        return sorted(self.endpoints)

    def admit(self, asked: Endpoint) -> None:
        """Configured, or a name on a port of the web."""
        # 2. what is configured
        if asked in self.endpoints:
            return
        # 3. other names
        if asked.port not in _PORTS.values():
            raise _refused(asked, "it is not configured, and only ports 80 and 443 are open elsewhere", _CONFIGURE)
        if _is_address(asked.host) or not _NAME.fullmatch(asked.host):
            raise _refused(asked, "it is not configured, and no host name", _CONFIGURE)

    def judge(self, asked: Endpoint, addresses: Sequence[str], known: Mapping[Endpoint, Sequence[str]]) -> None:
        """Configured, or public, or where something configured lies."""
        if asked in self.endpoints:
            return
        places = {(address, each.port) for each in self.endpoints for address in known.get(each, ())}
        for address in addresses:
            if (address, asked.port) not in places:
                must_be_peer(f"{asked.host}:{asked.port}", address, local=False)


@dataclass(frozen=True, slots=True)
class ToProxy:
    """To one configured proxy, whatever is asked for: the client speaks with the proxy itself."""

    proxy: Endpoint
    needed: tuple[Endpoint, ...] = field(default=(), init=False)

    def admit(self, asked: Endpoint) -> None:
        """Only the proxy."""
        # 4. the proxy alone
        if asked != self.proxy:
            raise _refused(asked, f"it is not the proxy {self.proxy.host}:{self.proxy.port}", _PROXY)

    def judge(self, asked: Endpoint, addresses: Sequence[str], known: Mapping[Endpoint, Sequence[str]]) -> None:
        """Wherever it lies: its owner configured it."""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # what the resolver would read as an IPv4 address, too (inet_aton(3): 127.1, 0x7f.1, 2130706433)
        return re.fullmatch(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}\.?", host) is not None
    return True


def _refused(asked: Endpoint, why: str, hint: str) -> RefusedError:
    what = "".join(letter if letter.isprintable() else "?" for letter in asked.host[:253])
    return refuse(ReasonCode.FETCH_NOT_ALLOWED, f"{what}:{asked.port}", why, hint)
