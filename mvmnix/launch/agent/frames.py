"""The frames by which host and guest agent speak of their channel (docs/reference/channel.md), as types; no I/O."""

import re
from abc import ABC
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Self, override

from mvmnix.launch.agent.encoding import ChannelProtocolError, Reader, Writer
from mvmnix.launch.agent.requests import ENTROPY_BYTES, GuestConfig, is_hostname

PROTOCOL_VERSION = 2
#: Bytes that may be under way on each flow of a stream before the receiver grants more.
INITIAL_WINDOW = 256 * 1024
#: The same for what a command writes, which is most of what goes through a channel.
OUTPUT_WINDOW = 1024 * 1024
#: How many streams of either kind may be open at once.
MAX_STREAMS = 64
#: Longest text in HELLO, FAILED and NOT_FROZEN, in bytes.
MAX_TEXT = 1024
#: An agent's version, the first one that binds disks late, and the first one that freezes commands
#: (docs/reference/channel.md).
_VERSION = r"[0-9]{1,9}(\.[0-9]{1,9}){2}"
_BINDS_LATE = (0, 2, 0)
_FREEZES = (0, 3, 0)
#: In THAW: the machine was restored. In THAWED: the configuration's command goes on.
_RENEWED = 1
_RUNS = 1


class FrameKind(IntEnum):
    """A frame's first byte."""

    HELLO = 1
    CONFIG = 2
    READY = 3
    FAILED = 4
    RUN = 5
    EXEC = 6
    STARTED = 7
    STDIN = 8
    STDOUT = 9
    STDERR = 10
    SIGNAL = 11
    EXIT = 12
    OPEN = 13
    DATA = 14
    EOF = 15
    RESET = 16
    WINDOW = 17
    PING = 18
    PONG = 19
    SHUTDOWN = 20
    BYE = 21
    RESIZE = 22
    SHELL = 23
    COPY = 24
    TIME = 25
    FILES = 26
    FREEZE = 27
    FROZEN = 28
    NOT_FROZEN = 29
    THAW = 30
    THAWED = 31


def window_of(flow: FrameKind) -> int:
    """The window of a flow, in bytes; `flow` is the kind of frame that carries its bytes."""
    return OUTPUT_WINDOW if flow in {FrameKind.STDOUT, FrameKind.STDERR} else INITIAL_WINDOW


@dataclass(frozen=True, slots=True)
class Frame(ABC):
    """What one side tells the other; `stream` is 0 for the channel as a whole."""

    KIND: ClassVar[FrameKind]
    stream: int

    def payload(self) -> bytes:
        """The bytes after the header."""
        return b""

    @classmethod
    def parse(cls, stream: int, payload: bytes) -> Self:
        """Header and payload as a frame. Raises ChannelProtocolError."""
        Reader(payload).end()
        return cls(stream)

    @classmethod
    def carries(cls, stream: int) -> bool:
        """Whether such a frame may name this stream."""
        return stream != 0


@dataclass(frozen=True, slots=True)
class ControlFrame(Frame, ABC):
    """A frame of the channel as a whole."""

    stream: int = field(default=0, init=False)

    @override
    @classmethod
    def parse(cls, stream: int, payload: bytes) -> Self:
        Reader(payload).end()
        return cls()

    @override
    @classmethod
    def carries(cls, stream: int) -> bool:
        return stream == 0


@dataclass(frozen=True, slots=True)
class Hello(ControlFrame):
    """Guest: I am here. Protocol version, the agent's version, the kernel's release (all as the guest says)."""

    KIND = FrameKind.HELLO
    version: int
    agent: str
    kernel: str

    @property
    def binds_disks_late(self) -> bool:
        """Whether the agent, as it says, has the kernel know no disk before CONFIG but that of the root."""
        return self._is_at_least(_BINDS_LATE)

    @property
    def freezes_commands(self) -> bool:
        """Whether the agent, as it says, knows FREEZE and THAW."""
        return self._is_at_least(_FREEZES)

    def _is_at_least(self, version: tuple[int, int, int]) -> bool:
        return re.fullmatch(_VERSION, self.agent) is not None and tuple(map(int, self.agent.split("."))) >= version

    @override
    def payload(self) -> bytes:
        return Writer().pack("I", self.version).string(self.agent).string(self.kernel).done()

    @override
    @classmethod
    def parse(cls, stream: int, payload: bytes) -> Self:
        reader = Reader(payload)
        hello = cls(reader.number("I"), reader.string(MAX_TEXT), reader.string(MAX_TEXT))
        reader.end()
        return hello


@dataclass(frozen=True, slots=True)
class Config(ControlFrame):
    """Host: what you are to be. Accepted once."""

    KIND = FrameKind.CONFIG
    guest: GuestConfig

    @override
    def payload(self) -> bytes:
        return self.guest.encode()


@dataclass(frozen=True, slots=True)
class Ready(ControlFrame):
    """Guest: root file system, scratch and ports are as CONFIG wants them."""

    KIND = FrameKind.READY


class GuestFailure(IntEnum):
    """Why a guest can't be set up."""

    OTHER = 0
    MOUNT_POINT = 1


@dataclass(frozen=True, slots=True)
class Failed(ControlFrame):
    """Guest: it can't be done; I restart."""

    KIND = FrameKind.FAILED
    message: bytes
    failure: GuestFailure = GuestFailure.OTHER

    @override
    def payload(self) -> bytes:
        return Writer().pack("I", self.failure).raw(self.message).done()

    @override
    @classmethod
    def parse(cls, stream: int, payload: bytes) -> Self:
        failure, message = Reader(payload).number("I"), payload[4:]
        if failure not in set(GuestFailure) or len(message) > MAX_TEXT:
            raise ChannelProtocolError(f"a failure {failure} with a message of {len(message)} bytes")
        return cls(message, GuestFailure(failure))


@dataclass(frozen=True, slots=True)
class Probe(ControlFrame, ABC):
    """A frame with eight bytes that come back as they went."""

    token: int

    @override
    def payload(self) -> bytes:
        return Writer().pack("Q", self.token).done()

    @override
    @classmethod
    def parse(cls, stream: int, payload: bytes) -> Self:
        reader = Reader(payload)
        token = reader.number("Q")
        reader.end()
        return cls(token)


@dataclass(frozen=True, slots=True)
class Ping(Probe):
    """Host: are you there?"""

    KIND = FrameKind.PING


@dataclass(frozen=True, slots=True)
class Pong(Probe):
    """Guest: I am, and this is what you said."""

    KIND = FrameKind.PONG


@dataclass(frozen=True, slots=True)
class Time(ControlFrame):
    """Host: it is this Unix time now, in nanoseconds, less than 2^63. Nothing is answered."""

    KIND = FrameKind.TIME
    time_ns: int

    @override
    def payload(self) -> bytes:
        return Writer().pack("Q", self.time_ns).done()


@dataclass(frozen=True, slots=True)
class Freeze(ControlFrame):
    """Host: stop all processes of commands within this time; nothing but THAW or SHUTDOWN follows."""

    KIND = FrameKind.FREEZE
    milliseconds: int

    @override
    def payload(self) -> bytes:
        return Writer().pack("I", self.milliseconds).done()


@dataclass(frozen=True, slots=True)
class Frozen(ControlFrame):
    """Guest: they stand; the last frame before THAW."""

    KIND = FrameKind.FROZEN


@dataclass(frozen=True, slots=True)
class NotFrozen(ControlFrame):
    """Guest: they could not be stopped in that time, and go on as if nothing had been said."""

    KIND = FrameKind.NOT_FROZEN
    message: bytes

    @override
    def payload(self) -> bytes:
        return self.message

    @override
    @classmethod
    def parse(cls, stream: int, payload: bytes) -> Self:
        if len(payload) > MAX_TEXT:
            raise ChannelProtocolError(f"a NOT_FROZEN frame with a message of {len(payload)} bytes")
        return cls(payload)


@dataclass(frozen=True, slots=True)
class Thaw(ControlFrame):
    """Host: have the processes of commands go on, once entropy, clock and host name are renewed.

    Raises ValueError for what no guest would take.
    """

    KIND = FrameKind.THAW
    #: Whether the machine was restored from a snapshot: the host speaks of streams of its own from here on.
    is_renewed: bool
    #: Unix time in nanoseconds, now; less than 2^63.
    time_ns: int
    #: ENTROPY_BYTES random bytes, drawn for this moment alone.
    entropy: bytes = field(repr=False)
    #: The guest's host name; empty: it keeps the one that it has.
    hostname: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.time_ns < 2**63:
            raise ValueError(f"not a time in nanoseconds: {self.time_ns}")
        if len(self.entropy) != ENTROPY_BYTES:
            raise ValueError(f"entropy has {len(self.entropy)} bytes, not {ENTROPY_BYTES}")
        if self.hostname and not is_hostname(self.hostname):
            raise ValueError(f"not a host name: {self.hostname!r}")

    @override
    def payload(self) -> bytes:
        flags = _RENEWED if self.is_renewed else 0
        return Writer().pack("IQ", flags, self.time_ns).raw(self.entropy).string(self.hostname).done()


@dataclass(frozen=True, slots=True)
class Thawed(ControlFrame):
    """Guest: all of THAW is done, and the processes go on."""

    KIND = FrameKind.THAWED
    #: Whether the configuration's command (RUN) was started and has not ended.
    run_goes_on: bool

    @override
    def payload(self) -> bytes:
        return Writer().pack("I", _RUNS if self.run_goes_on else 0).done()

    @override
    @classmethod
    def parse(cls, stream: int, payload: bytes) -> Self:
        reader = Reader(payload)
        flags = reader.number("I")
        reader.end()
        if flags & ~_RUNS:
            raise ChannelProtocolError(f"a THAWED frame with flags {flags:#x}")
        return cls(flags == _RUNS)


@dataclass(frozen=True, slots=True)
class Shutdown(ControlFrame):
    """Host: end all commands (SIGTERM, after `grace_ms` milliseconds SIGKILL), then restart, which ends the VM."""

    KIND = FrameKind.SHUTDOWN
    grace_ms: int

    @override
    def payload(self) -> bytes:
        return Writer().pack("I", self.grace_ms).done()


@dataclass(frozen=True, slots=True)
class Bye(ControlFrame):
    """Guest: the last frame of all."""

    KIND = FrameKind.BYE
