"""Packets between gateway, dialler and supervisor: what is none of theirs is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.launch.network.decisions import Denial
from mvmnix.launch.network.messages import MOST, Ask, NetworkEvent, NetworkEventKind, Reply
from mvmnix.strict import MalformedError


def test_packets_go_there_and_back() -> None:
    ask = Ask(7, "allow-1", "api.example.com", 443)
    assert Ask.parse(ask.to_bytes()) == ask
    for reply in (
        Reply(7, None, "allow-1", "2001:db8::1"),
        Reply(0xFFFFFFFF, Denial.ADDRESS_METADATA, "a" * 64, "169.254.169.254"),
        Reply(0, Denial.GATEWAY_BUSY),
    ):
        assert Reply.parse(reply.to_bytes()) == reply
    event = NetworkEvent(NetworkEventKind.CLOSED, "a", "limit-bytes", "x.y", "1.2.3.4", 80, 1, 2**53 - 1, "--allow x")
    assert NetworkEvent.parse(event.to_bytes()) == event


def test_the_largest_packets_fit() -> None:
    assert len(Ask(1, "a" * 64, "b" * 253, 65535).to_bytes()) <= MOST
    largest = NetworkEvent(
        NetworkEventKind.DENIED, "a" * 64, "x" * 40, "n" * 255, "f" * 45, 65535, 2**53 - 1, 2**53 - 1, "f" * 310
    )
    assert len(largest.to_bytes()) <= MOST


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 6,
        Ask(1, "rule", "host", 443).to_bytes()[:-4],
        Ask(1, "rule", "host", 0).to_bytes(),
        Ask(1, "", "host", 443).to_bytes(),
        Ask(1, "rule", "h" * 254, 443).to_bytes(),
        Ask(1, "rule", "host", 443).to_bytes() + b"\xff",
    ],
)
def test_what_no_gateway_of_ours_asks(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Ask.parse(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"opened",
        b"opened\0No\0\0\0\0\x000\x000\x000\x000",
        b"other\0\0\0\0\0\x000\x000\x000\x000",
        b"opened\0\0\0\0\0\x0065536\x000\x000\x000",
        b"opened\0\0\0\0\0\x0001\x000\x000\x000",
        b"opened\0\0\0\0\0\x000\x000\x009007199254740992\x000",
        b"opened\0\0\0\0\0\x000\x000\x000\x0065536",
        b"denied\0\0\0a\x1b[2J\0\0\x000\x000\x000\x000",
        b"denied\0\0\0\xc3\xa9\0\0\x000\x000\x000\x000",
        b"denied\0\0no-such-code\0\0\0\x000\x000\x000\x000",
        b"denied\0\0no-rule\0\0\0run `reboot`\x000\x000\x000\x000",
        b"denied\0\0no-rule\0\0\0--allow http://a.example,method=$(id)\x000\x000\x000\x000",
        b"denied\0\0no-rule\0\0\0--allow tcp:a.example:1 | sh\x000\x000\x000\x000",
        b"opened\0\0\0\0\0\x000\x000\x000\x000\0",
        b"opened\0\0\0\0\0\x000\x000\x000\x000\n",
    ],
)
def test_what_no_process_of_ours_tells(data: bytes) -> None:
    with pytest.raises(MalformedError):
        NetworkEvent.parse(data)


def test_a_packet_without_texts_is_one() -> None:
    assert NetworkEvent.parse(b"opened\0\0\0\0\0\x000\x000\x000\x000") == NetworkEvent(NetworkEventKind.OPENED)


@given(st.binary(max_size=MOST))
def test_any_bytes_are_a_packet_or_refused(data: bytes) -> None:
    for kind in (Ask, Reply, NetworkEvent):
        try:
            kind.parse(data)
        except MalformedError:
            continue
