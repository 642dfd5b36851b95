"""The integers, strings and lists that channel payloads are made of, and what is raised when they don't fit; no I/O."""

import struct
from collections.abc import Iterable
from typing import Self

from mvmnix.errors import MvmnixError

_HINT = "the guest agent or the guest's kernel is not the one that the image promises; look at the console log"


class ChannelError(MvmnixError):
    """The conversation with the guest agent can't go on."""


class ChannelProtocolError(ChannelError):
    """The guest said something that the protocol (docs/reference/channel.md) forbids; nothing more is read from it."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the guest broke the channel's protocol: {why}", hint=_HINT)


class ChannelClosedError(ChannelError):
    """The other end is gone: the guest or its hypervisor ended, or the channel was closed on purpose."""


class ChannelTimeoutError(ChannelError):
    """No progress for as long as the caller was willing to wait."""


class GuestFailedError(ChannelError):
    """The agent itself reported that the guest can't be made ready; its words are escaped and bounded."""


class MountPointError(GuestFailedError):
    """The agent reported that it can't mount a share or the data disk at the plan's mount point."""


class Writer:
    """Builds a payload: big-endian integers, byte strings with a 32-bit length in front."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def pack(self, layout: str, *values: int) -> Self:
        """Append integers in `struct` notation, big endian."""
        self._parts.append(struct.pack(">" + layout, *values))
        return self

    def raw(self, data: bytes) -> Self:
        """Append bytes of a length that both sides know."""
        self._parts.append(data)
        return self

    def string(self, text: str) -> Self:
        """Append a string; what isn't UTF-8 travels as surrogate escapes (PEP 383). Raises ValueError for a NUL."""
        data = text.encode("utf-8", "surrogateescape")
        if b"\0" in data:
            raise ValueError(f"a NUL byte can't be passed to the guest: {text!r}")
        return self.pack("I", len(data)).raw(data)

    def strings(self, texts: Iterable[str]) -> Self:
        """Append a list of strings with its 32-bit count in front."""
        items = tuple(texts)
        self.pack("I", len(items))
        for text in items:
            self.string(text)
        return self

    def done(self) -> bytes:
        """The payload."""
        return b"".join(self._parts)


class Reader:
    """Takes a payload apart; every method raises ChannelProtocolError when the bytes don't reach or are too many."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def raw(self, length: int) -> bytes:
        """The next `length` bytes."""
        if length > len(self._data) - self._at:
            raise ChannelProtocolError(f"a payload of {len(self._data)} bytes ends too early")
        start, self._at = self._at, self._at + length
        return self._data[start : self._at]

    def number(self, layout: str) -> int:
        """The next integer, `layout` in `struct` notation."""
        value: int = struct.unpack(">" + layout, self.raw(struct.calcsize(">" + layout)))[0]
        return value

    def string(self, limit: int) -> str:
        """The next string, of at most `limit` bytes without NUL; undecodable bytes become surrogate escapes."""
        length = self.number("I")
        if length > limit:
            raise ChannelProtocolError(f"a string of {length} bytes, where {limit} are allowed")
        data = self.raw(length)
        if b"\0" in data:
            raise ChannelProtocolError("a string with a NUL byte")
        return data.decode("utf-8", "surrogateescape")

    def end(self) -> None:
        """Refuse bytes that are left over."""
        if self._at != len(self._data):
            raise ChannelProtocolError(f"{len(self._data) - self._at} bytes too many in a payload")
