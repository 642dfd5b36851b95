"""Carries what sandboxed git says to one origin, and nowhere else: a SOCKS 5 server (RFC 1928) on a unix socket.

1. A client may connect to the host and port of one admitted URL, by that very name.
2. The name is resolved here, and the peer is an address that it may have (allow.py: rebinding).
3. All connections together carry a bounded number of bytes, and end with the gateway.
"""

import select
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mvmnix.builder.fetch.allow import Url, must_be_peer
from mvmnix.errors import MvmnixError

_CHUNK: Final = 1 << 16
#: Seconds without a byte in either direction, or until a peer answers.
_STALL: Final = 60
#: Connections at a time; git uses a few.
_MOST: Final = 8
_NO_AUTHENTICATION, _CONNECT, _IPV4 = 0, 1, 1
_GRANTED, _NOT_ALLOWED, _UNREACHABLE = 0, 2, 4


class Gateway:
    """Listens at a path while it is open; a context manager. `refusals` says what was asked for in vain, and why."""

    def __init__(self, url: Url, path: Path, limit: int) -> None:
        self.path = path
        self.refusals: list[str] = []
        self._url = url
        self._left = limit
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._places = threading.BoundedSemaphore(_MOST)
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self.path.chmod(0o666)  # another uid connects, by a mount; the directory is closed to all
        self._listener.listen(_MOST)
        self._thread = threading.Thread(target=self._listen, daemon=True, name="mvm-gateway")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True, name="mvm-gateway-client").start()

    def _serve(self, client: socket.socket) -> None:
        with self._places, client:
            client.settimeout(_STALL)
            self._hold(client)
            try:
                if self._greet(client):
                    self._connect(client)
            except (OSError, EOFError) as error:
                self.refusals.append(f"a connection broke: {error}")
            finally:
                self._let_go(client)

    def _connect(self, client: socket.socket) -> None:
        # 2. the peer's address
        try:
            server = socket.create_connection((self._url.host.strip("[]"), self._url.port), timeout=_STALL)
        except OSError as error:
            self._refuse(client, _UNREACHABLE, f"{self._url.origin} could not be reached: {error}")
            return
        with server:
            try:
                must_be_peer(str(self._url), server.getpeername()[0], local=self._url.local)
            except MvmnixError as error:
                self._refuse(client, _NOT_ALLOWED, str(error))
                return
            self._hold(server)
            try:
                _answer(client, _GRANTED)
                self._carry(client, server)
            finally:
                self._let_go(server)

    def _greet(self, client: socket.socket) -> bool:
        """Read what the client wants (RFC 1928, sections 3 and 4); returns whether it may have that."""
        version, methods = _exactly(client, 2)
        if version != 5 or _NO_AUTHENTICATION not in _exactly(client, methods):
            raise EOFError("not SOCKS 5 without authentication")
        client.sendall(bytes((5, _NO_AUTHENTICATION)))
        _, command, _, kind = _exactly(client, 4)
        host = _host(client, kind)
        port = int.from_bytes(_exactly(client, 2), "big")
        # 1. this origin alone
        if command != _CONNECT or (host, port) != (self._url.host.strip("[]"), self._url.port):
            self._refuse(client, _NOT_ALLOWED, f"{host[:253]!r}, port {port}, is not {self._url.origin}")
            return False
        return True

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
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
                    self.refusals.append(f"{self._url.origin} sends more than it may")
                    return
                other[one].sendall(data)

    def _refuse(self, client: socket.socket, code: int, why: str) -> None:
        self.refusals.append(why)
        _answer(client, code)

    def _hold(self, one: socket.socket) -> None:
        with self._lock:
            self._open.add(one)

    def _let_go(self, one: socket.socket) -> None:
        with self._lock:
            self._open.discard(one)


def _host(client: socket.socket, kind: int) -> str:
    match kind:
        case 3:
            return _exactly(client, _exactly(client, 1)[0]).decode("ascii", "replace").lower()
        case 1:
            return socket.inet_ntop(socket.AF_INET, _exactly(client, 4))
        case 4:
            return socket.inet_ntop(socket.AF_INET6, _exactly(client, 16))
        case _:
            raise EOFError("an address of no kind")


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
