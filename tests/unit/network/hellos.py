"""Makes ClientHellos: those of Python's own TLS, and any other, field by field."""

import ssl
from collections.abc import Iterable, Sequence

Extensions = Iterable[tuple[int, bytes]]


def vector(header: int, *parts: bytes) -> bytes:
    """Bytes behind their length."""
    data = b"".join(parts)
    return len(data).to_bytes(header) + data


def server_name(name: bytes, kind: int = 0) -> tuple[int, bytes]:
    """The extension with one name."""
    return server_names((kind, name))


def server_names(*names: tuple[int, bytes]) -> tuple[int, bytes]:
    return 0, vector(2, *(bytes([kind]) + vector(2, name) for kind, name in names))


def protocols(*names: bytes) -> tuple[int, bytes]:
    return 16, vector(2, *(vector(1, name) for name in names))


def versions(*numbers: int) -> tuple[int, bytes]:
    return 43, vector(1, *(number.to_bytes(2) for number in numbers))


EXAMPLE = server_name(b"api.example.com")


def message(
    extensions: Extensions | None = (EXAMPLE,),
    *,
    version: int = 0x0303,
    session: bytes = b"s" * 32,
    ciphers: bytes = b"\x13\x01\x13\x02",
    compressions: bytes = b"\0",
    kind: int = 1,
    tail: bytes = b"",
) -> bytes:
    """The handshake message."""
    body = version.to_bytes(2) + b"r" * 32 + vector(1, session) + vector(2, ciphers) + vector(1, compressions)
    if extensions is not None:
        body += vector(2, *(number.to_bytes(2) + vector(2, data) for number, data in extensions))
    return bytes([kind]) + vector(3, body + tail)


def record(fragment: bytes, version: int = 0x0301, kind: int = 22) -> bytes:
    return bytes([kind]) + version.to_bytes(2) + vector(2, fragment)


def records(whole: bytes, sizes: Sequence[int] = (), version: int = 0x0301) -> bytes:
    """A message over records of these sizes, and one for what is left."""
    made = b""
    for size in sizes:
        made += record(whole[:size], version)
        whole = whole[size:]
    return made + (record(whole, version) if whole else b"")


def hello(*extensions: tuple[int, bytes]) -> bytes:
    """One with the server name api.example.com and these extensions."""
    return records(message((EXAMPLE, *extensions)))


def of_python(name: str = "api.example.com", alpn: Sequence[str] = (), context: ssl.SSLContext | None = None) -> bytes:
    """What Python's ssl, which is OpenSSL, says first."""
    context = context or ssl.create_default_context()
    if alpn:
        context.set_alpn_protocols(list(alpn))
    said = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), said, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return said.read()
    raise AssertionError("a handshake ended without a server")
