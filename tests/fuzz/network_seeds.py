"""What honest clients and servers say on the network, for the seed corpora; written by `python -m tests.fuzz.seeds`."""

import struct
from collections.abc import Iterator

from tests.unit.network.hellos import EXAMPLE, hello, message, protocols, records, server_name, versions


def client_hello() -> Iterator[tuple[str, bytes]]:
    """Behind the byte that says how long portions are."""
    grease = ((0x1A1A, b""), versions(0x2A2A, 0x0304, 0x0303), protocols(b"h2", b"http/1.1"), (0x3A3A, b"\0"))
    yield "tls13", b"\xff" + hello(*grease, (51, b"\0\x24\0\x1d\0\x20" + b"k" * 32))
    yield "post-quantum", b"\xff" + hello(versions(0x0304), (51, b"k" * 1200))
    yield "tls12", b"\x40" + records(message([EXAMPLE, protocols(b"http/1.1"), (35, b"ticket"), (23, b"")]))
    yield "fragmented", b"\x07" + records(message(), [1, 2, 30])
    yield (
        "resumption",
        b"\x21" + hello((42, b""), versions(0x0304), (45, b"\1\1"), (41, b"\0\x0a\0\4abcd\0\0\0\0\0\1b")),
    )
    yield "encrypted-client-hello", b"\xff" + hello((0xFE0D, b"\0\0\1\0\1\0\0\2ab\0\2cd"))
    yield "encrypted-server-name", b"\xff" + hello((0xFFCE, b"x" * 16))
    yield "address", b"\xff" + records(message([server_name(b"192.0.2.1")]))
    yield "no-name", b"\xff" + records(message([versions(0x0304)]))
    yield "no-extensions", b"\xff" + records(message(None))
    yield "ssl2", b"\x03" + bytes((0x80, 0x1C, 1, 3, 1, 0, 3, 0, 0, 0, 16)) + b"\0" * 19
    yield "http", b"\x10" + b"GET / HTTP/1.1\r\n\r\n"


def resolver() -> Iterator[tuple[str, bytes]]:
    """Whole messages."""
    opt = b"\0\0\x29\4\xd0\0\0\0\0"

    def query(name: bytes, kind: int, additional: bytes = b"", flags: int = 0x0100, kin: int = 1) -> bytes:
        labels = b"".join(bytes([len(label)]) + label for label in name.split(b".") if label)
        counts = struct.pack("!6H", 7, flags, 1, 0, 0, bool(additional))
        return counts + labels + b"\0" + struct.pack("!HH", kind, kin) + additional

    yield "allowed", query(b"index.example", 1)
    yield "allowed-with-edns", query(b"InDeX.example", 1, opt + b"\0\x0c\0\x0a\0\x08cookie12")
    yield "ipv6", query(b"index.example", 28)
    yield "https", query(b"index.example", 65, opt + b"\0\0")
    yield "blocked", query(b"other.example", 1, opt + b"\0\0")
    yield "blocked-without-edns", query(b"_x.other.example", 1)
    yield "reverse", query(b"1.0.18.198.in-addr.arpa", 12)
    yield "root", query(b"", 2)
    yield "version", query(b"version.bind", 16, kin=3)
    yield "edns-1", query(b"a", 1, opt[:6] + b"\1" + opt[7:] + b"\0\0")
    yield "client-subnet", query(b"a", 1, opt + b"\0\x0b\0\x08\0\x07\0\1\x18\0\1\2\3")
    yield "transfer", query(b"index.example", 252)
    yield "notify", query(b"index.example", 6, flags=0x2000)
    yield "response", query(b"index.example", 1, flags=0x8180)
    yield "pointer", struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\1a\xc0\x0c\0\1\0\1"


def http() -> Iterator[tuple[str, bytes]]:
    """Behind the byte that says how long portions are."""
    for number, (name, said) in enumerate(_conversations()):
        yield name, bytes([number * 13 + 1]) + said


def _conversations() -> Iterator[tuple[str, bytes]]:
    """What the client and the server say in turn, divided by 0xFF."""
    get, answer = b"GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    yield "get", get + b"\xff" + answer
    yield "pipelined", get * 2 + b"\xff" + answer * 2
    yield "keep-alive", b"\xff".join((get, answer, get, answer))
    yield "head", get.replace(b"GET", b"HEAD") + b"\xff" + answer[:-2]
    yield (
        "post",
        b"POST /a/b?c HTTP/1.1\r\nHost: A.example:80\r\nContent-Length: 5\r\n\r\nhello" + get + b"\xff" + answer,
    )
    chunked = b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    yield "chunked", b"PUT /a HTTP/1.1\r\nHost: a.example\r\n" + chunked + b"\xffHTTP/1.1 200 OK\r\n" + chunked
    yield "trailers", get + b"\xffHTTP/1.1 200 OK\r\n" + chunked.replace(b"0\r\n\r\n", b"0;x\r\nY: z\r\n\r\n")
    yield (
        "continue",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n\xff"
        + (b"HTTP/1.1 100 Continue\r\n\r\n\xffok\xff" + answer),
    )
    upgrade = get[:-2] + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    yield "websocket", b"\xff".join((upgrade + b"\x81", switched + b"\x82", b"\x81\0"))
    yield "websocket-declined", upgrade + get + b"\xff" + answer
    yield "http10", b"GET /a HTTP/1.0\r\nHost: a.example\r\nConnection: close\r\n\r\n\xffHTTP/1.0 200 OK\r\n\r\nall"
    yield "both-lengths", b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n" + chunked
    yield "folded", b"GET /a HTTP/1.1\r\nHost: a.example\r\nX: y\r\n z\r\n\r\n"
    yield "absolute", b"GET http://a.example/a HTTP/1.1\r\nHost: a.example\r\n\r\n"
    yield "h2c", get[:-2] + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    yield "http2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
