"""Defines what mvm and its download worker send each other; the only module that both of them import.

They speak over pairs of AF_UNIX sockets of the type SOCK_SEQPACKET, so that the kernel keeps packets apart: a byte that
says what a packet is, and its content, which is bytes or texts (`pack`). A lane is such a pair, with one process of the
worker's at its other end, which does one kind of work.

- FETCH asks one origin. mvm sends ASK, the bytes of one request. It is asked for a connection (WANTED) where there is
  none yet, and sends it: CONNECTION, with a descriptor, and three texts, which are empty where there is no proxy: one
  that says that a proxy's answer to CONNECT comes first, the proxy's name where TLS is spoken with it, and what it is
  sent then. The answer is HEAD, DATA until the body ends, END or LAST; or BROKEN. HEAD is status, the body's size or
  an empty text, then names and values of FIELDS in turns. WHOLE is a HEAD, and where both fit the whole of a body as
  its last text. BROKEN is what broke, `certificate` or nothing, and words.
- EXPAND unpacks one stream. mvm sends DATA, and is answered by DATA until the lane needs more (NEXT); then END, which
  is answered by END. MALFORMED ends it.
- READ parses documents. mvm sends DATA and END, and is answered by DATA and END, texts in all; or by MALFORMED.
"""

import socket
import struct
from enum import Enum, IntEnum, StrEnum
from typing import Final

#: Bytes of a packet's content.
PIECE_BYTES: Final = 1 << 17
#: Bytes that a socket holds before its reader comes, where the kernel allows it (net.core.wmem_max).
_BUFFER: Final = 1 << 20
_LENGTH: Final = struct.Struct(">I")
#: The fields of an answer that mvm is told of, by lower-case names; `retry-after` in seconds.
FIELDS: Final = ("location", "etag", "content-range", "retry-after", "www-authenticate", "link")
#: Bytes of one of these.
FIELD_LIMIT: Final = 16 << 10
#: Characters of what the worker says of a failure.
WORDS: Final = 300


class PacketKind(IntEnum):
    """What a packet is."""

    ASK = 1
    WANTED = 2
    CONNECTION = 3
    HEAD = 4
    DATA = 5
    END = 6
    BROKEN = 7
    MALFORMED = 8
    NEXT = 9
    WHOLE = 10
    #: DATA and END in one.
    LAST = 12
    #: Something came, and there is nothing to tell of it yet.
    ALIVE = 11


class Work(Enum):
    """What a lane does."""

    FETCH = b"fetch"
    EXPAND = b"expand"
    READ = b"read"


class Compression(StrEnum):
    """How a binary cache packs an archive (narinfo field Compression); others are refused by name."""

    NONE = "none"
    XZ = "xz"
    BZIP2 = "bzip2"
    GZIP = "gzip"


class Document(Enum):
    """What a lane can parse (documents.py)."""

    NARINFO = b"narinfo"
    JSON = b"json"
    TOKEN = b"token"
    CHALLENGE = b"challenge"
    IMMUTABLE = b"immutable"
    NEXT = b"next"
    GITHUB = b"github"
    GITLAB = b"gitlab"
    REFS = b"refs"


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a lane."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return ends


def pack(*texts: bytes) -> bytes:
    """Texts as one content, each behind its length.

    >>> unpack(pack(b"a", b"", b"bc"))
    (b'a', b'', b'bc')
    """
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def unpack(data: bytes | memoryview) -> tuple[bytes, ...]:
    """The texts. Raises ValueError where the lengths don't fit."""
    texts, position = [], 0
    while position < len(data):
        begin = position + _LENGTH.size
        if begin > len(data):
            raise ValueError("a length is cut off")
        (length,) = _LENGTH.unpack_from(data, position)
        position = begin + length
        if position > len(data):
            raise ValueError("a text is cut off")
        texts.append(bytes(data[begin:position]))
    return tuple(texts)


def send(lane: socket.socket, kind: PacketKind, content: bytes | bytearray | memoryview = b"") -> None:
    """One packet. Raises OSError where the other end is gone."""
    lane.sendmsg([_KINDS[kind], content])


def send_all(lane: socket.socket, data: bytes) -> None:
    """DATA of any size, and END."""
    view = memoryview(data)
    for start in range(0, len(view), PIECE_BYTES):
        send(lane, PacketKind.DATA, view[start : start + PIECE_BYTES])
    send(lane, PacketKind.END)


def words(text: str) -> bytes:
    """What may be said of a failure, as it is sent."""
    return one_line(text).encode(errors="replace")


def one_line(text: str) -> str:
    r"""What may be said of a failure: one line of printable characters, at most WORDS of them. Both ends hold it.

    >>> one_line("it hung up\n\x1b[2J")
    'it hung up??[2J'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:WORDS]


_KINDS: Final = {kind: bytes((kind,)) for kind in PacketKind}
