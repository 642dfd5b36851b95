"""A conversation of which a test is the caller: what it says lies there before it is asked for."""

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.codec import LIMIT, encode
from mvmnix.launch.control.start_messages import MOST_DESCRIPTORS, StartEvent, parse_event
from mvmnix.launcher.conversation import Conversation
from mvmnix.system.descriptors import ask_for_senders, receive_packet, send_packet
from tests.descriptors import nothing_left_open
from tests.patience import until
from tests.support.processes import count_threads


class Talk:
    """Both ends: `caller` is the test's socket, `conversation` what a fork of the launcher has."""

    def __init__(self, caller: socket.socket, theirs: socket.socket) -> None:
        self.caller = caller
        self.conversation = Conversation(theirs, CallerCheck.of_this_process())

    def say(self, message: object, descriptors: Iterable[int] = ()) -> None:
        """Say a message, or these very bytes."""
        send_packet(self.caller, message if isinstance(message, bytes) else encode(message), tuple(descriptors))

    def heard(self) -> StartEvent:
        """Return what the caller is told next; its descriptors are closed."""
        packet = receive_packet(self.caller, LIMIT, MOST_DESCRIPTORS)
        packet.close()
        return parse_event(packet.data)


@contextmanager
def talk() -> Iterator[Talk]:
    """Yield a conversation, which is closed at the end."""
    caller, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with caller, theirs:
        ask_for_senders(theirs)
        caller.setblocking(False)
        made = Talk(caller, theirs)
        yield made
        made.conversation.close()


def stream_socket() -> int:
    """Return a socket without packets."""
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours.detach()


def fill(end: socket.socket) -> None:
    """Send until the other end takes no more."""
    try:
        while True:
            send_packet(end, b"x" * 4096)
    except BlockingIOError:
        return


def own_descriptors(count: int) -> list[int]:
    """Open so many descriptors of nothing."""
    return [os.open("/", os.O_PATH) for _ in range(count)]


@contextmanager
def all_closed() -> Iterator[None]:
    """Expect that what is closed apart is closed in the end, too."""
    before = count_threads()
    with nothing_left_open():
        yield
        until(lambda: count_threads() <= before)


@contextmanager
def sent(said: Talk, message: object, count: int = 0) -> Iterator[None]:
    """Say something with so many descriptors; all of them are closed at the end."""
    descriptors = own_descriptors(count)
    said.say(message, descriptors)
    for fd in descriptors:
        os.close(fd)
    with all_closed():
        yield
