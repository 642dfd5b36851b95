"""Reads a TLS ClientHello as it comes in: for which server it is, or why it is refused; bytes in, no I/O.

What is wrong is refused as soon as its bytes are there. The code has these numbers:

1. Records (RFC 8446, 5.1) of handshake type and version 3.1 to 3.3, none empty, until one message is whole. SSL 2 and
   what is no TLS have codes of their own.
2. The message is a ClientHello, and ends where a record ends, as what may precede a change of keys has to.
3. Its fields have the lengths of RFC 8446, 4.1.2 (RFC 5246, 7.4.1.2), to the last byte.
4. No extension comes twice, and pre_shared_key comes last (RFC 8446, 4.2 and 4.2.11). Unknown extensions, those of
   GREASE (RFC 8701) among them, are passed over.
5. There is one server name (RFC 6066, 3): a host name of letters, digits and hyphens, no address, no dot at its end.

Encrypted ClientHello is a fact here, and for the caller to refuse. What comes later isn't read: a second ClientHello
after a HelloRetryRequest, and all that is encrypted.
"""

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from mvmnix.formats.addresses import is_address_text

#: Bytes in which a ClientHello has to end, headers of records included.
MAX_HELLO_BYTES: Final = 16 * 1024

_RECORD_HEADER: Final = 5
_MESSAGE_HEADER: Final = 4
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_TLS_1_0: Final = 0x0301
_TLS_1_2: Final = 0x0303
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST_NAME: Final = 253


class Extension(IntEnum):
    """The extensions that are looked at (IANA, TLS ExtensionType Values)."""

    SERVER_NAME = 0
    ALPN = 16
    PRE_SHARED_KEY = 41
    SUPPORTED_VERSIONS = 43
    ENCRYPTED_SERVER_NAME = 0xFFCE
    ENCRYPTED_CLIENT_HELLO = 0xFE0D


#: What may hide a name: Encrypted ClientHello, its drafts that had numbers of their own (draft-ietf-tls-esni-08 to
#: -10), and its predecessor.
_ENCRYPTED: Final = frozenset(
    {Extension.ENCRYPTED_CLIENT_HELLO, 0xFE08, 0xFE09, 0xFE0A, Extension.ENCRYPTED_SERVER_NAME}
)


class Alert(IntEnum):
    """Descriptions of TLS alerts that are sent instead of a connection (RFC 8446, 6)."""

    UNEXPECTED_MESSAGE = 10
    RECORD_OVERFLOW = 22
    ILLEGAL_PARAMETER = 47
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    PROTOCOL_VERSION = 70
    INTERNAL_ERROR = 80
    MISSING_EXTENSION = 109
    UNRECOGNIZED_NAME = 112


class HelloFault(StrEnum):
    """Why a ClientHello is refused."""

    NOT_TLS = "not-tls"
    SSL2 = "ssl2"
    RECORD_VERSION = "record-version"
    EMPTY_RECORD = "empty-record"
    TOO_LONG = "too-long"
    NOT_CLIENT_HELLO = "not-client-hello"
    MORE_IN_RECORD = "more-in-record"
    MALFORMED = "malformed"
    VERSION = "version"
    DUPLICATE_EXTENSION = "duplicate-extension"
    PSK_NOT_LAST = "psk-not-last"
    NO_SERVER_NAME = "no-server-name"
    SERVER_NAMES = "server-names"
    NAME_CHARACTERS = "name-characters"
    NAME_TRAILING_DOT = "name-trailing-dot"
    NAME_ADDRESS = "name-address"

    @property
    def alert(self) -> Alert:
        """The alert that tells the client."""
        return _ALERTS.get(self, Alert.DECODE_ERROR)


_ALERTS: Final = {
    HelloFault.SSL2: Alert.PROTOCOL_VERSION,
    HelloFault.RECORD_VERSION: Alert.PROTOCOL_VERSION,
    HelloFault.VERSION: Alert.PROTOCOL_VERSION,
    HelloFault.NOT_TLS: Alert.UNEXPECTED_MESSAGE,
    HelloFault.EMPTY_RECORD: Alert.UNEXPECTED_MESSAGE,
    HelloFault.NOT_CLIENT_HELLO: Alert.UNEXPECTED_MESSAGE,
    HelloFault.MORE_IN_RECORD: Alert.UNEXPECTED_MESSAGE,
    HelloFault.TOO_LONG: Alert.RECORD_OVERFLOW,
    HelloFault.DUPLICATE_EXTENSION: Alert.ILLEGAL_PARAMETER,
    HelloFault.PSK_NOT_LAST: Alert.ILLEGAL_PARAMETER,
    HelloFault.NO_SERVER_NAME: Alert.MISSING_EXTENSION,
    HelloFault.SERVER_NAMES: Alert.UNRECOGNIZED_NAME,
    HelloFault.NAME_CHARACTERS: Alert.UNRECOGNIZED_NAME,
    HelloFault.NAME_TRAILING_DOT: Alert.UNRECOGNIZED_NAME,
    HelloFault.NAME_ADDRESS: Alert.UNRECOGNIZED_NAME,
}


class HelloRefusedError(Exception):
    """A ClientHello that is not passed on; `fault` says why, for machines."""

    def __init__(self, fault: HelloFault) -> None:
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class ClientHello:
    """The name that a client asks for, in lower case.

    `hides_a_name` says whether it may ask for another name than the one that can be read (RFC 9849).
    """

    server_name: str
    hides_a_name: bool


def alert_record(alert: Alert) -> bytes:
    """A fatal alert as the one record that a server sends before it closes (RFC 8446, 5.1 and 6).

    >>> alert_record(Alert.UNRECOGNIZED_NAME).hex(" ")
    '15 03 03 00 02 02 70'
    """
    return bytes((21, 3, 3, 0, 2, 2, alert))


class ClientHelloReader:
    """Takes a client's bytes in portions until its ClientHello is whole. Holds what came, to be passed on."""

    __slots__ = ("_at", "_data", "_fault", "_hello", "_message")

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0
        self._message = bytearray()
        self._hello: ClientHello | None = None
        self._fault: HelloFault | None = None

    @property
    def received(self) -> bytes:
        """All bytes that came, those after the ClientHello included."""
        return bytes(self._data)

    def feed(self, data: bytes) -> ClientHello | None:
        """The ClientHello once it is whole, and None before that.

        Once whole, more bytes change nothing. Raises HelloRefusedError, and the same again for what comes after that.
        """
        if self._fault is not None:
            raise HelloRefusedError(self._fault)
        self._data += data
        try:
            while self._hello is None and self._next_record():
                self._hello = self._whole()
        except HelloRefusedError as error:
            self._fault = error.fault
            raise
        return self._hello

    def _next_record(self) -> bool:
        """Add the fragment of the next record to the message, if the record is all there."""
        # 1. records
        start = self._at + _RECORD_HEADER
        header = self._data[self._at : start]
        _check_start(header)
        if len(header) < _RECORD_HEADER:
            return False
        end = start + int.from_bytes(header[3:])
        if end == start:
            raise HelloRefusedError(HelloFault.EMPTY_RECORD)
        if end > MAX_HELLO_BYTES:
            raise HelloRefusedError(HelloFault.TOO_LONG)
        # 2. the message
        self._check_message(self._data[start : min(end, start + _MESSAGE_HEADER)])
        if len(self._data) < end:
            return False
        self._message += self._data[start:end]
        self._at = end
        return True

    def _check_message(self, fragment: bytearray) -> None:
        """What the first bytes of the message say; `fragment` continues it."""
        start = (self._message[:_MESSAGE_HEADER] + fragment)[:_MESSAGE_HEADER]
        if start and start[0] != _CLIENT_HELLO:
            raise HelloRefusedError(HelloFault.NOT_CLIENT_HELLO)
        if len(start) == _MESSAGE_HEADER and int.from_bytes(start[1:]) > MAX_HELLO_BYTES:
            raise HelloRefusedError(HelloFault.TOO_LONG)

    def _whole(self) -> ClientHello | None:
        if len(self._message) < _MESSAGE_HEADER:
            return None
        length = _MESSAGE_HEADER + int.from_bytes(self._message[1:4])
        if len(self._message) > length:
            raise HelloRefusedError(HelloFault.MORE_IN_RECORD)
        return _parsed(bytes(self._message)) if len(self._message) == length else None


def _check_start(header: bytearray) -> None:
    """Type and version of a record, as far as they are there. Raises HelloRefusedError."""
    if header and header[0] != _HANDSHAKE:
        # SSL 2.0 (RFC 6101, appendix E): a length of two bytes, its first bit set, then the type of the message
        if header[0] & 0x80 and len(header) < 3:
            return
        ssl2 = header[0] & 0x80 and header[2] == _CLIENT_HELLO
        raise HelloRefusedError(HelloFault.SSL2 if ssl2 else HelloFault.NOT_TLS)
    if len(header) > 1 and header[1] != _TLS_1_0 >> 8:
        raise HelloRefusedError(HelloFault.RECORD_VERSION)
    if len(header) > 2 and not _TLS_1_0 <= int.from_bytes(header[1:3]) <= _TLS_1_2:
        raise HelloRefusedError(HelloFault.RECORD_VERSION)


class _Fields:
    """Takes fields off the front of bytes."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def rest(self) -> int:
        return len(self._data) - self._at

    def take(self, length: int) -> bytes:
        """Raises HelloRefusedError [malformed]."""
        if length > self.rest:
            raise HelloRefusedError(HelloFault.MALFORMED)
        self._at += length
        return self._data[self._at - length : self._at]

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length))

    def vector(self, header: int, least: int = 0) -> bytes:
        """A field behind its length, which has `header` bytes (RFC 8446, 3.4). Raises HelloRefusedError [malformed]."""
        found = self.take(self.number(header))
        if len(found) < least:
            raise HelloRefusedError(HelloFault.MALFORMED)
        return found

    def end(self) -> None:
        """Raises HelloRefusedError [malformed] unless all is taken."""
        if self.rest:
            raise HelloRefusedError(HelloFault.MALFORMED)


def _parsed(message: bytes) -> ClientHello:
    # 3. fields
    fields = _Fields(message)
    fields.take(_MESSAGE_HEADER)
    version = fields.number(2)
    if not _TLS_1_0 <= version <= _TLS_1_2:
        raise HelloRefusedError(HelloFault.VERSION)
    fields.take(32)
    if len(fields.vector(1)) > 32:
        raise HelloRefusedError(HelloFault.MALFORMED)
    if len(fields.vector(2, least=2)) % 2:
        raise HelloRefusedError(HelloFault.MALFORMED)
    if 0 not in fields.vector(1, least=1):  # the compression "null"
        raise HelloRefusedError(HelloFault.MALFORMED)
    # 4. extensions
    found = _extensions(fields.vector(2)) if fields.rest else {}
    fields.end()
    # 5. the server name
    name = _server_name(found.get(Extension.SERVER_NAME))
    if Extension.ALPN in found:
        _check_protocols(found[Extension.ALPN])
    if Extension.SUPPORTED_VERSIONS in found:
        _check_versions(found[Extension.SUPPORTED_VERSIONS])
    return ClientHello(name, hides_a_name=not _ENCRYPTED.isdisjoint(found))


def _extensions(data: bytes) -> dict[int, bytes]:
    fields, found = _Fields(data), dict[int, bytes]()
    while fields.rest:
        kind = fields.number(2)
        if kind in found:
            raise HelloRefusedError(HelloFault.DUPLICATE_EXTENSION)
        if Extension.PRE_SHARED_KEY in found:
            raise HelloRefusedError(HelloFault.PSK_NOT_LAST)
        found[kind] = fields.vector(2)
    return found


def _server_name(data: bytes | None) -> str:
    if data is None:
        raise HelloRefusedError(HelloFault.NO_SERVER_NAME)
    fields = _Fields(data)
    names = _Fields(fields.vector(2, least=1))
    fields.end()
    kind = names.number(1)
    if kind != 0:
        raise HelloRefusedError(HelloFault.SERVER_NAMES)
    name = names.vector(2, least=1)
    if names.rest:
        raise HelloRefusedError(HelloFault.SERVER_NAMES)
    return read_name(name)


def read_name(data: bytes) -> str:
    """A host name as a handshake may have it, in lower case (5). Raises HelloRefusedError."""
    if not data.isascii():
        raise HelloRefusedError(HelloFault.NAME_CHARACTERS)
    name = data.decode("ascii").lower()
    if is_address_text(name):
        raise HelloRefusedError(HelloFault.NAME_ADDRESS)
    if name.endswith("."):
        raise HelloRefusedError(HelloFault.NAME_TRAILING_DOT)
    if len(name) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise HelloRefusedError(HelloFault.NAME_CHARACTERS)
    return name


def _check_protocols(data: bytes) -> None:
    """RFC 7301, 3.1. Raises HelloRefusedError [malformed]."""
    fields = _Fields(data)
    listed = _Fields(fields.vector(2, least=2))
    fields.end()
    while listed.rest:
        listed.vector(1, least=1)


def _check_versions(data: bytes) -> None:
    """RFC 8446, 4.2.1. Raises HelloRefusedError [malformed]."""
    fields = _Fields(data)
    listed = fields.vector(1, least=2)
    fields.end()
    if len(listed) % 2:
        raise HelloRefusedError(HelloFault.MALFORMED)
