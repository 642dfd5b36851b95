"""ClientHellos of Python's TLS and made by hand: what they ask for, in any portions, and each way to be refused."""

import ssl
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.network.gateway.client_hello import (
    MAX_HELLO_BYTES,
    Alert,
    ClientHello,
    ClientHelloReader,
    HelloFault,
    HelloRefusedError,
    alert_record,
)
from tests.unit.network.hellos import (
    EXAMPLE,
    hello,
    message,
    of_python,
    protocols,
    record,
    records,
    server_name,
    server_names,
    vector,
    versions,
)

F = HelloFault
TICKET, PSK, EARLY, ECH, ESNI = 35, 41, 42, 0xFE0D, 0xFFCE


def read(data: bytes) -> ClientHello | None:
    return ClientHelloReader().feed(data)


def whole(data: bytes) -> ClientHello:
    found = read(data)
    assert found is not None
    return found


def fault_of(data: bytes) -> HelloFault | None:
    """Why it is refused, and None where it isn't."""
    try:
        read(data)
    except HelloRefusedError as refusal:
        return refusal.fault
    return None


def test_what_python_says() -> None:
    found = whole(of_python("API.example.com", ("h2", "http/1.1")))
    assert found == ClientHello("api.example.com", hides_a_name=False)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_python_says_by_one_version(version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    assert whole(of_python(context=context)).server_name == "api.example.com"


def test_python_without_a_name_is_refused() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    said = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), said)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    assert fault_of(said.read()) is F.NO_SERVER_NAME


@pytest.mark.parametrize("data", [of_python(alpn=("h2",)), hello(versions(0x0304), protocols(b"h2"))])
def test_any_beginning_is_not_enough_and_any_portions_are(data: bytes) -> None:
    reader = ClientHelloReader()
    for at in range(len(data) - 1):
        assert read(data[: at + 1]) is None
        assert reader.feed(data[at : at + 1]) is None
    assert reader.feed(data[-1:]) == whole(data)
    assert reader.received == data


@pytest.mark.parametrize("data", [of_python(alpn=("h2",)), hello(versions(0x0304), protocols(b"h2"), (PSK, b"x"))])
@pytest.mark.parametrize("change", [0x01, 0x80, 0xFF])
def test_a_byte_that_changes_is_a_refusal_or_another_hello(data: bytes, change: int) -> None:
    """Nothing but a refusal is ever raised, and a name that comes out is a host name."""
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]
        reader = ClientHelloReader()
        try:
            found = reader.feed(changed)
        except HelloRefusedError as refusal:
            with pytest.raises(HelloRefusedError, match=f"^{refusal.fault}$"):
                reader.feed(data)
        else:
            assert found is None or set(found.server_name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


@given(st.lists(st.integers(0, 255).map(lambda size: size + 1), max_size=12), st.data())
def test_records_and_packets_of_any_size(sizes: list[int], data: st.DataObject) -> None:
    expected = whole(of_python_once)
    said = records(of_python_once[5:], sizes)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(said)), max_size=8)) | {0, len(said)})
    reader = ClientHelloReader()
    found = [reader.feed(said[start:end]) for start, end in pairwise(cuts)]
    assert found[-1] == expected


of_python_once = of_python(alpn=("h2", "http/1.1"))


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    for prefix in (b"", b"\x16\x03\x01\x01\x00\x01", of_python_once[:60]):
        fault_of(prefix + data)


EXTENSION = st.tuples(st.sampled_from([0, 16, 35, 41, 42, 43, ECH, ESNI, 0x0A0A, 0xFFFF]), st.binary(max_size=24))


@given(st.lists(EXTENSION, max_size=5))
def test_any_extensions(extensions: list[tuple[int, bytes]]) -> None:
    fault_of(records(message(extensions)))
    fault_of(records(message([EXAMPLE, *extensions])))


@pytest.mark.parametrize(
    ("extensions", "hides_a_name"),
    [
        ((), False),
        ((versions(0x0304, 0x0303),), False),
        ((protocols(b"h2"),), False),
        (((TICKET, b""),), False),
        (((TICKET, b"ticket"),), False),
        (((PSK, b"binders, passed over"),), False),
        (((EARLY, b""), (PSK, b"x")), False),
        *((((number, b""),), True) for number in (ECH, 0xFE08, 0xFE09, 0xFE0A)),
        (((ECH, b"\0" * 200),), True),
        (((ESNI, b"x"),), True),
        # GREASE: values and extensions, one with content
        (((0x0A0A, b""), (0xFAFA, b"\0"), versions(0x1A1A, 0x0304), protocols(b"\xfa\xfa", b"http/1.1")), False),
        # an extension that is not known, and a key share of ML-KEM's size
        (((0x1234, b"whatever"), (51, b"k" * 1300)), False),
    ],
)
def test_what_it_asks_for(extensions: tuple[tuple[int, bytes], ...], hides_a_name: bool) -> None:
    assert whole(hello(*extensions)) == ClientHello("api.example.com", hides_a_name)


@pytest.mark.parametrize("name", ["a", "a.b", "xn--bcher-kva.example", "a" * 63 + ".example", "1.example", "1a"])
def test_a_name_that_passes(name: str) -> None:
    assert whole(records(message([server_name(name.upper().encode())]))).server_name == name


LONG = b".".join([b"a" * 63] * 3 + [b"a" * 61])
GOOD = message()
#: By what each shows: bytes, and the fault.
REFUSED: dict[str, tuple[bytes, HelloFault]] = {
    "plain HTTP": (b"GET / HTTP/1.1\r\n", F.NOT_TLS),
    "the first byte of it is enough": (b"G", F.NOT_TLS),
    "SSH": (b"SSH-2.0-x\r\n", F.NOT_TLS),
    "a proxy's preface": (b"PROXY TCP4 ", F.NOT_TLS),
    "SSL 2": (bytes((0x80, 0x2E, 1, 3, 1)) + b"\0" * 40, F.SSL2),
    "SSL 2, another message": (bytes((0x80, 0x2E, 2)), F.NOT_TLS),
    "an alert": (record(b"\2\50", kind=21), F.NOT_TLS),
    "data": (record(b"x", kind=23), F.NOT_TLS),
    "a change of ciphers": (record(b"\1", kind=20), F.NOT_TLS),
    "an alert between the records": (record(GOOD[:9]) + record(b"\1\0", kind=21), F.NOT_TLS),
    "SSL 3": (records(GOOD, version=0x0300), F.RECORD_VERSION),
    "TLS 1.3 in a record": (records(GOOD, version=0x0304), F.RECORD_VERSION),
    "DTLS": (record(GOOD, version=0xFEFD), F.RECORD_VERSION),
    "a version by its first byte": (b"\x16\x04", F.RECORD_VERSION),
    "a version by its second byte": (b"\x16\x03\x04", F.RECORD_VERSION),
    "a second record of another version": (record(GOOD[:9]) + record(GOOD[9:], 0x0304), F.RECORD_VERSION),
    "an empty record": (record(b"") + record(GOOD), F.EMPTY_RECORD),
    "an empty record between": (record(GOOD[:9]) + record(b"") + record(GOOD[9:]), F.EMPTY_RECORD),
    "a record beyond the bound": (b"\x16\x03\x01\x40\x01", F.TOO_LONG),
    "a message beyond the bound": (b"\x16\x03\x01\x01\x00\x01\x01\x00\x00", F.TOO_LONG),
    "records beyond the bound": (records(message([EXAMPLE, (9, b"x" * 12000)]), [2] * 4000), F.TOO_LONG),
    "another message": (records(message(kind=2)), F.NOT_CLIENT_HELLO),
    "another message by its first byte": (b"\x16\x03\x01\x01\x00\x02", F.NOT_CLIENT_HELLO),
    "a hello request": (record(b"\0\0\0\0"), F.NOT_CLIENT_HELLO),
    "a second message in its record": (record(GOOD + b"\x0e\0\0\0"), F.MORE_IN_RECORD),
    "a second hello in its record": (record(GOOD * 2), F.MORE_IN_RECORD),
    "a byte more in its record": (record(GOOD + b"\1"), F.MORE_IN_RECORD),
    "a second message begins in its last record": (records(GOOD + b"\1", [50]), F.MORE_IN_RECORD),
    "nothing in it": (record(b"\1\0\0\0"), F.MALFORMED),
    "a version alone": (record(b"\1\0\0\2\3\3"), F.MALFORMED),
    "a session of 33 bytes": (records(message(session=b"s" * 33)), F.MALFORMED),
    "no ciphers": (records(message(ciphers=b"")), F.MALFORMED),
    "half a cipher": (records(message(ciphers=b"\x13\x01\x13")), F.MALFORMED),
    "no compressions": (records(message(compressions=b"")), F.MALFORMED),
    "no null compression": (records(message(compressions=b"\1")), F.MALFORMED),
    "bytes behind the extensions": (records(message(tail=b"x")), F.MALFORMED),
    "half a length of extensions": (records(message(None, tail=b"\0")), F.MALFORMED),
    "extensions longer than the message": (records(message(None, tail=b"\0\xff\0\0")), F.MALFORMED),
    "an extension longer than all of them": (records(message(None, tail=b"\0\4\0\0\0\1")), F.MALFORMED),
    "a byte as an extension": (records(message(None, tail=b"\0\1\0")), F.MALFORMED),
    "SSL 3 in the message": (records(message(version=0x0300)), F.VERSION),
    "TLS 1.3 in the message": (records(message(version=0x0304)), F.VERSION),
    "the name twice": (records(message([EXAMPLE, EXAMPLE])), F.DUPLICATE_EXTENSION),
    "another name": (records(message([EXAMPLE, server_name(b"other.example")])), F.DUPLICATE_EXTENSION),
    "GREASE twice": (hello((0x0A0A, b""), (0x0A0A, b"")), F.DUPLICATE_EXTENSION),
    "an unknown extension twice": (hello((0x1234, b""), (0x1234, b"")), F.DUPLICATE_EXTENSION),
    "a pre-shared key before others": (hello((PSK, b"x"), versions(0x0304)), F.PSK_NOT_LAST),
    "no extensions": (records(message(None)), F.NO_SERVER_NAME),
    "no name": (records(message([versions(0x0304)])), F.NO_SERVER_NAME),
    "a resumption without a name": (records(message([(PSK, b"x")])), F.NO_SERVER_NAME),
    "a ticket without a name": (records(message([(TICKET, b"ticket")])), F.NO_SERVER_NAME),
    "an encrypted name alone": (records(message([(ESNI, b"x")])), F.NO_SERVER_NAME),
    "an empty extension": (records(message([(0, b"")])), F.MALFORMED),
    "an empty list of names": (records(message([(0, b"\0\0")])), F.MALFORMED),
    "an empty name": (records(message([server_name(b"")])), F.MALFORMED),
    "bytes behind the list of names": (records(message([(0, EXAMPLE[1] + b"x")])), F.MALFORMED),
    "a name longer than its list": (records(message([(0, b"\0\4\0\0\2a")])), F.MALFORMED),
    "a list longer than its extension": (records(message([(0, b"\0\5\0\0\1a")])), F.MALFORMED),
    "two names": (records(message([server_names((0, b"a.example"), (0, b"b.example"))])), F.SERVER_NAMES),
    "one name twice": (records(message([server_names((0, b"a.example"), (0, b"a.example"))])), F.SERVER_NAMES),
    "a name and another kind": (records(message([server_names((0, b"a.example"), (1, b"x"))])), F.SERVER_NAMES),
    "another kind": (records(message([server_name(b"a.example", 1)])), F.SERVER_NAMES),
    "an address": (records(message([server_name(b"192.0.2.1")])), F.NAME_ADDRESS),
    "an address of IPv6": (records(message([server_name(b"2001:db8::1")])), F.NAME_ADDRESS),
    "an address in brackets": (records(message([server_name(b"[::1]")])), F.NAME_ADDRESS),
    "an address as a number": (records(message([server_name(b"0x7f000001")])), F.NAME_ADDRESS),
    "an address in decimal": (records(message([server_name(b"2130706433")])), F.NAME_ADDRESS),
    "an address with a dot": (records(message([server_name(b"127.0.0.1.")])), F.NAME_ADDRESS),
    "a dot at the end": (records(message([server_name(b"api.example.com.")])), F.NAME_TRAILING_DOT),
    "a dot alone": (records(message([server_name(b".")])), F.NAME_TRAILING_DOT),
    "a protocol without bytes": (hello(protocols(b"h2", b"")), F.MALFORMED),
    "a list of no protocols": (hello((16, b"\0\0")), F.MALFORMED),
    "an empty list of protocols": (hello((16, b"")), F.MALFORMED),
    "bytes behind the protocols": (hello((16, protocols(b"h2")[1] + b"x")), F.MALFORMED),
    "a protocol longer than its list": (hello((16, vector(2, b"\3h2"))), F.MALFORMED),
    "no versions": (hello((43, b"")), F.MALFORMED),
    "an empty list of versions": (hello((43, b"\0")), F.MALFORMED),
    "half a version": (hello((43, b"\3\3\4\3")), F.MALFORMED),
    "bytes behind the versions": (hello((43, b"\2\3\4\0")), F.MALFORMED),
    **{
        f"a name of other characters: {name!r}": (records(message([server_name(name)])), F.NAME_CHARACTERS)
        for name in (
            *(b"api.example.com\0", b"api.example.com\0.evil.example", b"\0", b"api.ex\xc3\xa4mple.com", b"a b"),
            *(b"api_1.example", b"*.example", b"-a.example", b"a-.example", b"a..example", b".example", b"a/b"),
            *(b"a" * 64 + b".example", LONG + b".a", b"api.example.com\n", b"a@example.com", b"%61.example"),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("shown", REFUSED)
def test_what_is_refused(shown: str) -> None:
    data, fault = REFUSED[shown]
    assert fault_of(data) is fault
    reader = ClientHelloReader()
    with pytest.raises(HelloRefusedError) as refusal:
        for at in range(len(data)):
            reader.feed(data[at : at + 1])
    assert refusal.value.fault is fault
    assert len(reader.received) <= MAX_HELLO_BYTES + 5  # the header that says how far it would go


def test_each_fault_has_a_row() -> None:
    assert {fault for _, fault in REFUSED.values()} == set(HelloFault)


def test_the_longest_name_passes() -> None:
    assert len(LONG) == 253
    assert whole(records(message([server_name(LONG)]))).server_name == LONG.decode()


def test_the_longest_hello_passes() -> None:
    """Over two records, since one with its header goes beyond the bound."""
    room = MAX_HELLO_BYTES - 10 - len(message([EXAMPLE, (9, b"")]))
    longest = message([EXAMPLE, (9, b"x" * room)])
    assert whole(records(longest, [9000])).server_name == "api.example.com"
    assert fault_of(records(message([EXAMPLE, (9, b"x" * (room + 1))]), [9000])) is F.TOO_LONG


@pytest.mark.parametrize("version", [0x0301, 0x0302, 0x0303])
def test_versions_up_to_1_2_pass(version: int) -> None:
    assert whole(records(message(version=version), [9], version=version)).server_name == "api.example.com"


def test_one_byte_in_each_record_passes() -> None:
    assert whole(records(GOOD, [1] * (len(GOOD) - 1))).server_name == "api.example.com"


def test_what_follows_the_hello_is_held_and_not_read() -> None:
    """Early data, and more of it than the bound."""
    data = hello((EARLY, b""), (PSK, b"x"))
    rest = record(b"\1", 0x0303, 20) + record(b"x" * 16000, 0x0303, 23) * 2
    reader = ClientHelloReader()
    found = reader.feed(data + rest)
    assert found == whole(data)
    assert reader.feed(b"more") == found
    assert reader.received == data + rest + b"more"


@pytest.mark.parametrize(
    ("fault", "alert"),
    [
        (F.NO_SERVER_NAME, Alert.MISSING_EXTENSION),
        (F.NAME_CHARACTERS, Alert.UNRECOGNIZED_NAME),
        (F.NAME_TRAILING_DOT, Alert.UNRECOGNIZED_NAME),
        (F.NAME_ADDRESS, Alert.UNRECOGNIZED_NAME),
        (F.SERVER_NAMES, Alert.UNRECOGNIZED_NAME),
        (F.MALFORMED, Alert.DECODE_ERROR),
        (F.TOO_LONG, Alert.RECORD_OVERFLOW),
        (F.VERSION, Alert.PROTOCOL_VERSION),
        (F.RECORD_VERSION, Alert.PROTOCOL_VERSION),
        (F.DUPLICATE_EXTENSION, Alert.ILLEGAL_PARAMETER),
        (F.MORE_IN_RECORD, Alert.UNEXPECTED_MESSAGE),
        (F.EMPTY_RECORD, Alert.UNEXPECTED_MESSAGE),
        (F.NOT_CLIENT_HELLO, Alert.UNEXPECTED_MESSAGE),
    ],
)
def test_the_alert_of_a_fault(fault: HelloFault, alert: Alert) -> None:
    assert fault.alert is alert


@pytest.mark.parametrize(
    ("alert", "said"),
    [(Alert.UNRECOGNIZED_NAME, "UNRECOGNIZED_NAME"), (Alert.ACCESS_DENIED, "ACCESS_DENIED")],
)
def test_python_understands_an_alert(alert: Alert, said: str) -> None:
    heard = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(heard, ssl.MemoryBIO(), server_hostname="api.example.com")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    heard.write(alert_record(alert))
    with pytest.raises(ssl.SSLError, match=said):
        client.do_handshake()
