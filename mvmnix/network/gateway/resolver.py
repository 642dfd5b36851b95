"""Answers one DNS query of the guest: an allowed name by its synthetic address; a message in, one out, no I/O.

No query goes further than here: a name's labels carry nothing out, and nothing that a server says about a name comes
in, neither aliases nor the keys of Encrypted ClientHello. The code has these numbers:

1. What is no query is not answered: less than a header, or itself a response (RFC 1035, 4.1.1).
2. An operation other than QUERY is NOTIMP. A query has one question, no records, at most one OPT (RFC 6891, 6.1.1), and
   4,096 bytes; anything else is FORMERR. A version of EDNS other than 0 is BADVERS.
3. A class other than IN, a transfer or another meta-type is REFUSED.
4. A name that the caller gives an address has one A record with it, and of every other type none (AAAA, HTTPS, SVCB).
   So have the names of the gateway's and the synthetic addresses in in-addr.arpa.
5. Every other name is NXDOMAIN, with extended error 15, "Blocked" (RFC 8914), where the query has EDNS.

The question is repeated byte for byte, capitals included (draft-vixie-dnsext-dns0x20). RD is repeated and ignored; RA
is set, since stub resolvers pass over a server whose empty answer lacks it. There is no SOA, so nothing negative is
cached. No answer is longer than 512 bytes, so none is truncated, by UDP as by TCP.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from typing import Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

#: Seconds for which an answer may be kept.
TTL: Final = 60
#: Bytes of a UDP message that this resolver takes (RFC 9715, 3.2).
PAYLOAD: Final = 1232
#: Bytes of a query, by TCP too, where a longer one could have thousands of options.
MAX_QUERY: Final = 4096
_HEADER: Final = 12
_BLOCKED_TEXT: Final = "no rule of this machine allows the name"
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_REVERSE: Final = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.in-addr\.arpa")
_OURS: Final = ip_network("198.18.0.0/15")


@dataclass(frozen=True, slots=True)
class DnsReply:
    """The message to send back, empty for none.

    `asked` is the name that was asked for, in lower case and the escapes of RFC 1035, 5.1; "" where it wasn't read.
    `is_blocked` says whether no rule allows it (5).
    """

    message: bytes = b""
    asked: str = ""
    is_blocked: bool = False


#: The synthetic address of an allowed name, which is in lower case and has no dot at its end; None for other names.
type AddressOf = Callable[[str], IPv4Address | None]


def reply_to(query: bytes, address_of: AddressOf) -> DnsReply:
    """The answer to one message. Never raises but what `address_of` does.

    `address_of` is asked for host names alone: letters, digits and hyphens.
    """
    # 1. a query
    if len(query) < _HEADER or query[2] & 0x80:
        return DnsReply()
    # 2. its form
    if query[2] >> 3 & 0xF != dns.opcode.QUERY:
        return DnsReply(_header(query, dns.rcode.NOTIMP))
    parsed = _parsed(query)
    if parsed is None:
        return DnsReply(_header(query, dns.rcode.FORMERR))
    question = parsed.question[0]
    asked = question.name.to_text(omit_final_dot=True).lower()
    answer = _empty_answer(parsed, question)
    _decide(parsed, question, answer, address_of)
    return DnsReply(answer.to_wire(), asked, is_blocked=answer.rcode() == dns.rcode.NXDOMAIN)


def _parsed(query: bytes) -> dns.message.Message | None:
    """A query with one question and nothing else but EDNS, or None."""
    counts = [int.from_bytes(query[at : at + 2]) for at in range(4, _HEADER, 2)]
    if counts[:3] != [1, 0, 0] or counts[3] > 1 or len(query) > MAX_QUERY:
        return None
    try:
        parsed = dns.message.from_wire(query)
    except (dns.exception.DNSException, ValueError):
        return None
    if counts[3] and parsed.edns < 0:  # another record than OPT
        return None
    return parsed


def _header(query: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """An answer without its question: identifier, operation and RD of the query."""
    return query[:2] + bytes((0x80 | query[2] & 0x79, 0x80 | rcode)) + bytes(8)


def _empty_answer(query: dns.message.Message, question: dns.rrset.RRset) -> dns.message.Message:
    answer = dns.message.Message(id=query.id)
    answer.flags = dns.flags.QR | dns.flags.RA | query.flags & (dns.flags.RD | dns.flags.CD)
    answer.question.append(question)
    if query.edns >= 0:
        answer.use_edns(0, query.ednsflags & dns.flags.DO, PAYLOAD)
    return answer


def _decide(
    query: dns.message.Message, question: dns.rrset.RRset, answer: dns.message.Message, address_of: AddressOf
) -> None:
    """Complete an empty answer."""
    if query.edns > 0:
        answer.set_rcode(dns.rcode.BADVERS)
        return
    # 3. class and type
    if question.rdclass != dns.rdataclass.IN or _is_meta(question.rdtype):
        answer.set_rcode(dns.rcode.REFUSED)
        return
    # 4. a name that is allowed
    name = _host_name(question.name)
    address = address_of(name) if name else None
    if address is not None and question.rdtype == dns.rdatatype.A:
        record = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.A, address.packed, 0, 4)
        answer.answer.append(dns.rrset.from_rdata(question.name, TTL, record))
    if address is not None or _is_ours(name):
        return
    # 5. any other
    answer.set_rcode(dns.rcode.NXDOMAIN)
    if query.edns == 0:
        blocked = dns.edns.EDEOption(dns.edns.EDECode.BLOCKED, _BLOCKED_TEXT)
        answer.use_edns(0, query.ednsflags & dns.flags.DO, PAYLOAD, options=[blocked])


def _is_meta(kind: dns.rdatatype.RdataType) -> bool:
    """RFC 6895, 3.1: OPT, and 128 to 254, which are no types of data; 255, ANY, asks for what there is."""
    return kind == dns.rdatatype.OPT or 128 <= kind < dns.rdatatype.ANY


def _host_name(name: dns.name.Name) -> str:
    """In lower case, without the dot at its end; empty if it is no host name."""
    labels = [label.decode("latin-1").lower() for label in name.labels[:-1]]
    return ".".join(labels) if labels and all(_LABEL.fullmatch(label) for label in labels) else ""


def _is_ours(name: str) -> bool:
    """Whether it stands for an address of the gateway or a synthetic one (RFC 1035, 3.5)."""
    found = _REVERSE.fullmatch(name)
    if found is None or any(int(part) > 255 or str(int(part)) != part for part in found.groups()):
        return False
    return IPv4Address(".".join(reversed(found.groups()))) in _OURS
