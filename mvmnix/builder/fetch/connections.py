"""Opens the downloader's connections and decides whom they may lead to.

A connection is looked at after it was made and before a byte is sent on it: a listed name that resolves to a private
address (DNS rebinding) is refused there. Through a proxy the peer is the proxy, which the machine's owner chose.
"""

import os
import socket
import ssl
import threading
from collections.abc import Mapping
from enum import Enum
from typing import ClassVar, override
from urllib.parse import unquote, urlsplit

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util import make_headers

from mvmnix.builder.fetch.allow import Url, must_be_peer
from mvmnix.builder.fetch.lifeline import hold
from mvmnix.builder.fetch.proxies import from_environment
from mvmnix.builder.fetch.routes import Endpoint
from mvmnix.errors import MvmnixError

#: What a Debian machine trusts, for an OpenSSL that was built for another place (a pinned Python in the Nix store).
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


class _Peer(Enum):
    """Whom a connection may lead to."""

    PUBLIC = "public"
    LOCAL = "local"
    PROXY = "proxy"


def _hold_again(connection: HTTPConnection) -> None:
    """A connection that was kept is used again; a new one is held when it is made."""
    if connection.sock is not None:
        hold(connection.sock)


def _looked_at(connection: socket.socket, host: str, peer: _Peer) -> socket.socket:
    """The new connection, if it leads where it may."""
    try:
        if peer is not _Peer.PROXY:
            must_be_peer(host, connection.getpeername()[0], local=peer is _Peer.LOCAL)
        hold(connection)
    except BaseException:
        connection.close()
        raise
    return connection


class _Plain(HTTPConnection):
    """Without TLS: to a listed loopback origin."""

    @override
    def _new_conn(self) -> socket.socket:
        return _looked_at(super()._new_conn(), self.host, _Peer.LOCAL)

    @override
    def putrequest(self, method: str, url: str, skip_host: bool = False, skip_accept_encoding: bool = False) -> None:
        _hold_again(self)
        super().putrequest(method, url, skip_host, skip_accept_encoding)


class _Tls(HTTPSConnection):
    """With TLS, to a public address."""

    peer: ClassVar[_Peer] = _Peer.PUBLIC

    @override
    def _new_conn(self) -> socket.socket:
        return _looked_at(super()._new_conn(), self.host, self.peer)

    @override
    def putrequest(self, method: str, url: str, skip_host: bool = False, skip_accept_encoding: bool = False) -> None:
        _hold_again(self)
        super().putrequest(method, url, skip_host, skip_accept_encoding)


class _LocalTls(_Tls):
    peer = _Peer.LOCAL


class _ProxiedTls(_Tls):
    peer = _Peer.PROXY


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _Tls


class _LocalTlsPool(HTTPSConnectionPool):
    ConnectionCls = _LocalTls


class _ProxiedTlsPool(HTTPSConnectionPool):
    ConnectionCls = _ProxiedTls


class Connections:
    """Connections that are kept and used again, `parallel` to a host at most; safe for many threads."""

    def __init__(self, parallel: int, *, connect: float, stall: float, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._kept = {"maxsize": parallel, "block": False, "timeout": Timeout(connect=connect, read=stall)}
        self._context = _context(environment)
        self._lock = threading.Lock()
        self._managers: dict[tuple[bool, str], PoolManager] = {}

    def get(self, url: Url, headers: Mapping[str, str]) -> BaseHTTPResponse:
        """The head of the answer; its body is to be read, and the response released or closed.

        Raises urllib3's HTTPError, and RefusedError [fetch-not-allowed].
        """
        place = Endpoint(url.host, url.port)
        proxy = "" if url.local else from_environment(url.scheme, place, self._environment)
        pool = self._manager(proxy, local=url.local).connection_from_host(url.host, url.port, url.scheme)
        return pool.urlopen(
            *("GET", url.target),
            headers={"Accept-Encoding": "identity", "User-Agent": "mvmnix", **headers},
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )

    def close(self) -> None:
        """Let the connections go that nobody uses."""
        with self._lock:
            for manager in self._managers.values():
                for key in manager.pools.keys():  # noqa: SIM118 - it can't be iterated over
                    manager.pools[key].close()
                manager.clear()

    def _manager(self, proxy: str, *, local: bool) -> PoolManager:
        with self._lock:
            if (local, proxy) not in self._managers:
                self._managers[local, proxy] = self._new_manager(proxy, local=local)
            return self._managers[local, proxy]

    def _new_manager(self, proxy: str, *, local: bool) -> PoolManager:
        if not proxy:
            manager = PoolManager(ssl_context=self._context)
            tls: type[HTTPConnectionPool] = _LocalTlsPool if local else _TlsPool
        else:
            manager, tls = _proxied(proxy, self._context), _ProxiedTlsPool
        manager.connection_pool_kw.update(self._kept)
        manager.pool_classes_by_scheme = {"http": _PlainPool, "https": tls}
        return manager


def is_certificate_trouble(error: HTTPError) -> bool:
    """Whether the peer could not show who it is, which trying again doesn't change."""
    causes = (error, *error.args, error.__cause__, error.__context__)
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)


def _context(environment: Mapping[str, str]) -> ssl.SSLContext:
    """TLS with the machine's certificates; SSL_CERT_FILE and NIX_SSL_CERT_FILE name others."""
    named = environment.get("SSL_CERT_FILE") or environment.get("NIX_SSL_CERT_FILE")
    try:
        context = ssl.create_default_context(cafile=named)
        default = ssl.get_default_verify_paths()
        if not named and not (default.cafile or default.capath) and os.path.exists(_BUNDLE):  # noqa: PTH110
            context.load_verify_locations(_BUNDLE)
    except OSError as error:
        hint = "let SSL_CERT_FILE name a bundle of certificates in PEM, or unset it"
        raise MvmnixError(f"the certificates of {named or 'this machine'} can't be read: {error}", hint=hint) from error
    return context


def _proxied(proxy: str, context: ssl.SSLContext) -> ProxyManager:
    parts = urlsplit(proxy)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise MvmnixError("https_proxy names no http or https proxy", hint="SOCKS proxies are not supported; unset it")
    who = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    headers = make_headers(proxy_basic_auth=who) if who else None
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], path="", query="", fragment="").geturl()
    return ProxyManager(bare, proxy_headers=headers, ssl_context=context)
