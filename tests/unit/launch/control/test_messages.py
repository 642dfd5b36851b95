"""What goes over a control socket: written and read back whole, everything else refused, in bounded memory."""

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.errors import Reason, ReasonCode, UsageError, refuse
from mvmnix.launch.agent.operations import CopyDirection, FileOperation
from mvmnix.launch.control.codec import LIMIT, VERSION, VersionError, encode
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.messages import (
    Answer,
    Copy,
    Done,
    Exec,
    Exited,
    Files,
    Pause,
    Request,
    Resize,
    Resume,
    Shell,
    Signal,
    Stop,
    Stream,
    Wait,
    parse_answer,
    parse_request,
)
from mvmnix.machines.exit_status import End, ExitStatus, Step
from mvmnix.system.descriptors import PacketError, receive_packet, send_packet
from tests.descriptors import close_all, nothing_left_open


@pytest.mark.parametrize(
    "asked",
    [
        Exec(("true",)),
        Exec(("/bin/é", "", "\x1b[2J"), {"A": "b\nc"}, "/tmp", 7, "1000:1000", tuple(Stream)),
        Exec(("x",), streams=(Stream.STDOUT,)),
        Signal(1),
        Signal(64),
        Shell((), 24, 80, "xterm-256color"),
        Shell(("sh", "-i"), 1, 4096, "dumb", {"A": "b"}, "/tmp", ()),
        Resize(4096, 1),
        Copy(CopyDirection.OUT, "a\nb", streams=(Stream.STDOUT, Stream.STDERR)),
        Copy(CopyDirection.IN, "/é", "name", replaces=True),
        Pause(),
        Resume(),
        Stop(),
        Stop(now=True),
        Wait(),
        *(Files(operation, "a\nb") for operation in FileOperation),
        Files(FileOperation.RENAME, "/é", "b", streams=(Stream.STDERR,)),
        Files(FileOperation.REMOVE, "a", recursive=True, streams=(Stream.STDOUT, Stream.STDERR)),
        Files(FileOperation.MKDIR, "a" * 4096, parents=True),
    ],
)
def test_what_is_asked(asked: Request) -> None:
    assert parse_request(encode(asked)) == asked


@pytest.mark.parametrize(
    "answer",
    [
        Done(),
        *(Exited(ExitStatus(end, Step.EXECUTE, 2)) for end in End),
        Failure.of(UsageError("no", hint="do that")),
        Failure.of(refuse(ReasonCode.VERB_NOT_GRANTED, "exec", "why", "hint")),
    ],
)
def test_what_is_answered(answer: Answer) -> None:
    assert parse_answer(encode(answer)) == answer


def test_a_refusal_stays_one() -> None:
    answer = parse_answer(encode(Failure.of(refuse(ReasonCode.VERB_NOT_GRANTED, "exec", "why", "hint"))))
    assert isinstance(answer, Failure)
    assert answer.reasons == (Reason(ReasonCode.VERB_NOT_GRANTED, "exec", "why", "hint"),)
    assert answer.to_error().exit_code == 126


GOOD = encode(Exec(("true",), streams=tuple(Stream)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'["true"]', b"[]"),
        (b'["true"]', b'["a\\u0000b"]'),
        (b'"seconds":0', b'"seconds":-1'),
        (b'"user":""', b'"user":"root"'),
        (b'"user":""', b'"user":"0:"'),
        (b'"stdin","stdout"', b'"stdout","stdin"'),
        (b'"stdin","stdout"', b'"stdin","stdin"'),
        (b'"exec"', b'"shell"'),
        (b'{"exec"', b'{"more":1,"exec"'),
        (b'"version"', b'"ersion"'),
        (b"{", b"["),
    ],
)
def test_other_bytes_are_refused(old: bytes, new: bytes) -> None:
    assert old in GOOD
    with pytest.raises(ValueError):
        parse_request(GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    "data",
    [
        encode(Signal(1)).replace(b":1}", b":0}"),
        encode(Signal(1)).replace(b":1}", b":65}", 1),
        encode(Done()),
        b"",
        b"{}",
        b'{"version":2}',
    ],
)
def test_what_nobody_asks(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_request(data)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for parse in (parse_request, parse_answer):
        try:
            parse(data)
        except ValueError:
            continue


def test_a_message_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="allowed"):
        encode(Exec(("x" * LIMIT,)))


def test_another_version_is_named() -> None:
    other = encode(Pause()).replace(f'"version":{VERSION}'.encode(), f'"version":{VERSION + 1}'.encode())
    with pytest.raises(VersionError, match=f"version {VERSION + 1} .* version {VERSION}"):
        parse_request(other)


def test_a_packet_with_too_many_descriptors_leaves_none_open() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading, writing = os.pipe()
    with ours, theirs:
        send_packet(ours, b"x", (reading,) * 3)
        packet = receive_packet(theirs, LIMIT, 3)
        assert (packet.data, len(packet.descriptors)) == (b"x", 3)
        packet.close()
        send_packet(ours, b"x", (reading,) * 20)
        with nothing_left_open(), pytest.raises(PacketError):
            receive_packet(theirs, LIMIT, 3)
        send_packet(ours, b"x" * (LIMIT + 1))
        with nothing_left_open(), pytest.raises(PacketError):
            receive_packet(theirs, LIMIT, 3)
    close_all((reading, writing))
