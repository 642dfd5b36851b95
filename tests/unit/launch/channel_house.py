"""What the channel's tests talk to: services, sinks, a guest that works and one that means harm."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.commands import Command
from mvmnix.launch.agent.encoding import ChannelError
from mvmnix.launch.agent.frames import PROTOCOL_VERSION, Frame, Hello, Ready
from mvmnix.launch.agent.requests import ExecRequest, GuestConfig
from mvmnix.launch.agent.transport import encode
from mvmnix.model import User, Verb, Workload
from mvmnix.system.loop import Loop
from tests.patience import EVENT_PATIENCE
from tests.unit.launch.fake_guest import AGENT, FakeGuest

USER = User(1000, 1000)
IDLE = float(EVENT_PATIENCE)


def workload(*argv: str) -> Workload:
    return Workload(argv, {"PATH": "/bin"}, "/", USER)


def config(
    *, verbs: frozenset[Verb] = frozenset(Verb) - {Verb.SNAPSHOT}, ports: tuple[int, ...] = (80,)
) -> GuestConfig:
    return GuestConfig("guest", 1, bytes(32), 4096, USER, ("/tmp",), verbs, ports, workload("echo", "planned"))


class Echo:
    """Sends back what it gets."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.pending = bytearray()
        self.ended = self.was_reset = False
        self.most = 0
        del wake

    def data(self, data: bytes) -> None:
        self.pending += data
        self.most = max(self.most, len(self.pending))

    def eof(self) -> None:
        self.ended = True

    def pull(self, limit: int) -> bytes | None:
        data = bytes(self.pending[:limit])
        del self.pending[:limit]
        return data or (None if self.ended else b"")

    def reset(self) -> None:
        self.was_reset = True


class Services:
    """Remembers the handlers that it made."""

    def __init__(self, make: Callable[[Callable[[], None]], Echo] = Echo) -> None:
        self.made: list[Echo] = []
        self._make = make

    def __call__(self, wake: Callable[[], None]) -> Echo:
        self.made.append(self._make(wake))
        return self.made[-1]


@contextmanager
def talk(services: Services | None = None, **changes: object) -> Iterator[tuple[Channel, FakeGuest, Loop]]:
    """A configured channel and the working guest at its other end."""
    ours, theirs = socket.socketpair()
    loop = Loop()
    with TemporaryDirectory() as root, FakeGuest(theirs, root=Path(root)) as guest:
        channel = Channel(ours, loop, services={80: services or Services()})
        assert channel.wait_hello(idle=IDLE) == Hello(PROTOCOL_VERSION, AGENT, "0.0")
        channel.configure(config(**changes), idle=IDLE)  # type: ignore[arg-type]
        yield channel, guest, loop
        channel.close()
    loop.close()


class Collect:
    """A sink."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def data(self) -> bytes:
        """All that came."""
        return bytes(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __call__(self, data: bytes) -> None:
        self._data += data


def nothing(_data: bytes) -> None:
    raise AssertionError("no output was expected")


class Hostile:
    """The guest's end of a socketpair, for tests that say what a guest should not."""

    def __init__(self) -> None:
        ours, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.loop = Loop()
        self.service = Services()
        self.channel = Channel(ours, self.loop, services={80: self.service})
        self.out = Collect()

    def says(self, *frames: Frame | bytes) -> None:
        for frame in frames:
            data = frame if isinstance(frame, bytes) else encode(frame)
            while data:
                try:
                    data = data[self.sock.send(data) :]
                except BlockingIOError:
                    self.loop.turn(0)
                except BrokenPipeError:
                    return

    def until_ready(self) -> None:
        self.says(Hello(PROTOCOL_VERSION, "evil", "6.6.6"))
        self.channel.wait_hello(idle=IDLE)
        self.loop.after(0, lambda: self.says(Ready()))
        self.channel.configure(config(), idle=IDLE)

    def until_command(self) -> Command:
        self.until_ready()
        return self.channel.start_exec(ExecRequest(workload("x")), stdout=self.out, stderr=self.out)

    def listen(self, idle: float = EVENT_PATIENCE) -> ChannelError:
        """What the channel makes of it all."""
        with pytest.raises(ChannelError) as caught:
            self.channel.ping(idle=idle)
        return caught.value

    def close(self) -> None:
        self.channel.close()
        self.sock.close()
        self.loop.close()
