"""One lane that fetches: sends requests over a connection that mvm made, and passes on what the server answers.

It opens no connection: mvm dials, looks at the address, and sends the socket. It decides nothing either: not whether a
redirect is followed, nor how much of a body is wanted.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from mvmnix.builder.fetch.worker.http1 import Answer, MalformedAnswerError, Stream, seconds_of
from mvmnix.builder.fetch.worker.packets import FIELD_LIMIT, FIELDS, MOST, Kind, pack, send, unpack, words

#: Seconds without a packet after which mvm is told that bytes come.
_QUIET: Final = 1.0
_CERTIFICATE: Final = b"certificate"
_BROKEN: Final = b""


class BadTrustError(Exception):
    """The certificates that servers' are held against can't be read."""


class Trust:
    """What servers' certificates are held against. `bundle` is a file, "" for the system's."""

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle
        self._context: ssl.SSLContext | None = None

    def prepare(self) -> None:
        """Read it now, so that the processes that are forked later have it; what fails, fails in them."""
        with suppress(BadTrustError):
            self.context()

    def context(self) -> ssl.SSLContext:
        """Raises BadTrustError."""
        if self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self._bundle or None)
            except OSError as error:
                raise BadTrustError(f"the certificates to trust can't be read: {error}") from error
        return self._context


class Fetching:
    """The lane of one origin. `host` is what its certificate has to name, "" where there is no TLS."""

    def __init__(self, lane: socket.socket, host: str, trust: Trust, stall: float) -> None:
        """`stall` is the most seconds that a read or write takes."""
        self._lane, self._host, self._trust, self._stall = lane, host, trust, stall
        self._socket: socket.socket | None = None
        self._stream: _Heard | None = None

    def serve(self) -> None:
        """Answer one request after the other, until mvm hangs up."""
        while data := self._lane.recv(MOST + 1):
            if data[0] != Kind.ASK:
                return
            try:
                self._answer(data[1:])
            except ssl.SSLCertVerificationError as error:
                self._broken(_CERTIFICATE, error.verify_message or str(error))
            except BadTrustError as error:
                self._broken(_CERTIFICATE, str(error))
            except (MalformedAnswerError, EOFError) as error:
                self._broken(_BROKEN, str(error))
            except TimeoutError:
                self._broken(_BROKEN, "timed out")
            except OSError as error:
                self._broken(_BROKEN, error.strerror or str(error))

    def _answer(self, request: bytes) -> None:
        stream = self._connected()
        stream.sendall(request)
        answer = Answer(stream)
        length = b"" if answer.length is None else b"%d" % answer.length
        send(self._lane, Kind.HEAD, pack(b"%d" % answer.status, length, *_told(answer)))
        for piece in answer.body():
            send(self._lane, Kind.DATA, piece)
            stream.told = time.monotonic()
        if not answer.is_reusable:
            self._hang_up()
        send(self._lane, Kind.END)

    def _connected(self) -> "_Heard":
        if self._stream is not None and self._socket is not None and not select.select([self._socket], [], [], 0)[0]:
            self._stream.told = time.monotonic()
            return self._stream
        self._hang_up()  # what comes before it was asked for is the end of the connection, or no answer
        send(self._lane, Kind.WANTED)
        data, fds, _, _ = socket.recv_fds(self._lane, MOST + 1, 1)
        if not fds:
            raise EOFError("there is no connection")
        self._socket = socket.socket(fileno=fds[0])
        self._socket.settimeout(self._stall)
        tunnelled, proxy, request = unpack(data[1:])
        if proxy:
            self._secure(proxy.decode())
        if tunnelled:
            _open_tunnel(_Heard(self._socket, self._lane), request)
        stream: Stream = self._socket
        if self._host and proxy:
            stream = _Inner(self._socket, self._trust.context(), self._host)
        elif self._host:
            stream = self._secure(self._host)
        self._stream = _Heard(stream, self._lane)
        return self._stream

    def _secure(self, host: str) -> ssl.SSLSocket:
        """Speak TLS on the socket from here on."""
        if self._socket is None:
            raise EOFError("there is no connection")
        # not before it stands in the place of the plain one, whose descriptor it takes over
        secured = self._trust.context().wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
        self._socket = secured
        secured.do_handshake()
        return secured

    def _hang_up(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
        self._socket = self._stream = None

    def _broken(self, what: bytes, why: str) -> None:
        self._hang_up()
        send(self._lane, Kind.BROKEN, pack(what, words(why)))


class _Heard:
    """A stream; while bytes come of which there is nothing to tell yet, mvm is told that they come."""

    def __init__(self, stream: Stream, lane: socket.socket) -> None:
        self._stream, self._lane = stream, lane
        self.sendall = stream.sendall
        self.told = time.monotonic()

    def recv(self, size: int, /) -> bytes:
        data = self._stream.recv(size)
        self._tell()
        return data

    def recv_into(self, buffer: memoryview, /) -> int:
        size = self._stream.recv_into(buffer)
        self._tell()
        return size

    def _tell(self) -> None:
        if time.monotonic() - self.told > _QUIET:
            self.told = time.monotonic()
            send(self._lane, Kind.ALIVE)


class _Inner:
    """TLS within TLS, as through a proxy that is spoken with by TLS itself."""

    def __init__(self, outer: Stream, context: ssl.SSLContext, host: str) -> None:
        self._outer = outer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._inner = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._until(self._inner.do_handshake)

    def recv(self, size: int, /) -> bytes:
        place = memoryview(bytearray(size))
        return bytes(place[: self.recv_into(place)])

    def recv_into(self, buffer: memoryview, /) -> int:
        try:
            return int(self._until(lambda: self._inner.read(len(buffer), buffer)))  # type: ignore[arg-type]
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0

    def sendall(self, data: bytes, /) -> None:
        self._inner.write(data)
        self._outer.sendall(self._outgoing.read())

    def _until[T](self, act: Callable[[], T]) -> T:
        """Do it, feeding the inner connection by the outer one for as long as it wants."""
        while True:
            try:
                done = act()
            except ssl.SSLWantReadError:
                self._outer.sendall(self._outgoing.read())
                data = self._outer.recv(MOST)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                self._outer.sendall(self._outgoing.read())
                return done


def _open_tunnel(stream: Stream, request: bytes) -> None:
    """Ask a proxy for the way to the origin, unless mvm has (RFC 9110, section 9.3.6), and read what it answers."""
    stream.sendall(request)
    line = b""
    while not line.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)  # what comes behind its answer is the origin's
        if not byte or len(line) > MOST:
            raise EOFError("the proxy hung up")
        line += byte
    status = line[:64].split(b" ")[1:2]
    if not status or not status[0].isdigit() or status[0][:1] != b"2":
        raise EOFError(f"the proxy answers {(status or [b'?'])[0].decode(errors='replace')[:16]}")


def _told(answer: Answer) -> list[bytes]:
    """The fields that mvm is told of, names and values in turns."""
    told: list[bytes] = []
    for name in FIELDS:
        value = answer.fields.get(name.encode())
        if value is not None and name == "retry-after":
            seconds = seconds_of(value.decode("latin-1"), datetime.now(UTC))
            value = None if seconds is None else b"%d" % seconds
        if value is not None:
            if len(value) > FIELD_LIMIT:
                raise MalformedAnswerError(f"its {name} is too long")
            told += (name.encode(), value)
    return told
