"""A guest that freezes its commands, or was restored frozen, and says what a test has it say."""

import socket
from contextlib import suppress

from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.encoding import ChannelProtocolError
from mvmnix.launch.agent.frames import (
    PROTOCOL_VERSION,
    Bye,
    Frame,
    FrameKind,
    Freeze,
    Frozen,
    Hello,
    NotFrozen,
    Pong,
    Ready,
    Thaw,
    Thawed,
)
from mvmnix.launch.agent.requests import GuestConfig
from mvmnix.launch.agent.stream_frames import (
    Exit,
    Open,
    Started,
    Stdout,
    Window,
)
from mvmnix.launch.agent.transport import encode
from mvmnix.machines.exit_status import End, Step
from mvmnix.system.loop import Loop
from tests.unit.launch.channel_house import IDLE, Services, config
from tests.unit.launch.fake_guest import AGENT
from tests.unit.launch.host_frames import HostDecoder

ENTROPY = bytes(range(32))
AGAIN = Thaw(is_renewed=False, time_ns=7, entropy=ENTROPY)
RESTORED = Thaw(is_renewed=True, time_ns=7, entropy=ENTROPY, hostname="twin")
ON, OFF = Thawed(run_goes_on=True), Thawed(run_goes_on=False)
ENDED = Exit(1, End.EXITED, Step.NONE, 0)


class Guest:
    """A guest that is ready, or was restored with this configuration; it says what a test has it say."""

    def __init__(self, restored: GuestConfig | None = None, *, agent: str = AGENT) -> None:
        ours, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.loop, self.services = Loop(), Services()
        self._decoder = HostDecoder()
        hello = Hello(PROTOCOL_VERSION, agent, "0")
        services = {80: self.services}
        if restored is not None:
            self.channel = Channel(ours, self.loop, services=services, hello=hello, restored=restored)
            return
        self.channel = Channel(ours, self.loop, services=services)
        self.says(hello)
        self.channel.wait_hello(idle=IDLE)
        self.loop.after(0, lambda: self.says(Ready()))
        self.channel.configure(config(), idle=IDLE)
        self.hears()

    def says(self, *frames: Frame) -> None:
        """Send frames, and have the host read them."""
        data = b"".join(map(encode, frames))
        while data:
            with suppress(BlockingIOError):
                data = data[self.sock.send(data) :]
            self.turn()

    def turn(self) -> None:
        """Have the host do what it can do by now."""
        for _ in range(8):
            self.loop.turn(0)

    def hears(self) -> list[Frame]:
        """What the host has said since."""
        self.turn()
        try:
            return list(self._decoder.feed(self.sock.recv(1 << 20)))
        except BlockingIOError:
            return []

    def fail(self) -> ChannelProtocolError:
        """Why the host has cut the guest off."""
        assert isinstance(self.channel.failure, ChannelProtocolError), self.channel.failure
        return self.channel.failure

    def close(self) -> None:
        """Hang up."""
        self.channel.close()
        self.sock.close()
        self.loop.close()


def freeze(guest: Guest) -> list[str | None]:
    """Have it freeze its commands; what comes of that."""
    answers: list[str | None] = []
    guest.channel.start_freeze(1000, answers.append)
    return answers


def frozen(guest: Guest) -> None:
    """Have it stand."""
    freeze(guest)
    assert guest.hears() == [Freeze(1000)]
    guest.says(Frozen())


def thaw(guest: Guest, said: Thaw = AGAIN) -> list[str]:
    """Have it go on; whether it has said so."""
    answers: list[str] = []
    guest.channel.start_thaw(said, lambda: answers.append("on"))
    return answers


STANDING: list[Frame] = [
    Frozen(),
    NotFrozen(b""),
    Started(3),
    Stdout(3, b"x"),
    Exit(3, End.TIMED_OUT, Step.NONE, 0),
    Open(2, 80),
    Window(3, FrameKind.STDIN, 1),
    Pong(1),
    Bye(),
    Ready(),
]
