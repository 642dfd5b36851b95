"""Queries and their answers: allowed names, all others, what is malformed, and what no answer has."""

import ipaddress
import struct
from ipaddress import IPv4Address

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.network.gateway.resolver import TTL, DnsReply, reply_to

ADDRESS = IPv4Address("198.18.0.1")
ALLOWED = "index.example"


def address_of(name: str) -> IPv4Address | None:
    assert name == name.lower()
    assert not name.endswith(".")
    return ADDRESS if name == ALLOWED else None


def ask(name: str = ALLOWED, kind: str = "A", **options: int | bool) -> bytes:
    return dns.message.make_query(name, kind, **options).to_wire()  # type: ignore[arg-type]


def read(reply: DnsReply) -> dns.message.Message:
    return dns.message.from_wire(reply.message)


def raw(counts: tuple[int, int, int, int] = (1, 0, 0, 0), rest: bytes = b"", *, flags: int = 0x0100) -> bytes:
    return struct.pack("!6H", 0x1234, flags, *counts) + rest


QUESTION = b"\5index\7example\0\0\1\0\1"
RECORD = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4abcd"
OPT = b"\0\0\x29\4\xd0\0\0\0\0\0\0"


@pytest.mark.parametrize("edns", [False, True])
def test_an_allowed_name_has_one_address(edns: bool) -> None:
    query = ask(use_edns=edns)
    reply = reply_to(query, address_of)
    answer = read(reply)
    assert (reply.asked, reply.is_blocked) == (ALLOWED, False)
    assert dns.message.from_wire(query).is_response(answer)
    assert answer.rcode() == dns.rcode.NOERROR
    assert [rrset.to_text() for rrset in answer.answer] == [f"{ALLOWED}. {TTL} IN A {ADDRESS}"]
    assert (answer.authority, answer.additional, answer.edns) == ([], [], 0 if edns else -1)


@pytest.mark.parametrize(
    "kind", ["AAAA", "HTTPS", "SVCB", "CNAME", "TXT", "MX", "NS", "SOA", "SRV", "PTR", "DS", "CAA", "ANY", "TYPE65280"]
)
def test_an_allowed_name_has_nothing_else(kind: str) -> None:
    reply = reply_to(ask(kind=kind), address_of)
    answer = read(reply)
    assert (reply.asked, reply.is_blocked) == (ALLOWED, False)
    assert (answer.rcode(), answer.answer, answer.authority) == (dns.rcode.NOERROR, [], [])


@pytest.mark.parametrize(
    "name",
    [
        *("other.example", "example", ".", "a.index.example", "index.example.evil.example", "xindex.example"),
        *("_dns.resolver.arpa", "localhost", "1.2.3.4", "_https.index.example", "in\\000dex.example"),
        *("index\\.example", "*.example", "-a.example", "8.8.8.8.in-addr.arpa", "1.0.20.198.in-addr.arpa"),
        *("1.18.198.in-addr.arpa", "256.0.18.198.in-addr.arpa", "01.0.18.198.in-addr.arpa"),
        *("1.0.18.198.in-addr.arpa.a", "b\\195\\188.example"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["A", "AAAA", "PTR"])
def test_any_other_name_is_blocked(name: str, kind: str) -> None:
    reply = reply_to(ask(name, kind, use_edns=0), address_of)
    answer = read(reply)
    assert (reply.is_blocked, answer.rcode(), answer.answer) == (True, dns.rcode.NXDOMAIN, [])
    assert reply.asked == dns.name.from_text(name).to_text(omit_final_dot=True)
    (option,) = answer.options
    assert isinstance(option, dns.edns.EDEOption)
    assert read(reply).edns == 0
    assert (option.code, option.text) == (15, "no rule of this machine allows the name")


def test_without_edns_there_is_no_extended_error() -> None:
    answer = read(reply_to(ask("other.example", use_edns=False), address_of))
    assert (answer.rcode(), answer.edns) == (dns.rcode.NXDOMAIN, -1)


@pytest.mark.parametrize("name", ["1.255.19.198.in-addr.arpa", "2.255.19.198.in-addr.arpa", "1.0.18.198.IN-ADDR.arpa"])
def test_the_names_of_its_own_addresses_are_empty(name: str) -> None:
    reply = reply_to(ask(name, "PTR"), address_of)
    assert (reply.is_blocked, read(reply).rcode(), read(reply).answer) == (False, dns.rcode.NOERROR, [])


def test_capitals_come_back_as_they_are() -> None:
    query = ask("InDeX.eXaMpLe")
    reply = reply_to(query, address_of)
    assert reply.message[12:28] == query[12:28]
    assert reply.message.count(b"InDeX") == 1
    assert reply.asked == ALLOWED
    assert read(reply).answer[0].name.to_text() == "InDeX.eXaMpLe."


@pytest.mark.parametrize("desired", [True, False])
def test_flags(desired: bool) -> None:
    query = dns.message.make_query(ALLOWED, "A", want_dnssec=desired)
    query.flags = dns.flags.RD | dns.flags.CD | dns.flags.AD | dns.flags.TC if desired else dns.flags.Flag(0)
    answer = read(reply_to(query.to_wire(), address_of))
    expected = dns.flags.QR | dns.flags.RA | (dns.flags.RD | dns.flags.CD if desired else 0)
    assert answer.flags == expected
    assert answer.ednsflags == (dns.flags.DO if desired else 0)


@pytest.mark.parametrize(
    ("query", "rcode"),
    [
        # class and type
        (raw(rest=QUESTION[:-1] + b"\3"), dns.rcode.REFUSED),
        (raw(rest=QUESTION[:-1] + b"\xff"), dns.rcode.REFUSED),
        (raw(rest=QUESTION[:-2] + b"\0\0"), dns.rcode.REFUSED),
        (raw(rest=b"\7version\4bind\0\0\x10\0\3"), dns.rcode.REFUSED),
        *(
            (raw(rest=QUESTION[:-4] + kind.to_bytes(2) + b"\0\1"), dns.rcode.REFUSED)
            for kind in (41, 128, 249, 250, 251, 252, 254)
        ),
        # another version of EDNS
        (raw((1, 0, 0, 1), QUESTION + OPT[:6] + b"\1" + OPT[7:]), dns.rcode.BADVERS),
        # other operations
        *((raw(rest=QUESTION, flags=opcode << 11), dns.rcode.NOTIMP) for opcode in (1, 2, 3, 4, 5, 6, 15)),
        # malformed
        (raw((0, 0, 0, 0)), dns.rcode.FORMERR),
        (raw((2, 0, 0, 0), QUESTION * 2), dns.rcode.FORMERR),
        (raw((65535, 0, 0, 0), QUESTION), dns.rcode.FORMERR),
        (raw((1, 0, 0, 2), QUESTION + OPT + RECORD), dns.rcode.FORMERR),
        (raw(), dns.rcode.FORMERR),
        (raw(rest=QUESTION[:-1]), dns.rcode.FORMERR),
        (raw(rest=QUESTION + b"\0"), dns.rcode.FORMERR),
        (raw(rest=b"\x40a\0\0\1\0\1"), dns.rcode.FORMERR),
        (raw(rest=b"\xc0\x0c\0\1\0\1"), dns.rcode.FORMERR),
        (raw(rest=b"\xc0\xff\0\1\0\1"), dns.rcode.FORMERR),
        (raw(rest=b"\1a" * 128 + b"\0\0\1\0\1"), dns.rcode.FORMERR),
        (raw((1, 1, 0, 0), QUESTION + RECORD), dns.rcode.FORMERR),
        (raw((1, 0, 1, 0), QUESTION + RECORD), dns.rcode.FORMERR),
        (raw((1, 0, 0, 1), QUESTION + RECORD), dns.rcode.FORMERR),
        (raw((1, 0, 0, 2), QUESTION + OPT * 2), dns.rcode.FORMERR),
        (raw((1, 0, 0, 1), QUESTION), dns.rcode.FORMERR),
        (raw((1, 0, 0, 1), QUESTION + b"\1a" + OPT), dns.rcode.FORMERR),
        (raw((1, 0, 0, 1), QUESTION + OPT[:-1] + b"\4\0\3\0\1"), dns.rcode.FORMERR),
    ],
)
def test_what_is_refused(query: bytes, rcode: dns.rcode.Rcode) -> None:
    reply = reply_to(query, address_of)
    answer = read(reply)
    assert (reply.is_blocked, answer.rcode(), answer.id) == (False, rcode, 0x1234)
    assert not answer.answer
    assert answer.flags & dns.flags.QR
    assert answer.opcode() == query[2] >> 3 & 0xF
    assert (reply.asked == "") is (rcode in {dns.rcode.FORMERR, dns.rcode.NOTIMP})


@pytest.mark.parametrize("query", [b"", b"\0" * 11, raw(rest=QUESTION)[:11], raw(rest=QUESTION, flags=0x8180)])
def test_what_is_no_query_is_not_answered(query: bytes) -> None:
    assert reply_to(query, address_of) == DnsReply()


def test_only_host_names_are_asked_for() -> None:
    asked = list[str]()

    def none(name: str) -> None:
        asked.append(name)

    for name in (ALLOWED, "OTHER.example", "_dmarc.example", "a_b.example", ".", "\\255.example"):
        reply_to(ask(name), none)
    assert asked == [ALLOWED, "other.example"]


@pytest.mark.parametrize("allowed", [True, False])
def test_no_answer_needs_truncation(allowed: bool) -> None:
    """RFC 1035, 4.2.1: 512 bytes, here with the longest name, each byte of it escaped in the log."""
    longest = dns.name.Name([b"a" * 63] * 3 + [b"a" * 61, b""])
    query = dns.message.make_query(longest, "A", use_edns=0, want_dnssec=True).to_wire()
    assert len(reply_to(query, lambda _: ADDRESS if allowed else None).message) < 512
    escaped = dns.name.Name([b"\xff" * 63] * 3 + [b"\xff" * 61, b""])
    reply = reply_to(dns.message.make_query(escaped, "A").to_wire(), address_of)
    assert 512 < len(reply.asked) < 1024


def test_a_query_is_bounded() -> None:
    """With padding (RFC 7830) up to the bound, and beyond it."""
    for most, rcode in ((4096, dns.rcode.NOERROR), (4097, dns.rcode.FORMERR)):
        room = most - len(raw(rest=QUESTION)) - len(OPT) - 4
        options = b"\0\x0c" + room.to_bytes(2) + bytes(room)
        query = raw((1, 0, 0, 1), QUESTION + OPT[:-2] + len(options).to_bytes(2) + options)
        assert (len(query), read(reply_to(query, address_of)).rcode()) == (most, rcode)


GOOD = [ask(), ask("other.example", "AAAA", use_edns=0, want_dnssec=True), ask("1.0.18.198.in-addr.arpa", "PTR")]


@pytest.mark.parametrize("query", GOOD, ids=["A", "AAAA", "PTR"])
@pytest.mark.parametrize("change", [0x01, 0x80, 0xFF])
def test_any_truncation_and_any_changed_byte_raises_nothing(query: bytes, change: int) -> None:
    for at in range(len(query)):
        changed = query[:at] + bytes([query[at] ^ change]) + query[at + 1 :]
        for tried in (query[:at], changed):
            reply = reply_to(tried, address_of)
            assert not reply.message or reply.message[:2] == tried[:2]


@given(
    st.binary(max_size=80), st.sampled_from([b"", raw(), raw(rest=QUESTION), raw((1, 0, 0, 1), QUESTION + OPT[:-2])])
)
def test_any_bytes(data: bytes, prefix: bytes) -> None:
    reply = reply_to(prefix + data, address_of)
    assert len(reply.message) < 512
    if reply.message:
        assert dns.message.from_wire(reply.message).id == int.from_bytes((prefix + data)[:2])


def test_the_synthetic_addresses_are_those_for_benchmarks() -> None:
    """What no name of the Internet leads to."""
    assert ADDRESS in ipaddress.ip_network("198.18.0.0/15")
