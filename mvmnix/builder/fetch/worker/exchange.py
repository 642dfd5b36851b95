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
from mvmnix.builder.fetch.worker.packets import FIELD_LIMIT, FIELDS, PIECE_BYTES, PacketKind, pack, send, unpack, words

#: Seconds without a packet after which mvm is told that bytes come.
_QUIET: Final = 1.0
#: Bytes that are read at a time, and of the largest record of TLS (RFC 8446, section 5.1).
_READ: Final = 1 << 18
_RECORD: Final = 1 << 14
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
        self._stream: Stream | None = None
        self._last_packet = 0.0

    def serve(self) -> None:
        """Answer one request after the other, until mvm hangs up."""
        while data := self._lane.recv(PIECE_BYTES + 1):
            if data[0] != PacketKind.ASK:
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
        self._last_packet = time.monotonic()
        stream = self._connected()
        stream.sendall(request)
        answer = Answer(stream)
        length = b"" if answer.length is None else b"%d" % answer.length
        head = pack(b"%d" % answer.status, length, *_head_texts(answer))
        if answer.length is not None and len(head) + len(pack(b"")) + answer.length <= PIECE_BYTES:
            self._pass_on_whole(answer, head)
        else:
            send(self._lane, PacketKind.HEAD, head)
            left = answer.length
            for piece in answer.body():
                left = None if left is None else left - len(piece)
                send(self._lane, PacketKind.LAST if left == 0 else PacketKind.DATA, piece)
                self._last_packet = time.monotonic()
            if left != 0:
                send(self._lane, PacketKind.END)
        if not answer.is_reusable:
            self._hang_up()

    def _pass_on_whole(self, answer: Answer, head: bytes) -> None:
        """In one packet; what came before it broke, as if it were a large one."""
        body = bytearray()
        try:
            for piece in answer.body():
                body += piece
        except BaseException:
            send(self._lane, PacketKind.HEAD, head)
            if body:
                send(self._lane, PacketKind.DATA, body)
            raise
        send(self._lane, PacketKind.WHOLE, head + pack(bytes(body)))

    def _connected(self) -> Stream:
        if self._stream is not None and self._socket is not None and not select.select([self._socket], [], [], 0)[0]:
            return self._stream
        self._hang_up()  # what comes before it was asked for is the end of the connection, or no answer
        send(self._lane, PacketKind.WANTED)
        data, fds, _, _ = socket.recv_fds(self._lane, PIECE_BYTES + 1, 1)
        if not fds:
            raise EOFError("there is no connection")
        self._socket = socket.socket(fileno=fds[0])
        self._socket.settimeout(self._stall)
        tunnelled, proxy, request = unpack(data[1:])
        stream: Stream = _WatchedStream(self._socket, self._tell)
        if proxy:
            stream = _Secured(stream, self._trust.context(), proxy.decode())
        if tunnelled:
            _open_tunnel(stream, request)
        self._stream = _Secured(stream, self._trust.context(), self._host) if self._host else stream
        return self._stream

    def _tell(self) -> None:
        """Bytes came; mvm hears of it where it has heard nothing for a while."""
        if time.monotonic() - self._last_packet > _QUIET:
            self._last_packet = time.monotonic()
            send(self._lane, PacketKind.ALIVE)

    def _hang_up(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
        self._socket = self._stream = None

    def _broken(self, what: bytes, why: str) -> None:
        self._hang_up()
        send(self._lane, PacketKind.BROKEN, pack(what, words(why)))


class _WatchedStream:
    """A stream; `tell` is called whenever bytes come."""

    def __init__(self, stream: Stream, tell: Callable[[], None]) -> None:
        self._stream, self._tell = stream, tell
        self.sendall = stream.sendall

    def recv(self, size: int, /) -> bytes:
        data = self._stream.recv(size)
        self._tell()
        return data

    def recv_into(self, buffer: memoryview, /) -> int:
        size = self._stream.recv_into(buffer)
        self._tell()
        return size


class _Secured:
    """TLS over a stream, which may be secured itself, as through a proxy that TLS is spoken with.

    It reads as much as comes at a time, and not record by record, which takes two calls of the kernel for each.
    """

    def __init__(self, below: Stream, context: ssl.SSLContext, host: str) -> None:
        """Shake hands. Raises OSError, ssl.SSLCertVerificationError among them, and EOFError."""
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._read = memoryview(bytearray(_READ))
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._exchange()
            else:
                break  # our last message of it goes with what is sent first

    def recv(self, size: int, /) -> bytes:
        place = memoryview(bytearray(min(size, _RECORD)))
        return bytes(place[: self.recv_into(place)])

    def recv_into(self, buffer: memoryview, /) -> int:
        size = 0
        while True:
            try:
                while more := self._tls.read(len(buffer) - size, buffer[size:]):  # 0 where it is full
                    size += int(more)
            except ssl.SSLWantReadError:
                if not size:
                    self._exchange()
                    continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                """What was read before its end is yet to be told."""
            return size

    def sendall(self, data: bytes, /) -> None:
        self._tls.write(data)
        self._flush()

    def _exchange(self) -> None:
        """Send what is to be sent, and take what comes next."""
        self._flush()
        size = self._below.recv_into(self._read)
        if size:
            self._incoming.write(self._read[:size])
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._below.sendall(self._outgoing.read())


def _open_tunnel(stream: Stream, request: bytes) -> None:
    """Ask a proxy for the way to the origin, unless mvm has (RFC 9110, section 9.3.6), and read what it answers."""
    stream.sendall(request)
    line = b""
    while not line.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)  # what comes behind its answer is the origin's
        if not byte or len(line) > PIECE_BYTES:
            raise EOFError("the proxy hung up")
        line += byte
    status = line[:64].split(b" ")[1:2]
    if not status or not status[0].isdigit() or status[0][:1] != b"2":
        raise EOFError(f"the proxy answers {(status or [b'?'])[0].decode(errors='replace')[:16]}")


def _head_texts(answer: Answer) -> list[bytes]:
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
