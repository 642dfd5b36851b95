"""Connects the downloader, and decides whom a connection may lead to; neither TLS nor HTTP is spoken here.

1. An origin is reached through the proxy that the machine's owner configured for it, or directly; the loopback is never
   reached through one.
2. Without a proxy, each address that its name has is looked at before any is connected to: a listed name that
   resolves to a private address (DNS rebinding) is refused. With one, the proxy resolves the name.
3. A proxy is asked for the way by its own credentials. Where it is spoken with in the clear, that is done here, and the
   worker doesn't see them.
"""

import base64
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from mvmnix.builder.fetch.allowlist import Url, must_be_peer
from mvmnix.builder.fetch.proxies import from_environment
from mvmnix.builder.fetch.resumable import BrokenError
from mvmnix.builder.fetch.routes import Endpoint
from mvmnix.errors import MvmnixError

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Dialed:
    """A connection, and what the worker has to know of a proxy: packets.py, CONNECTION."""

    connection: socket.socket
    texts: tuple[bytes, bytes, bytes] = (b"", b"", b"")


def dial(url: Url, environment: Mapping[str, str], seconds: float) -> Dialed:
    """Connect to an origin. Raises BrokenError, RefusedError [fetch-not-allowed], MvmnixError."""
    place = Endpoint(url.host.strip("[]"), url.port)
    # 1. the proxy
    proxy = "" if url.local else from_environment(url.scheme, Endpoint(url.host, url.port), environment)
    if proxy:
        return _through(proxy, url, seconds)
    addresses = _resolved(place)
    # 2. the peer
    for address in addresses:
        must_be_peer(url.host, address, local=url.local)
    return Dialed(_connected(place, addresses, seconds))


def _through(proxy: str, url: Url, seconds: float) -> Dialed:
    parts = urlsplit(proxy)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise MvmnixError("https_proxy names no http or https proxy", hint="SOCKS proxies are not supported; unset it")
    place = Endpoint(parts.hostname, parts.port or _PORTS[parts.scheme])
    connection = _connected(place, _resolved(place), seconds)
    # 3. the way
    request = f"CONNECT {url.host}:{url.port} HTTP/1.1\r\nHost: {url.host}:{url.port}\r\n"
    if parts.username:
        who = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request += f"Proxy-Authorization: Basic {base64.b64encode(who.encode('latin-1', 'replace')).decode()}\r\n"
    sent = f"{request}\r\n".encode()
    if parts.scheme == "https":
        return Dialed(connection, (b"1", parts.hostname.encode(), sent))
    try:
        connection.sendall(sent)
    except OSError as error:
        connection.close()
        raise BrokenError(f"the proxy can't be reached: {error.strerror or error}") from error
    return Dialed(connection, (b"1", b"", b""))


def _resolved(place: Endpoint) -> list[str]:
    try:
        found = socket.getaddrinfo(place.host, place.port, 0, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BrokenError(f"{place.host} can't be resolved: {getattr(error, 'strerror', None) or error}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _connected(place: Endpoint, addresses: list[str], seconds: float) -> socket.socket:
    problem = "it has no address"
    for address in addresses:
        try:
            connection = socket.create_connection((address, place.port), seconds)
        except OSError as error:
            problem = error.strerror or str(error)
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            return connection
    raise BrokenError(f"{place.host}:{place.port} can't be reached: {problem}")
