"""Says which proxy the machine's owner configured for a place; opens no connection.

The variables are curl's (curl(1), "ENVIRONMENT"): `https_proxy`, `http_proxy`, `all_proxy` and `no_proxy`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import urlsplit

from mvmnix.builder.fetch.routes import Endpoint
from mvmnix.errors import MvmnixError

#: Schemes of proxies to which a client's own words can be carried as they are; TLS would not fit the loopback's name.
_CARRIED: Final = {"http": 80, "socks5h": 1080}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that a sandboxed client speaks with through the gateway; `userinfo` as in its URL, secret, or ""."""

    scheme: str
    endpoint: Endpoint
    userinfo: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises MvmnixError, without the URL, which may hold a password."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            endpoint = Endpoint((parts.hostname or "").lower(), parts.port or _CARRIED.get(parts.scheme, 0))
        except ValueError:
            parts, endpoint = urlsplit(""), Endpoint("", 0)
        if parts.scheme not in _CARRIED or not endpoint.host:
            known = " or ".join(_CARRIED)
            raise MvmnixError(f"a configured proxy is not an {known} proxy", hint="configure one of these")
        return cls(parts.scheme, endpoint, parts.netloc.rpartition("@")[0])

    def at(self, endpoint: Endpoint) -> str:
        """Its URL for a client that finds it at another place; secret."""
        userinfo = f"{self.userinfo}@" if self.userinfo else ""
        return f"{self.scheme}://{userinfo}{endpoint.host}:{endpoint.port}"


def from_environment(scheme: str, place: Endpoint, environment: Mapping[str, str]) -> str:
    """The URL of the proxy for an address of this scheme, "" where there is none."""

    def said(name: str) -> str:
        return environment.get(name) or environment.get(name.upper()) or ""

    # HTTP_PROXY in capitals is a request's header for CGI programs, and so isn't read (curl)
    proxy = (environment.get("http_proxy") or "" if scheme == "http" else said("https_proxy")) or said("all_proxy")
    if not proxy or any(_is_meant(place, entry.strip()) for entry in said("no_proxy").lower().split(",")):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def common(proxies: Iterable[str], who: str) -> Proxy | None:
    """The one proxy of several places, None where none has one. Raises MvmnixError for a mixture."""
    found = set(proxies)
    if len(found) > 1:
        why = f"{who} is configured to reach some places through a proxy and others otherwise, which is not supported"
        raise MvmnixError(why, hint="let all of its places be reached through one proxy, or through none")
    return Proxy.parse(*found) if found - {""} else None


def _is_meant(place: Endpoint, exception: str) -> bool:
    """Whether an entry of `no_proxy` means this place: `*`, a name and all below it, with or without a port."""
    name, _, port = exception.removeprefix(".").partition(":")
    return name == "*" or (bool(name) and f".{place.host}".endswith(f".{name}") and port in {"", str(place.port)})
