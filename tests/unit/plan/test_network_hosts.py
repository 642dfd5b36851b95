"""Hosts of network rules: which texts are some, and which names and addresses they stand for."""

import string
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.plan.network_hosts import (
    HostKind,
    covered_range,
    covers_name,
    host_kind,
    host_name,
    is_local,
    parse_host,
)

LONGEST = ".".join(["a" * 63] * 3 + ["b" * 61])
LABELS = st.text(string.ascii_lowercase, min_size=1, max_size=12)
NAMES = st.lists(LABELS, min_size=1, max_size=5).map(".".join)


@pytest.mark.parametrize(
    ("typed", "host", "kind"),
    [
        ("api.example.com", "api.example.com", HostKind.NAME),
        ("API.Example.COM", "api.example.com", HostKind.NAME),
        ("api.example.com.", "api.example.com", HostKind.NAME),
        ("intranet", "intranet", HostKind.NAME),
        ("1password.example", "1password.example", HostKind.NAME),
        ("127.0.0.1.example", "127.0.0.1.example", HostKind.NAME),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", HostKind.NAME),
        ("r3---sn-4g5e.example.com", "r3---sn-4g5e.example.com", HostKind.NAME),
        (LONGEST, LONGEST, HostKind.NAME),
        ("*.example.com", "*.example.com", HostKind.WILDCARD),
        ("*.Example.com.", "*.example.com", HostKind.WILDCARD),
        ("*.co.uk", "*.co.uk", HostKind.WILDCARD),
        ("*.com", "*.com", HostKind.WILDCARD),
        ("*", "*", HostKind.ALL),
        ("192.0.2.7", "192.0.2.7", HostKind.ADDRESS),
        ("192.0.2.7/32", "192.0.2.7", HostKind.ADDRESS),
        ("192.0.2.0/24", "192.0.2.0/24", HostKind.RANGE),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24", HostKind.RANGE),
        ("0.0.0.0/0", "0.0.0.0/0", HostKind.RANGE),
    ],
)
def test_typed(typed: str, host: str, kind: HostKind) -> None:
    assert parse_host(typed) == host
    assert host_kind(host) is kind
    if typed != host:
        with pytest.raises(ValueError, match="not"):
            host_kind(typed)


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "a..b", ".example.com", "example.com..", "-a.example", "a-.example", "a_b.example"),
        *("exa mple.com", "example.com\n", "example.com\0.org", "ex%61mple.com", "user@example.com", "example.com:443"),
        *("*.", "**.example.com", "a*.example.com", "*a.example.com", "a.*.example.com", "*.*.example.com"),
        *("a" * 64 + ".example", LONGEST + "b", "*.192.0.2.7", "[::1]", "::1", "fd00:ec2::254"),
        *("192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/-1", "a.example/24"),
        # what other parsers take for 127.0.0.1 or 169.254.169.254
        *("2130706433", "0x7f000001", "017700000001", "127.1", "127.0.1", "0177.0.0.1", "0x7f.0.0.1", "127.0.0.0x1"),
        *(
            "127.0.0.01",
            "127.0.0.1.",
            "0xa9fea9fe",
            "2852039166",
            "0251.0376.0251.0376",
            "169.254.43518",
            "0x",
            "0X7F.1",
        ),
        *("example.0x7f", "example.123", "256.1.1.1", "1.2.3.4.5"),
    ],
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_host(text)
    with pytest.raises(ValueError, match=r".+"):
        host_kind(text)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("аpple.example", "xn--pple-43d.example"),  # noqa: RUF001 - a Cyrillic letter
        ("ｅxample.com", "example.com"),  # noqa: RUF001 - a fullwidth letter
        ("example。com", "example.com"),
    ],
)
def test_a_name_beyond_ascii_is_refused_and_its_ascii_form_shown(typed: str, shown: str) -> None:
    with pytest.raises(ValueError, match=r"written in ASCII") as caught:
        parse_host(typed)
    assert f": {shown}, if " in str(caught.value)
    assert str(caught.value).isascii()


def test_what_has_no_ascii_form_is_refused_too() -> None:
    with pytest.raises(ValueError, match="has no such form"):
        parse_host("\u202e.example")


@pytest.mark.parametrize(
    ("host", "name", "covered"),
    [
        ("example.com", "example.com", True),
        ("example.com", "www.example.com", False),
        ("*.example.com", "www.example.com", True),
        ("*.example.com", "a.b.c.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evil-example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("*.example.com", "example.com.evil.org", False),
        ("*.example.com", "www.example.com.evil.org", False),
        ("*.example.com", "www.example.org", False),
        ("*", "any.example", True),
        ("*", "192.0.2.7", False),
        ("192.0.2.0/24", "192.0.2.7", False),
        ("192.0.2.7", "a.example", False),
    ],
)
def test_which_names_it_stands_for(host: str, name: str, covered: bool) -> None:
    assert covers_name(host, name) is covered


@given(NAMES, NAMES)
def test_a_wildcard_stands_for_what_lies_below_its_suffix_and_for_nothing_else(name: str, other: str) -> None:
    suffix = f"{other}.example"
    assert covers_name(f"*.{suffix}", f"{name}.{suffix}")
    assert not covers_name(f"*.{suffix}", suffix)
    assert not covers_name(f"*.{suffix}", f"{name}-{suffix}")
    assert not covers_name(f"*.{suffix}", f"{name}.{suffix}.{other}")


@given(st.text(max_size=40))
def test_whatever_is_typed_has_one_form_or_is_refused(text: str) -> None:
    try:
        host = parse_host(text)
    except ValueError:
        return
    assert host.isascii()
    assert parse_host(host) == host
    host_kind(host)


@given(st.ip_addresses(v=4))
def test_an_address_is_no_name(address: object) -> None:
    assert host_kind(str(address)) is HostKind.ADDRESS
    with pytest.raises(ValueError, match="another form"):
        host_name(str(address))


def test_which_addresses_it_stands_for() -> None:
    assert covered_range("192.0.2.7") == IPv4Network("192.0.2.7/32")
    assert covered_range("192.0.2.0/24") == IPv4Network("192.0.2.0/24")
    assert covered_range("example.com") is covered_range("*") is covered_range("*.example.com") is None


def test_names_of_the_machine_itself() -> None:
    assert is_local("localhost")
    assert is_local("a.localhost")
    assert not is_local("localhost.example.com")
    assert not is_local("notlocalhost")
