"""Pings that no call waits for: each is answered once, in order, and no more are due than a guest has streams."""

import socket
from collections.abc import Iterator
from functools import partial

import pytest

from mvmnix.errors import UsageError
from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.encoding import ChannelError
from mvmnix.launch.agent.frames import PROTOCOL_VERSION, Hello, Pong, Ready
from mvmnix.launch.agent.operations import MAX_PAYLOAD
from mvmnix.launch.agent.transport import encode
from mvmnix.system.loop import Loop
from tests.unit.launch.channel_house import IDLE, config


class Guest:
    """A guest that is ready, and answers what a test has it answer."""

    def __init__(self) -> None:
        ours, self.end = socket.socketpair()
        self.loop = Loop()
        self.channel = Channel(ours, self.loop)
        self.say(Hello(PROTOCOL_VERSION, "test", "0"))
        self.channel.wait_hello(idle=IDLE)
        self.loop.after(0, lambda: self.say(Ready()))
        self.channel.configure(config(ports=()), idle=IDLE)

    def say(self, frame: Hello | Ready | Pong) -> None:
        """Send a frame."""
        self.end.sendall(encode(frame))


@pytest.fixture
def guest() -> Iterator[Guest]:
    """A guest, closed at the end."""
    made = Guest()
    yield made
    made.channel.close()
    made.end.close()
    made.loop.close()


def test_each_is_answered_once_and_in_order(guest: Guest) -> None:
    answered: list[int] = []
    for number in range(3):
        guest.channel.start_ping(partial(answered.append, number))
    assert answered == []
    for token in (1, 2, 3):
        guest.say(Pong(token))
        guest.loop.turn()
        assert answered == list(range(token))


def test_a_call_that_waits_and_one_that_does_not(guest: Guest) -> None:
    answered: list[int] = []
    guest.channel.start_ping(lambda: answered.append(1))
    guest.say(Pong(1))
    guest.say(Pong(2))
    guest.channel.ping(idle=IDLE)
    assert answered == [1]


def test_more_than_a_guest_has_streams_are_refused(guest: Guest) -> None:
    with pytest.raises(UsageError, match="has not answered earlier calls"):
        for _ in range(MAX_PAYLOAD):
            guest.channel.start_ping(lambda: None)
    guest.say(Pong(1))
    guest.loop.turn()
    guest.channel.start_ping(lambda: None)


def test_none_is_answered_once_the_channel_has_ended(guest: Guest) -> None:
    answered: list[int] = []
    guest.channel.start_ping(lambda: answered.append(1))
    guest.end.close()
    while guest.channel.failure is None:
        guest.loop.turn()
    assert answered == []
    with pytest.raises(ChannelError):
        guest.channel.start_ping(lambda: None)
