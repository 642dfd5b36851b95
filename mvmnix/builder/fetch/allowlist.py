"""Decides which addresses may be downloaded from: https to listed hosts, and listed origins on the loopback; pure.

1. The text is a URL that every reader takes apart alike: printable ASCII, no backslash, no userinfo.
2. Its scheme is https; http for a listed loopback origin alone.
3. Its host and port are listed, as a name: an address can't be, beyond the loopback.
4. A redirect is admitted like any URL, never from https to http, and never from elsewhere to this machine.
5. Whatever a listed name resolves to, the peer is an address of the public Internet (DNS rebinding).
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self, override
from urllib.parse import urljoin

from mvmnix.config import HOST, LOOPBACK, FetchRules
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.formats.addresses import facts_of

#: Longer URLs are refused; characters.
MAX_URL: Final = 4096
_PORTS: Final = {"http": 80, "https": 443}
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(/[^?#]*)?(\?[^#]*)?)(#.*)?",
    re.IGNORECASE,
)
_PAGE: Final = "docs/reference/fetching.md"
_URL_HINT: Final = f"write it as https://HOST/PATH, with no name, password or backslash in it; {_PAGE}"
_REDIRECT_HINT: Final = f"take the address to which it leads, if that is right; {_PAGE}"


@dataclass(frozen=True, slots=True)
class Url:
    """An admitted address; `target` is path and query, `local` whether it is a listed origin on the loopback."""

    scheme: str
    host: str
    port: int
    target: str
    local: bool

    @property
    def origin(self) -> str:
        """Scheme, host and port, always written out."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """Host and port, the port where it isn't the scheme's own."""
        return self.host if _PORTS[self.scheme] == self.port else f"{self.host}:{self.port}"

    @override
    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


@dataclass(frozen=True, slots=True)
class Allowlist:
    """Hosts (names; https on port 443, or as in `name:port`), and whole origins on the loopback."""

    hosts: frozenset[str]
    loopback: frozenset[str] = frozenset()

    @classmethod
    def of(cls, rules: FetchRules) -> Self:
        """What the configuration allows."""
        return cls(rules.hosts, rules.loopback)

    def admit(self, url: str) -> Url:
        """The parsed address. Raises RefusedError [fetch-not-allowed]."""
        # 1. one reading
        match = _URL.fullmatch(url)
        if (
            match is None
            or len(url) > MAX_URL
            or not url.isascii()
            or not url.isprintable()
            or re.search(r"[\\ ]", url)
        ):
            raise _refused(url, "it is not a plain http or https URL without user information", _URL_HINT)
        scheme, host = match["scheme"].lower(), match["host"].lower()
        port = int(match["port"] or _PORTS[scheme])
        target = match["target"] if match["target"].startswith("/") else "/" + match["target"]
        if f"{scheme}://{host}:{port}" in _origins(self.loopback):
            return Url(scheme, host, port, target, local=True)
        # 2. https
        place = host if port == _PORTS[scheme] else f"{host}:{port}"
        if scheme != "https":
            is_here = re.fullmatch(LOOPBACK, f"{scheme}://{place}")
            listed = f"{host}:{port} is not on the list of this machine's origins"
            why = listed if is_here else "only https is spoken with other machines"
            raise _refused(url, why, _remedy(scheme, place))
        # 3. a listed name
        if f"{host}:{port}" not in _places(self.hosts):
            raise _refused(url, f"{host}:{port} is not on the list of hosts to download from", _remedy(scheme, place))
        return Url(scheme, host, port, target, local=False)

    def follow(self, here: Url, location: str) -> Url:
        """Where a redirect leads. Raises RefusedError [fetch-not-allowed]."""
        # 4. redirects
        try:
            joined = urljoin(str(here), location)
        except ValueError as error:  # an IPv6 address that is cut off, say
            raise _refused(location, "it is not an address", _REDIRECT_HINT) from error
        there = self.admit(joined)
        if here.scheme == "https" and there.scheme == "http":
            raise _refused(str(there), f"{here.origin} redirects from https to http", _REDIRECT_HINT)
        if there.local and not here.local:
            raise _refused(str(there), f"{here.origin} redirects to this machine", _REDIRECT_HINT)
        return there


def must_be_peer(url: str, address: str, *, local: bool) -> None:
    """Whether a connection may be used that leads to this address. Raises RefusedError [fetch-not-allowed]."""
    # 5. the peer's address
    parsed = ipaddress.ip_address(address.partition("%")[0])
    facts = facts_of(parsed)
    if not (parsed.is_loopback if local else facts.public):
        why = f"its name resolves to {address} ({facts.name}), which is not where it may lead"
        raise _refused(url, why, f"have the name lead to {'this machine' if local else 'public addresses'}; {_PAGE}")


def _remedy(scheme: str, place: str) -> str:
    """Return the entry of config.toml that would admit an origin, or what to do where none would.

    >>> _remedy("http", "127.0.0.1:80").partition(", ")[2]
    '[fetch] loopback = ["http://127.0.0.1:80"]; docs/reference/fetching.md'
    """
    if re.fullmatch(LOOPBACK, f"{scheme}://{place}"):
        other = f', or "http://{place}" where it speaks no TLS' if scheme == "https" else ""
        listed = f'it is an origin of this machine: name it in config.toml, [fetch] loopback = ["{scheme}://{place}"]'
        return f"{listed}{other}; {_PAGE}"
    if scheme != "https":
        return f"take an https address of it; {_PAGE}"
    if re.fullmatch(HOST, place):
        return f'if it is to be trusted with this, name it in config.toml, [fetch] hosts = ["{place}"]; {_PAGE}'
    return f"only DNS names can be listed, and of this machine 127.0.0.1, [::1] and localhost: take such a one; {_PAGE}"


@lru_cache
def _origins(listed: frozenset[str]) -> frozenset[str]:
    """The listed origins, with their ports written out."""
    return frozenset(_origin(one) for one in listed)


@lru_cache
def _places(listed: frozenset[str]) -> frozenset[str]:
    """The listed hosts, with their ports written out."""
    return frozenset(one if ":" in one else f"{one}:443" for one in listed)


def _origin(text: str) -> str:
    scheme, _, place = text.partition("://")
    named = re.search(r":[0-9]+$", place)
    return text if named else f"{text}:{_PORTS[scheme]}"


def _refused(url: str, why: str, hint: str) -> RefusedError:
    return refuse(ReasonCode.FETCH_NOT_ALLOWED, _without_userinfo(url), why, hint)


def _without_userinfo(url: str) -> str:
    """For a message: what stands before an `@` may be a password."""
    return re.sub(r"//[^/?#]*@", "//…@", url[:200])
