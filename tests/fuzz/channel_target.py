"""Fed by atheris: whatever a guest says, the host's end of the channel ends in order, in bounded memory.

The first byte says how far the guest behaves before it says the rest: 0 from its first byte, 1 until the host has
configured it, 2 until a command runs, 3 until its commands are to be frozen, 4 until those of a restored one are to go
on. Run by tests/integration/test_fuzz.py, and by hand for longer: `make fuzz`.
"""

import socket
import sys
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["mvmnix.launch"]):  # type: ignore[attr-defined]  # its stubs lack it
    from mvmnix.launch.agent.client import Channel
    from mvmnix.launch.agent.encoding import ChannelError
    from mvmnix.launch.agent.frames import PROTOCOL_VERSION, Frame, Hello, Ready, Thaw
    from mvmnix.launch.agent.requests import ExecRequest
    from mvmnix.launch.agent.transport import MAX_FRAME_BYTES, encode
    from mvmnix.system.loop import Loop

from tests.unit.launch.channel_house import IDLE, Services, config, workload
from tests.unit.launch.fake_guest import AGENT

#: As much as one read of the transport may bring, and a frame that isn't complete.
MOST = (1 << 18) + MAX_FRAME_BYTES


class Guest:
    """The guest's end of a channel that is at some stage."""

    def __init__(self, *, restored: bool = False) -> None:
        ours, self._sock = socket.socketpair()
        self._sock.setblocking(False)
        self._loop = Loop()
        if restored:
            hello = Hello(PROTOCOL_VERSION, AGENT, "0")
            self._channel = Channel(ours, self._loop, services={80: Services()}, hello=hello, restored=config())
        else:
            self._channel = Channel(ours, self._loop, services={80: Services()})

    def thaw(self) -> None:
        """The host has a restored guest go on, and takes over what does."""
        thaw = Thaw(is_renewed=True, time_ns=1, entropy=bytes(32))
        self._channel.start_thaw(thaw, self._adopt)

    def _adopt(self) -> None:
        if self._channel.run_goes_on:
            self._channel.adopt_run(_swallow, _swallow)

    def behave(self, stage: int) -> None:
        if stage == 0:
            return
        self._say(Hello(PROTOCOL_VERSION, AGENT, "0"))
        self._channel.wait_hello(idle=IDLE)
        self._loop.after(0, lambda: self._say(Ready()))
        self._channel.configure(config(), idle=IDLE)
        if stage > 1:
            self._channel.start_exec(ExecRequest(workload("x")), stdout=_swallow, stderr=_swallow)
        if stage > 2:
            self._channel.start_freeze(1000, self._frozen)

    def _frozen(self, why: str | None) -> None:
        if why is None:
            self._channel.start_thaw(Thaw(is_renewed=False, time_ns=1, entropy=bytes(32)), lambda: None)

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
    stage = data[0] % 5 if data else 0
    guest = Guest(restored=stage == 4)
    if stage == 4:
        guest.thaw()
    else:
        guest.behave(stage)
    guest.babble(data[1:])
    guest.leave()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
