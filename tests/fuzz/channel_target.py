"""Fed by atheris: whatever a guest says, the host's end of the channel ends in order, in bounded memory.

The first byte says how far the guest behaves before it says the rest: 0 from its first byte, 1 until the host has
configured it, 2 until a command runs. Run by tests/integration/test_fuzz.py, and by hand for longer: `make fuzz`.
"""

import socket
import sys
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["mvmnix.launch"]):  # type: ignore[attr-defined]  # its stubs lack it
    from mvmnix.launch.agent.client import Channel
    from mvmnix.launch.agent.encoding import ChannelError
    from mvmnix.launch.agent.frames import PROTOCOL_VERSION, Frame, Hello, Ready
    from mvmnix.launch.agent.requests import ExecRequest
    from mvmnix.launch.agent.transport import MAX_FRAME_BYTES, encode
    from mvmnix.system.loop import Loop

from tests.unit.launch.channel_house import IDLE, Services, config, workload

#: As much as one read of the transport may bring, and a frame that isn't complete.
MOST = (1 << 18) + MAX_FRAME_BYTES


class Guest:
    """The guest's end of a channel that is at some stage."""

    def __init__(self) -> None:
        ours, self._sock = socket.socketpair()
        self._sock.setblocking(False)
        self._loop = Loop()
        self._channel = Channel(ours, self._loop, services={80: Services()})

    def behave(self, stage: int) -> None:
        if stage == 0:
            return
        self._say(Hello(PROTOCOL_VERSION, "fuzz", "0"))
        self._channel.wait_hello(idle=IDLE)
        self._loop.after(0, lambda: self._say(Ready()))
        self._channel.configure(config(), idle=IDLE)
        if stage > 1:
            self._channel.start_exec(ExecRequest(workload("x")), stdout=_swallow, stderr=_swallow)

    def _say(self, frame: Frame) -> None:
        self._sock.sendall(encode(frame))

    def babble(self, data: bytes) -> None:
        """Say it all, in portions, until the host hangs up."""
        while data and self._channel.failure is None:
            with suppress(BlockingIOError, BrokenPipeError):
                data = data[self._sock.send(data[:4096]) :]
            self._loop.turn(0)
            with suppress(BlockingIOError, ConnectionResetError):
                self._sock.recv(1 << 20)

    def leave(self) -> None:
        """Hang up. Raises AssertionError when the host's end did something that it may not do."""
        self._sock.close()
        for _ in range(16):
            if self._channel.failure is None:
                self._loop.turn(0)
        assert isinstance(self._channel.failure, ChannelError), "the guest has left, and nobody noticed"
        assert not self._channel._streams, "a stream outlived its channel"
        assert self._channel._transport._decoder.pending <= MOST, "more than a frame is held"
        self._channel.close()
        self._loop.close()


def _swallow(_: bytes) -> None:
    pass


def one(data: bytes) -> None:
    guest = Guest()
    guest.behave(data[0] % 3 if data else 0)
    guest.babble(data[1:])
    guest.leave()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
