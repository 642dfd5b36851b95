"""Questions of DNS by guests, the rules that they are held against, and the verdict of each."""

from dataclasses import dataclass

import dns.edns
import dns.message
import dns.rcode

from mvmnix.network.policy.decisions import Denial

ALLOW = (
    "https://api.example.com,id=api",
    "https://case.example.com,id=case",
    "https://*.wild.example.com,id=wild",
)
DENY = ("secret.wild.example.com,id=secret", "hushed.wild.example.com,id=hushed")


@dataclass(frozen=True, slots=True)
class Question:
    """A name that a guest asks for, the rule that allows or denies it, and the code it is refused with."""

    tried: str
    labels: tuple[bytes, ...]
    rule: str = ""
    code: Denial | None = None
    kind: int = 1

    @property
    def query(self) -> bytes:
        """The message (RFC 1035, 4.1), with EDNS."""
        name = b"".join(bytes([len(it)]) + it for it in self.labels) + b"\0"
        question = name + self.kind.to_bytes(2) + b"\0\1"
        return b"\0\7\1\0\0\1\0\0\0\0\0\1" + question + b"\0\0\x29\x04\xd0" + bytes(6)

    def assert_answered(self, answer: dns.message.Message) -> None:
        """An address that stands for the name where it is allowed; else no such name, and that it is blocked."""
        if self.code is None:
            assert answer.rcode() == dns.rcode.NOERROR
            assert str(answer.answer[0][0]).startswith("198.18.")
        else:
            assert (answer.rcode(), answer.answer) == (dns.rcode.NXDOMAIN, [])
            blocked = [it.code for it in answer.options if isinstance(it, dns.edns.EDEOption)]
            assert blocked == [dns.edns.EDECode.BLOCKED]


def ask(tried: str, name: str, rule: str, code: Denial | None = None, kind: int = 1) -> Question:
    return Question(tried, tuple(name.encode().split(b".")), rule, code, kind)


_NO_RULE, _BAD_NAME = ("", Denial.NO_RULE), ("", Denial.BAD_NAME)
_HEX = "00112233445566778899aabbccddeeff" * 2
QUESTIONS = [
    ask("an allowed name", "api.example.com", "api"),
    ask("its capitals", "CASE.Example.COM", "case"),
    ask("a name below a wildcard", "a.wild.example.com", "wild"),
    ask("far below a wildcard", "a.b.c.wild.example.com", "wild"),
    ask("a denied name below a wildcard", "secret.wild.example.com", "secret", Denial.DENIED_BY_RULE),
    ask("a denied name in capitals", "HUSHED.Wild.Example.Com", "hushed", Denial.DENIED_BY_RULE),
    ask("letters that look alike, as they are (IDN homograph)", "\u0430pi.example.com", *_BAD_NAME),
    Question("a NUL byte behind an allowed name", (b"api", b"example", b"com\0", b"evil", b"org"), *_BAD_NAME),
    Question("a NUL byte in a label", (b"api\0evil", b"example", b"com"), *_BAD_NAME),
    Question("a dot in a label", (b"api.example", b"com"), *_BAD_NAME),
    Question("an escape in a label", (b"api\\", b"example", b"com"), *_BAD_NAME),
    ask("a blank in a label", "api .example.com", *_BAD_NAME),
    ask("an address as a name", "169.254.169.254", *_BAD_NAME),
    ask("data in a name (DNS tunnelling)", ".".join([_HEX[:60]] * 3 + ["evil.org"]), *_NO_RULE),
    ask("data asked for as TXT", f"{_HEX[:40]}.evil.example.net", *_NO_RULE, 16),
    ask("data asked for as NULL", f"{_HEX[:41]}.evil.example.net", *_NO_RULE, 10),
    ask("the name of a public address", "34.216.184.93.in-addr.arpa", *_NO_RULE, 12),
    ask("a name with an underscore", "_dns.resolver.arpa", *_BAD_NAME, 64),
]
#: Of an allowed name, what isn't A: so no IPv6 address, no key of Encrypted ClientHello and no alias comes in.
NO_DATA = {"AAAA": 28, "CNAME": 5, "TXT": 16, "SVCB": 64, "HTTPS": 65, "SRV": 33, "ANY": 255}
