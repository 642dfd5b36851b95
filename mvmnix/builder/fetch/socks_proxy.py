"""Carries what a sandboxed helper says to where its route leads (routes.py), and nowhere else.

A helper connects to a listening socket that it was given: one on a unix socket, or one on the loopback of its own
network namespace. It asks by SOCKS 5 (RFC 1928), or the socket stands for one proxy and nothing is asked.

1. The host and port that are asked for are such that the route admits.
2. The name is resolved here, once; each of its addresses is judged, and only those that were judged are connected to.
3. All connections together carry a bounded number of bytes, and end with the gateway.
"""

import select
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

from mvmnix.builder.fetch.routes import Endpoint, Route, ToProxy
from mvmnix.errors import MvmnixError

_CHUNK: Final = 1 << 16
#: Seconds without a byte in either direction, or until a peer answers.
_STALL: Final = 60
#: Connections at a time; git, pip and apt use a few.
_MOST: Final = 8
#: Seconds after which it is looked whether a place is free, or the gateway closed.
_FULL: Final = 0.2
#: Seconds for which a name may still be resolved after that; nothing else holds a connection's thread.
_RESOLVE: Final = 10
#: Refusals that are kept; a helper that was taken over could ask for ever.
_TOLD: Final = 16
_NO_AUTHENTICATION, _CONNECT, _IPV4 = 0, 1, 1
_GRANTED, _NOT_ALLOWED, _UNREACHABLE = 0, 2, 4


def listening_at(path: Path) -> socket.socket:
    """A listening unix socket there. Another uid connects to it, by a mount; the directory is closed to all others."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o666)
    listener.listen(_MOST)
    return listener


class Gateway:
    """Serves a listening socket, which it takes over, while it is open; a context manager.

    `limit` is in bytes. `refusals` says what was refused or could not be reached, and why.
    """

    def __init__(self, listener: socket.socket, route: Route, limit: int) -> None:
        self.refusals: list[str] = []
        self._listener = listener
        self._route = route
        self._left = limit
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._places = threading.BoundedSemaphore(_MOST)
        self._serving: set[threading.Thread] = set()
        self._closed = False

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._listen, daemon=True, name="mvm-gateway")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)  # also one that is just being connected
            serving = list(self._serving)
        for thread in serving:
            thread.join(_RESOLVE)

    def _listen(self) -> None:
        while not self._closed:
            if not self._places.acquire(timeout=_FULL):
                continue
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True, name="mvm-gateway-client")
            with self._lock:
                self._serving.add(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with ExitStack() as stack:
            stack.callback(self._places.release)
            stack.callback(self._ended)
            stack.enter_context(client)
            client.settimeout(_STALL)
            self._hold(client)
            stack.callback(self._let_go, client)
            proxy = self._route.proxy if isinstance(self._route, ToProxy) else None
            try:
                asked = proxy or self._greet(client)
                server = self._connected(asked)
                with server:
                    stack.callback(self._let_go, server)
                    if proxy is None:
                        _answer(client, _GRANTED)
                    self._carry(client, server, asked)
            except MvmnixError as error:
                self._tell(str(error))
                _refuse(client, None if proxy else _NOT_ALLOWED)
            except _UnreachableError as error:
                self._tell(str(error))
                _refuse(client, None if proxy else _UNREACHABLE)
            except (OSError, EOFError) as error:
                self._tell(f"a connection broke: {error}")

    def _greet(self, client: socket.socket) -> Endpoint:
        """Read what the client wants (RFC 1928, sections 3 and 4)."""
        version, methods = _exactly(client, 2)
        if version != 5 or _NO_AUTHENTICATION not in _exactly(client, methods):
            raise EOFError("not SOCKS 5 without authentication")
        client.sendall(bytes((5, _NO_AUTHENTICATION)))
        _, command, _, kind = _exactly(client, 4)
        asked = Endpoint(_host(client, kind), int.from_bytes(_exactly(client, 2), "big"))
        if command != _CONNECT:
            raise MvmnixError(f"SOCKS command {command} is not known here")
        return asked

    def _connected(self, asked: Endpoint) -> socket.socket:
        # 1. what is asked for
        self._route.admit(asked)
        # 2. its addresses
        addresses = _resolved(asked)
        self._route.judge(asked, addresses, {each: _resolved(each) for each in self._route.needed if each != asked})
        problem = "it has no address"
        for address in addresses:
            server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            server.settimeout(_STALL)
            self._hold(server)
            try:
                _reach(server, address, asked.port)
            except OSError as error:
                problem = str(error)
                self._let_go(server)
                server.close()
            else:
                return server
        raise _UnreachableError(f"{asked.host}:{asked.port} could not be reached: {problem}")

    def _carry(self, client: socket.socket, server: socket.socket, asked: Endpoint) -> None:
        other = {client: server, server: client}
        poll, sockets = select.poll(), {one.fileno(): one for one in other}
        for fd in sockets:
            poll.register(fd, select.POLLIN)
        while True:
            ready = [sockets[fd] for fd, _ in poll.poll(_STALL * 1000)]
            if not ready:
                raise EOFError(f"nothing came for {_STALL} seconds")
            for one in ready:
                data = one.recv(_CHUNK)
                if not data:
                    return
                # 3. so much
                with self._lock:
                    self._left -= len(data)
                    spent = self._left < 0
                if spent:
                    self._tell(f"{asked.host}:{asked.port} sends more than it may")
                    return
                other[one].sendall(data)

    def _ended(self) -> None:
        with self._lock:
            self._serving.discard(threading.current_thread())

    def _tell(self, why: str) -> None:
        with self._lock:
            if len(self.refusals) < _TOLD:
                self.refusals.append(why)

    def _hold(self, one: socket.socket) -> None:
        with self._lock:
            self._open.add(one)
        if self._closed:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _let_go(self, one: socket.socket) -> None:
        with self._lock:
            self._open.discard(one)


def _reach(server: socket.socket, address: str, port: int) -> None:
    server.connect((address, port))


class _UnreachableError(Exception):
    """A name without an address, or addresses that don't answer."""


def _resolved(endpoint: Endpoint) -> Sequence[str]:
    """The addresses of a host, each once, in the resolver's order; none where it has none."""
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


def _host(client: socket.socket, kind: int) -> str:
    match kind:
        case 3:
            return _exactly(client, _exactly(client, 1)[0]).decode("ascii", "replace").lower()
        case 1:
            return socket.inet_ntop(socket.AF_INET, _exactly(client, 4))
        case 4:
            return socket.inet_ntop(socket.AF_INET6, _exactly(client, 16))
        case _:
            raise EOFError("an unknown address type")


def _refuse(client: socket.socket, code: int | None) -> None:
    """Say so by SOCKS; to a client of a proxy by hanging up."""
    if code is not None:
        with suppress(OSError):
            _answer(client, code)


def _answer(client: socket.socket, code: int) -> None:
    client.sendall(bytes((5, code, 0, _IPV4, 0, 0, 0, 0, 0, 0)))


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            raise EOFError("it hung up")
        data += more
    return data
