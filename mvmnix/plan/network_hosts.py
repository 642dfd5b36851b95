"""What the host of a network rule may be, and which names and addresses it stands for, by their text; pure.

Names are compared as ASCII in lower case without a trailing dot: labels of letters, digits and inner hyphens (RFC 1123,
section 2.1), at most 63 characters each and 253 together (RFC 1035, section 2.3.4).
"""

import re
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Final

#: Every name; no address.
ALL_HOSTS: Final = "*"
LONGEST_NAME: Final = 253
_WILD: Final = "*."
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
#: What every resolver answers with a loopback address (RFC 6761, section 6.3): in a guest its own, never the host's.
_LOCAL: Final = "localhost"
#: Top-level names of private networks (RFC 6762, section 3 and appendix G; ICANN's `internal`). `home.arpa`: RFC 8375.
_PRIVATE: Final = frozenset({"corp", "home", "internal", "intranet", "lan", "local", "private"})


class HostKind(StrEnum):
    """What the host of a rule stands for: one name, all names below another, all names; one address, or a range."""

    NAME = "name"
    WILDCARD = "wildcard"
    ALL = "all"
    ADDRESS = "address"
    RANGE = "range"

    @property
    def is_literal(self) -> bool:
        """Whether it stands for addresses, which no name leads to."""
        return self in {HostKind.ADDRESS, HostKind.RANGE}


def host_name(text: str) -> str:
    """A name as names are compared: lower case, without one trailing dot. Raises ValueError for what is none.

    Decimal, octal and hexadecimal forms of addresses are no names, and neither is one with characters beyond ASCII: the
    message has the form with A-labels (RFC 5890, section 2.3.2.1) that may be meant.

    >>> host_name("API.Example.COM.")
    'api.example.com'
    """
    from mvmnix.formats.addresses import is_address_text  # noqa: PLC0415 - its tables are for plans that have a network

    if not text.isascii():
        raise ValueError(f"a name is written in ASCII: {_ascii_form(text)}")
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"not a host name: {text[:80]!r}")
    if is_address_text(name):
        raise ValueError(f"an address, or another form of one, and not a host name: {text[:80]!r}")
    return name


def host_kind(host: str) -> HostKind:
    """What the host of a rule is, which has the one form that a plan has of it. Raises ValueError.

    >>> host_kind("*.example.com"), host_kind("192.0.2.0/24")
    (<HostKind.WILDCARD: 'wildcard'>, <HostKind.RANGE: 'range'>)
    """
    if host == ALL_HOSTS:
        return HostKind.ALL
    if host.startswith(_WILD):
        suffix = host.removeprefix(_WILD)
        if host_name(suffix) != suffix:
            raise ValueError(f"not `*.` and a suffix in lower case without a trailing dot: {host[:80]!r}")
        return HostKind.WILDCARD
    if "/" in host and host[0].isdecimal():
        if str(IPv4Network(host)) != host or host.endswith("/32"):
            raise ValueError(f"not written like 192.0.2.0/24: {host[:80]!r}")
        return HostKind.RANGE
    if is_address(host):
        return HostKind.ADDRESS
    if host_name(host) != host:
        raise ValueError(f"not a name in lower case without a trailing dot: {host[:80]!r}")
    return HostKind.NAME


def parse_host(text: str) -> str:
    """The form that a plan has of a host that a user typed. Raises ValueError.

    >>> parse_host("*.Example.com."), parse_host("192.0.2.7/32")
    ('*.example.com', '192.0.2.7')
    """
    if text == ALL_HOSTS or is_address(text):
        return text
    if "/" in text and text[0].isdecimal():
        network = IPv4Network(text)
        return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
    wild = text.isascii() and text.startswith(_WILD)
    host = _WILD + host_name(text.removeprefix(_WILD)) if wild else host_name(text)
    host_kind(host)
    return host


def is_address(text: str) -> bool:
    """Whether it is an IPv4 address in its only form: four decimal numbers without leading zeros."""
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def is_local(name: str) -> bool:
    """Whether a name is one of the machine that asks, whatever resolver it asks (RFC 6761, section 6.3)."""
    return name == _LOCAL or name.endswith("." + _LOCAL)


def is_private_name(host: str) -> bool:
    """Whether no public resolver knows a name, or names below a suffix: it has one label, or ends like a private one.

    >>> is_private_name("pypi"), is_private_name("*.corp.internal"), is_private_name("example.com")
    (True, True, False)
    """
    if host_kind(host) not in {HostKind.NAME, HostKind.WILDCARD}:
        return False
    labels = host.split(".")
    return len(labels) == 1 or labels[-1] in _PRIVATE or labels[-2:] == ["home", "arpa"]


def covers_name(host: str, name: str) -> bool:
    """Whether the host of a rule stands for a name, both in the form of a plan.

    >>> covers_name("*.example.com", "a.b.example.com"), covers_name("*.example.com", "example.com")
    (True, False)
    """
    if host == ALL_HOSTS:
        return not is_address(name)
    if host.startswith(_WILD):
        return name.endswith(host.removeprefix("*")) and name != host.removeprefix("*")
    return host == name


def covered_range(host: str) -> IPv4Network | None:
    """The addresses that the host of a rule stands for; None where it is a name or many names."""
    return IPv4Network(host) if host_kind(host).is_literal else None


def _ascii_form(text: str) -> str:
    """What may be meant, by UTS 46; the text itself, escaped, where that has none."""
    import idna  # noqa: PLC0415 - a table of all characters, for a message that most users never see

    prefix = _WILD if text.startswith(_WILD) else ""
    try:
        return f"{prefix}{idna.encode(text.removeprefix(_WILD), uts46=True).decode()}, if {text[:80]!a} is meant"
    except idna.IDNAError:
        return f"{text[:80]!a} has no such form"
