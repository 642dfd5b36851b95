"""Packets between gateway, dialer and supervisor: what is none of theirs is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.formats.strict import MalformedError, read
from mvmnix.network.dialer_messages import Ask, Reply
from mvmnix.network.policy.decisions import Denial
from mvmnix.network.sockets import PACKET_BYTES
from mvmnix.network.supervisor_messages import HandedOver, NetworkEvent, NetworkEventKind

#: In each field the most that a packet may have.
_LARGEST = NetworkEvent(
    NetworkEventKind.DENIED,
    "a" * 64,
    Denial.ADDRESS_NOT_PUBLIC,
    "n" * 255,
    "f" * 45,
    *(65535, 2**53 - 1, 2**53 - 1, "https", "m" * 32, 65535, 2**32 - 1),
)


def _event(**fields: str) -> bytes:
    """A packet of an event, with fields as they are."""
    texts = dict.fromkeys(("rule", "code", "name", "address", "protocol", "method"), "")
    numbers = dict.fromkeys(("port", "sent", "received", "slot", "connection"), "0")
    return "\0".join(({"kind": "opened"} | texts | numbers | fields).values()).encode("latin-1")


def test_packets_go_there_and_back() -> None:
    ask = Ask(7, "allow-1", "api.example.com", 443)
    assert Ask.parse(ask.to_bytes()) == ask
    for reply in (
        Reply(7, None, "allow-1", "2001:db8::1"),
        Reply(0xFFFFFFFF, Denial.ADDRESS_METADATA, "a" * 64, "169.254.169.254"),
        Reply(0, Denial.GATEWAY_BUSY),
    ):
        assert Reply.parse(reply.to_bytes()) == reply
    event = NetworkEvent(NetworkEventKind.CLOSED, "a", "limit-bytes", "x.y", "1.2.3.4", 80, 1, 2**53 - 1, "tcp")
    assert NetworkEvent.parse(event.to_bytes()) == event


def test_the_largest_and_the_smallest_packets_fit_and_are_read() -> None:
    for ask in (Ask(0xFFFFFFFF, "a" * 64, "b" * 253, 65535), Ask(0, "a", "b", 1)):
        assert len(ask.to_bytes()) <= PACKET_BYTES
        assert Ask.parse(ask.to_bytes()) == ask
    for event in (_LARGEST, NetworkEvent(NetworkEventKind.READY)):
        assert len(event.to_bytes()) <= PACKET_BYTES
        assert NetworkEvent.parse(event.to_bytes()) == event
        assert read(event.fields(), "event", NetworkEvent.read) == event, "a log can be read whatever a process told"
    handed = HandedOver(65535, 443)
    assert HandedOver.parse(handed.to_bytes()) == handed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "other"),
        ("rule", "a" * 65),
        ("code", "No"),
        ("name", "n" * 256),
        ("address", "x" * 5),
        ("port", 65536),
        ("sent", 2**53),
        ("received", 2**53),
        ("protocol", "udp"),
        ("method", "m" * 33),
        ("method", "GET /"),
        ("flag", "--allow https://a.example"),
        ("slot", 65536),
        ("connection", 2**32),
        *((name, -1) for name in ("port", "sent", "received", "slot", "connection")),
    ],
)
def test_a_field_beyond_its_bounds_is_read_from_no_log(field: str, value: object) -> None:
    with pytest.raises(MalformedError):
        read(_LARGEST.fields() | {field: value}, "event", NetworkEvent.read)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\0" * 5, b"\0\0\0\1\4\0none", b"\0\0\0\1\0\1\xff", b"\0\0\0\1\0\1", b"\0\0\0\1\0\xc8short"),
        *(
            Reply(1, None, *words).to_bytes()
            for words in (("r" * 65,), ("a\0b",), ("A",), ("r", "1" * 46), ("r", "1\0"))
        ),
    ],
)
def test_what_no_dialer_of_ours_says(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Reply.parse(data)


@pytest.mark.parametrize("data", [b"", b"\0" * 3, b"\0" * 5])
def test_what_no_supervisor_hands_over(data: bytes) -> None:
    with pytest.raises(MalformedError):
        HandedOver.parse(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 6,
        Ask(1, "rule", "host", 443).to_bytes()[:-4],
        Ask(1, "rule", "host", 0).to_bytes(),
        Ask(1, "", "host", 443).to_bytes(),
        Ask(1, "r" * 65, "host", 443).to_bytes(),
        Ask(1, "rule", "", 443).to_bytes(),
        Ask(1, "rule", "h" * 254, 443).to_bytes(),
        Ask(1, "rule", "host", 443).to_bytes() + b"\xff",
        Ask(1, "rule", "host\0.evil.example.org", 443).to_bytes(),
        Ask(1, "rule", "host\n", 443).to_bytes(),
        b"\0\0\0\1\0\7\xff" + b"a" * 20,
        b"\xff" * PACKET_BYTES,
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
        _event(rule="No"),
        _event(kind="other"),
        *(_event(**{name: "65536"}) for name in ("port", "slot")),
        _event(port="01"),
        *(_event(**{name: "9007199254740992"}) for name in ("sent", "received")),
        _event(connection="4294967296"),
        _event(name="a\x1b[2J"),
        _event(name="\xe9"),
        _event(code="no-such-code"),
        _event(protocol="udp"),
        _event(protocol="http\0--allow http://a.example"),
        *(_event(method=method) for method in ("GET /", "$(id)", "run `reboot` ", "m" * 33)),
        _event() + b"\0",
        _event() + b"\n",
    ],
)
def test_what_no_process_of_ours_tells(data: bytes) -> None:
    with pytest.raises(MalformedError):
        NetworkEvent.parse(data)


def test_a_packet_without_texts_is_one() -> None:
    assert NetworkEvent.parse(_event()) == NetworkEvent(NetworkEventKind.OPENED)


@given(st.binary(max_size=PACKET_BYTES))
def test_any_bytes_are_a_packet_or_refused(data: bytes) -> None:
    for kind in (Ask, Reply, NetworkEvent):
        try:
            kind.parse(data)
        except MalformedError:
            continue
