"""Fed by atheris: whatever a process sends to launcher, supervisor or caller, it is one message or an orderly error.

The first byte says which of the five parsers reads the rest; bit 3 has it go through a conversation, as a packet with a
sender, whose caller it is. Run by tests/integration/test_control_fuzz.py, and by hand for longer: `make fuzz`.
"""

import socket
import sys

import atheris

with atheris.instrument_imports(include=["mvmnix.launch.control", "mvmnix.launcher.conversation", "mvmnix.formats"]):  # type: ignore[attr-defined]
    from mvmnix.errors import MvmnixError
    from mvmnix.launch.control import messages, start_messages
    from mvmnix.launch.control.caller_check import CallerCheck
    from mvmnix.launch.control.codec import LIMIT, VersionError, encode
    from mvmnix.launcher.conversation import Conversation
    from mvmnix.system.descriptors import ask_for_senders
    from mvmnix.system.loop import Loop
    from mvmnix.system.stop_signals import StopRequestedError

PARSERS = (
    messages.parse_request,
    messages.parse_answer,
    start_messages.parse_request,
    start_messages.parse_caller,
    start_messages.parse_event,
)
CHECK = CallerCheck.of_this_process()


def parse(number: int, data: bytes) -> None:
    """Read a message; what is read can be written, and means the same then."""
    read = PARSERS[number % len(PARSERS)]
    try:
        found = read(data)
    except (ValueError, VersionError):
        return
    assert read(encode(found)) == found, "it has two meanings"


def converse(data: bytes) -> None:
    """Say it to a fork of the launcher: as a request, as an answer, and while its machine runs."""
    for stage in range(3):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        loop = Loop()
        with ours, theirs:
            ask_for_senders(theirs)
            conversation = Conversation(theirs, CHECK)
            ours.send(data[:LIMIT])
            ours.shutdown(socket.SHUT_WR)
            try:
                if stage == 0:
                    conversation.read_request()
                elif stage == 1:
                    conversation.ask("?")
                else:
                    conversation.watch(loop)
                    loop.turn(0)
            except (MvmnixError, StopRequestedError):
                pass
            conversation.close()
        loop.close()


def one(data: bytes) -> None:
    number, rest = (data[0], data[1:]) if data else (0, b"")
    if number & 8:
        converse(rest)
    else:
        parse(number, rest)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
