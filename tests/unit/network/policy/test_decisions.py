"""What rules say, in tables: each row a verdict with its rule and its code."""

import string
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.formats.addresses import AddressKind, kind_of
from mvmnix.network.policy.decisions import Denial, Rules, Verdict, missing_flag, refused
from mvmnix.network.policy.request_paths import RequestHead
from mvmnix.network.policy.risk_checks import refuse_unacknowledged
from mvmnix.plan.network import Acknowledgement, Action, Network, NetworkRule, Protocol, parse_rules
from mvmnix.plan.network_endpoints import PublishedPort

METADATA = "169.254.169.254"


def rules(*allowed: str, deny: tuple[str, ...] = ()) -> Rules:
    return Rules(Network(parse_rules(allowed, deny)))


def yes(rule: str = "allow-1") -> Verdict:
    return Verdict(allowed=True, rule=rule)


def said(found: tuple[NetworkRule, ...] | Verdict) -> tuple[str, ...] | Verdict:
    return found if isinstance(found, Verdict) else tuple(it.id for it in found)


API = "https://api.example.com"
WILD = "https://*.example.com"

NAMES = [
    # rules, denials, name, what the resolver says
    ((API,), (), "api.example.com", yes()),
    ((API,), (), "API.EXAMPLE.COM", yes()),
    ((API,), (), "api.example.com.", yes()),
    ((API,), (), "www.api.example.com", refused(Denial.NO_RULE)),
    ((API,), (), "example.com", refused(Denial.NO_RULE)),
    ((API,), (), "api.example.com..", refused(Denial.BAD_NAME)),
    ((API,), (), "api.example.com\0.evil.org", refused(Denial.BAD_NAME)),
    ((API,), (), "api.example.com ", refused(Denial.BAD_NAME)),
    ((API,), (), "аpi.example.com", refused(Denial.BAD_NAME)),  # noqa: RUF001 - a Cyrillic letter
    ((API,), (), "xn--pi-7kc.example.com", refused(Denial.NO_RULE)),
    ((API,), (), "", refused(Denial.BAD_NAME)),
    ((API,), (), ".", refused(Denial.BAD_NAME)),
    ((API,), (), "a" * 64 + ".example.com", refused(Denial.BAD_NAME)),
    ((WILD,), (), "a.b.example.com", yes()),
    ((WILD,), (), "example.com", refused(Denial.NO_RULE)),
    ((WILD,), (), "evil-example.com", refused(Denial.NO_RULE)),
    ((WILD,), (), "example.com.evil.org", refused(Denial.NO_RULE)),
    ((WILD,), (), "api.example.com.evil.org", refused(Denial.NO_RULE)),
    ((WILD,), (), "*.example.com", refused(Denial.BAD_NAME)),
    (("https://*",), (), "any.example", yes()),
    (("https://*",), (), METADATA, refused(Denial.BAD_NAME)),
    (("https://*",), (), "2852039166", refused(Denial.BAD_NAME)),
    (("https://*",), (), "0xa9fea9fe", refused(Denial.BAD_NAME)),
    (("https://*",), (), "0251.0376.0251.0376", refused(Denial.BAD_NAME)),
    (("https://*",), (), "169.254.43518", refused(Denial.BAD_NAME)),
    (("https://*",), (), "::1", refused(Denial.BAD_NAME)),
    (("tcp:192.0.2.7:22",), (), "a.example", refused(Denial.NO_RULE)),
    ((), ("a.example",), "b.example", refused(Denial.NO_RULE)),
    ((), ("a.example",), "a.example", refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((API,), ("api.example.com",), "api.example.com", refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((API,), ("*",), "api.example.com", refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((API,), ("*.example.com",), "api.example.com", refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((API,), ("*.com",), "api.example.com", refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((WILD,), ("secret.example.com",), "secret.example.com", refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((WILD,), ("secret.example.com",), "not-secret.example.com", yes()),
    ((WILD,), ("secret.example.com",), "a.secret.example.com", yes()),
    # some port of it is left, or none
    ((API, "tcp:api.example.com:22"), ("api.example.com:443",), "api.example.com", yes("allow-2")),
    ((API,), ("api.example.com:443",), "api.example.com", refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((API,), ("api.example.com:22",), "api.example.com", yes()),
    ((API,), ("https://api.example.com",), "api.example.com", refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((API,), ("http://api.example.com",), "api.example.com", yes()),
    (("http://a.example",), ("http://a.example/admin",), "a.example", yes()),
    # a denied range says nothing about names: it counts when they are dialed
    ((API,), ("0.0.0.0/0",), "api.example.com", yes()),
]


@pytest.mark.parametrize(("allowed", "denied", "name", "verdict"), NAMES)
def test_names_that_are_resolved(
    allowed: tuple[str, ...], denied: tuple[str, ...], name: str, verdict: Verdict
) -> None:
    assert rules(*allowed, deny=denied).resolves(name) == verdict


CONNECTIONS = [
    ((API,), (), "api.example.com", 443, ("allow-1",)),
    ((API,), (), "Api.Example.com.", 443, ("allow-1",)),
    ((API,), (), "api.example.com", 80, refused(Denial.PORT_NOT_ALLOWED)),
    ((API,), (), "api.example.com", 8443, refused(Denial.PORT_NOT_ALLOWED)),
    ((API,), (), "other.example.com", 443, refused(Denial.NO_RULE)),
    ((API,), (), "api.example.com\0", 443, refused(Denial.BAD_NAME)),
    ((API,), ("api.example.com",), "api.example.com", 443, refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((), ("a.example:443",), "a.example", 443, refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((), ("https://a.example",), "a.example", 443, refused(Denial.NO_RULE)),
    ((API,), ("api.example.com:443",), "api.example.com", 443, refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((API,), ("api.example.com:80",), "api.example.com", 80, refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((API,), ("evil.example",), "evil.example", 443, refused(Denial.DENIED_BY_RULE, "deny-1")),
    # DoH and DoT are hosts like others
    ((API,), (), "dns.example", 443, refused(Denial.NO_RULE)),
    ((API,), (), "dns.example", 853, refused(Denial.NO_RULE)),
    # the most specific first; what is more general is asked too
    ((WILD, "https://*", API), (), "api.example.com", 443, ("allow-3", "allow-1", "allow-2")),
    (("https://*.example.com", "https://*.api.example.com"), (), "x.api.example.com", 443, ("allow-2", "allow-1")),
    # tcp looks at nothing, so it stands for itself; whichever names the host more closely says which of them it is
    ((WILD, "tcp:db.example.com:443"), (), "db.example.com", 443, ("allow-2",)),
    ((WILD, "tcp:db.example.com:443"), (), "api.example.com", 443, ("allow-1",)),
    (("tcp:*.example.com:443", API), (), "api.example.com", 443, ("allow-2",)),
    (("tcp:*.example.com:443", API), (), "db.example.com", 443, ("allow-1",)),
    # a denial of what is within TLS covers what could carry it
    (
        ("tcp:*.example.com:443",),
        ("https://api.example.com",),
        "api.example.com",
        443,
        refused(Denial.DENIED_BY_RULE, "deny-1"),
    ),
    (
        ("tls:*.example.com:443",),
        ("https://api.example.com",),
        "api.example.com",
        443,
        refused(Denial.DENIED_BY_RULE, "deny-1"),
    ),
    ((WILD,), ("tls:api.example.com:443",), "api.example.com", 443, refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((WILD,), ("tcp:api.example.com:443",), "api.example.com", 443, refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((WILD,), ("http://api.example.com:443",), "api.example.com", 443, ("allow-1",)),
    (("tcp:a.example:80",), ("http://a.example/x",), "a.example", 80, refused(Denial.DENIED_BY_RULE, "deny-1")),
    (
        ("tcp:a.example:80",),
        ("http://a.example,method=PUT",),
        "a.example",
        80,
        refused(Denial.DENIED_BY_RULE, "deny-1"),
    ),
    (("http://a.example",), ("http://a.example/x",), "a.example", 80, ("allow-1",)),
]


@pytest.mark.parametrize(("allowed", "denied", "name", "port", "found"), CONNECTIONS)
def test_connections_before_their_first_bytes(
    allowed: tuple[str, ...], denied: tuple[str, ...], name: str, port: int, found: tuple[str, ...] | Verdict
) -> None:
    assert said(rules(*allowed, deny=denied).names(name, port)) == found


HELLOS = [
    (API, "api.example.com", yes()),
    (API, "API.example.com.", yes()),
    (API, None, refused(Denial.NO_SNI, "allow-1")),
    (API, "", refused(Denial.SNI_MISMATCH, "allow-1")),
    (API, "other.example.com", refused(Denial.SNI_MISMATCH, "allow-1")),
    (API, "api.example.com\0", refused(Denial.SNI_MISMATCH, "allow-1")),
    *(
        (API, name, refused(Denial.SNI_MISMATCH, "allow-1"))
        for name in (
            "www.api.example.com",
            "evil-api.example.com",
            "api.example.com.evil.org",
            "xn--pi-6kc.example.com",
        )
    ),
    ("https://*.example.com", "api.example.com", yes()),
    ("https://*.example.com", "www.example.com", refused(Denial.SNI_MISMATCH, "allow-1")),
    ("tls:api.example.com:443", "api.example.com", yes()),
    ("http://api.example.com:443", "api.example.com", refused(Denial.PROTOCOL, "allow-1")),
    ("tcp:api.example.com:443", "anything", yes()),
    ("tcp:api.example.com:443", None, yes()),
    ("https://*", "evil.example", refused(Denial.SNI_MISMATCH, "allow-1")),
    ("https://evil.example", "api.example.com", refused(Denial.NO_RULE)),
]


@pytest.mark.parametrize(("rule", "sni", "verdict"), HELLOS)
def test_handshakes(rule: str, sni: str | None, verdict: Verdict) -> None:
    assert rules(rule).tls("api.example.com", 443, sni) == verdict


WEB = "http://a.example"
REQUESTS = [
    ((WEB,), (), "GET", "/", yes()),
    ((WEB,), (), "PROPFIND", "/any//../path", yes()),
    ((f"{WEB},method=GET",), (), "GET", "/", yes()),
    ((f"{WEB},method=GET",), (), "POST", "/", refused(Denial.METHOD, "allow-1")),
    ((f"{WEB},method=GET",), (), "get", "/", refused(Denial.METHOD, "allow-1")),
    ((f"{WEB},method=GET",), (), "GET ", "/", refused(Denial.METHOD, "allow-1")),
    ((f"{WEB}/v1",), (), "GET", "/v1/x", yes()),
    ((f"{WEB}/v1",), (), "GET", "/v2", refused(Denial.PATH, "allow-1")),
    ((f"{WEB}/v1",), (), "GET", "/v1x", refused(Denial.PATH, "allow-1")),
    ((f"{WEB}/v1",), (), "GET", "/v1/../v2", refused(Denial.PATH, "allow-1")),
    ((f"{WEB}/v1",), (), "GET", "/v1/%2e%2e/v2", refused(Denial.PATH, "allow-1")),
    ((f"{WEB}/v1",), (), "GET", "/v1%2f..%2fv2", refused(Denial.PATH, "allow-1")),
    ((f"{WEB}/v1",), (), "OPTIONS", "*", refused(Denial.PATH, "allow-1")),
    # what is allowed by several rules is the union of them
    ((f"{WEB}/v1,method=GET", f"{WEB}/v2,method=PUT"), (), "PUT", "/v2", yes("allow-2")),
    (
        (f"{WEB}/v1,method=GET", f"{WEB}/v2,method=PUT"),
        (),
        "PUT",
        "/v1",
        refused(Denial.METHOD, "allow-1"),
    ),
    ((f"{WEB}/v1,method=GET", f"{WEB}/v2,method=PUT"), (), "PUT", "/v3", refused(Denial.PATH, "allow-1")),
    # a denial beats them
    ((WEB,), (f"{WEB}/admin",), "GET", "/admin", refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((WEB,), (f"{WEB}/admin",), "GET", "/ADMIN/x", refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((WEB,), (f"{WEB}/admin",), "GET", "/%61dmin", refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((WEB,), (f"{WEB}/admin",), "GET", "/admin;x=y", refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((WEB,), (f"{WEB}/admin",), "GET", "/x/../admin", refused(Denial.PATH, "deny-1")),
    ((WEB,), (f"{WEB}/admin",), "GET", "//admin", refused(Denial.PATH, "deny-1")),
    ((WEB,), (f"{WEB}/admin",), "GET", "/public", yes()),
    ((WEB,), (f"{WEB},method=DELETE",), "DELETE", "/", refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((WEB,), (f"{WEB},method=DELETE",), "GET", "/a/../b", yes()),
    ((WEB,), ("http://*.example.org/x",), "GET", "/x", yes()),
    ((WEB,), (f"{WEB}:8080/x",), "GET", "/x", yes()),
    (("tcp:a.example:80",), (), "GET", "/", yes()),
    (("tls:a.example:80",), (), "GET", "/", refused(Denial.PROTOCOL, "allow-1")),
    (("http://b.example",), (), "GET", "/", refused(Denial.NO_RULE)),
]


def request(method: str = "GET", target: str = "/", **more: bool) -> RequestHead:
    return RequestHead(method, target, "1.1", upgrade=False, **more)


@pytest.mark.parametrize(("allowed", "denied", "method", "target", "verdict"), REQUESTS)
def test_requests(
    allowed: tuple[str, ...], denied: tuple[str, ...], method: str, target: str, verdict: Verdict
) -> None:
    asked = rules(*allowed, deny=denied)
    for name in ("a.example", "A.EXAMPLE."):
        assert asked.http(name, 80, request(method, target)) == verdict


@pytest.mark.parametrize(
    ("allowed", "denied", "naming"),
    [
        ((WEB,), (), ""),
        ((WEB,), ("http://b.example/x",), ""),
        ((WEB,), (f"{WEB}:8080/x",), ""),
        ((WEB, f"{WEB}:8080,method=GET"), (), ""),
        (("tcp:a.example:80", "http://*,method=GET,acknowledge=all-hosts"), (), ""),
        ((f"{WEB},method=GET,method=POST",), (), "allow-1"),
        ((f"{WEB}/v1",), (), "allow-1"),
        ((WEB, f"{WEB}/v1"), (), "allow-2"),
        ((WEB, "http://*,method=GET,acknowledge=all-hosts"), (), "allow-2"),
        ((WEB,), (f"{WEB}/x",), "deny-1"),
        ((WEB,), (f"{WEB},method=PUT",), "deny-1"),
        ((WEB,), ("http://*.example,method=PUT",), "deny-1"),
    ],
)
def test_what_is_refused_where_rules_name_requests(
    allowed: tuple[str, ...], denied: tuple[str, ...], naming: str
) -> None:
    asked = rules(*allowed, deny=denied)
    assert asked.names_requests("a.example", 80) == bool(naming)

    def code_of(method: str, *, has_content: bool = False, has_override: bool = False) -> tuple[str, Denial | None]:
        said = request(method, "/v1", has_content=has_content, has_override=has_override)
        verdict = asked.http("a.example", 80, said)
        return (verdict.rule, verdict.code) if verdict.code else ("", None)

    for method in ("GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "get"):
        if code_of(method) == ("", None):
            assert code_of(method, has_content=True) == (naming, Denial.CONTENT if naming else None)
    for method in ("GET", "POST"):
        assert code_of(method) == ("", None)
        assert code_of(method, has_override=True) == (naming, Denial.OVERRIDE if naming else None)
    assert code_of("POST", has_content=True) == ("", None)


def test_a_denied_method_is_denied_in_any_case() -> None:
    asked = rules(WEB, deny=(f"{WEB},method=DELETE",))
    for method in ("DELETE", "delete", "Delete"):
        verdict = asked.http("a.example", 80, request(method))
        assert verdict == refused(Denial.DENIED_BY_RULE, "deny-1")
    assert rules("https://a.example").names_requests("b.example", 443) is False


def test_what_speaks_neither_is_for_tcp_alone() -> None:
    assert rules("tcp:a.example:22").unknown("a.example", 22) == yes()
    assert rules("https://a.example:22").unknown("a.example", 22) == refused(Denial.PROTOCOL, "allow-1")
    assert rules("https://a.example").unknown("a.example", 22) == refused(Denial.PORT_NOT_ALLOWED)


PRIVATE = "acknowledge=private-addresses"
LITERALS = [
    (("tcp:8.8.8.0/24:22",), (), "8.8.8.8", 22, yes()),
    (("tcp:8.8.8.8:22",), (), "8.8.8.8", 22, yes()),
    (("tcp:8.8.8.8:22",), (), "8.8.8.9", 22, refused(Denial.NO_RULE)),
    (("tcp:8.8.8.8:22",), (), "8.8.8.8", 23, refused(Denial.PORT_NOT_ALLOWED)),
    (("tcp:8.8.8.0/24:22",), ("8.8.8.8",), "8.8.8.8", 22, refused(Denial.DENIED_BY_RULE, "deny-1")),
    (("tcp:8.8.8.0/24:22",), ("8.8.8.8:22",), "8.8.8.8", 22, refused(Denial.DENIED_BY_RULE, "deny-1")),
    (("tcp:8.8.8.0/24:22",), ("8.8.8.8:23",), "8.8.8.8", 22, yes()),
    (("tcp:8.8.8.0/24:22",), ("8.8.0.0/16",), "8.8.8.8", 22, refused(Denial.DENIED_BY_RULE, "deny-1")),
    (("tcp:8.8.8.0/24:22",), ("*",), "8.8.8.8", 22, refused(Denial.DENIED_BY_RULE, "deny-1")),
    ((), ("8.8.8.8",), "8.8.8.8", 22, refused(Denial.DENIED_BY_RULE, "deny-1")),
    # a name, even every name, opens no address
    ((API,), (), "8.8.8.8", 443, refused(Denial.NO_RULE)),
    (("tcp:*:443",), (), "8.8.8.8", 443, refused(Denial.NO_RULE)),
    # what a range covers besides public addresses is for those who say so
    (("tcp:0.0.0.0/0:80",), (), METADATA, 80, refused(Denial.ADDRESS_METADATA, "allow-1")),
    (("tcp:0.0.0.0/0:80",), (), "10.0.0.1", 80, refused(Denial.ADDRESS_NOT_PUBLIC, "allow-1")),
    (("tcp:0.0.0.0/0:80",), (), "100.100.100.200", 80, refused(Denial.ADDRESS_METADATA, "allow-1")),
    (("tcp:0.0.0.0/0:80",), (), "168.63.129.16", 80, refused(Denial.ADDRESS_METADATA, "allow-1")),
    ((f"tcp:0.0.0.0/0:80,{PRIVATE}",), (), "10.0.0.1", 80, yes()),
    ((f"tcp:0.0.0.0/0:80,{PRIVATE}",), (), METADATA, 80, refused(Denial.ADDRESS_METADATA, "allow-1")),
    ((f"tcp:0.0.0.0/0:80,{PRIVATE}",), (), "127.0.0.1", 80, refused(Denial.ADDRESS_NOT_PUBLIC, "allow-1")),
    ((f"tcp:0.0.0.0/0:80,{PRIVATE}",), (), "0.0.0.0", 80, refused(Denial.ADDRESS_NOT_PUBLIC, "allow-1")),
    ((f"tcp:0.0.0.0/0:80,{PRIVATE}",), (), "224.0.0.1", 80, refused(Denial.ADDRESS_NOT_PUBLIC, "allow-1")),
    ((f"tcp:0.0.0.0/0:80,{PRIVATE}",), (), "198.19.255.1", 80, refused(Denial.ADDRESS_NOT_PUBLIC, "allow-1")),
    ((f"tcp:{METADATA}:80,acknowledge=metadata",), (), METADATA, 80, yes()),
    ((f"tcp:{METADATA}:80,acknowledge=metadata",), (METADATA,), METADATA, 80, refused(Denial.DENIED_BY_RULE, "deny-1")),
    # of two rules the one that allows counts
    (("tcp:10.0.0.0/8:80", f"tcp:10.0.0.1:80,{PRIVATE}"), (), "10.0.0.1", 80, yes("allow-2")),
    (("tcp:8.8.8.8:22",), (), "134744072", 22, refused(Denial.BAD_NAME)),
    (("tcp:8.8.8.8:22",), (), "::ffff:8.8.8.8", 22, refused(Denial.BAD_NAME)),
    (("tcp:8.8.8.8:22",), (), "a.example", 22, refused(Denial.BAD_NAME)),
]


@pytest.mark.parametrize(("allowed", "denied", "address", "port", "verdict"), LITERALS)
def test_addresses(
    allowed: tuple[str, ...], denied: tuple[str, ...], address: str, port: int, verdict: Verdict
) -> None:
    assert rules(*allowed, deny=denied).address(address, port) == verdict


DIALED = [
    (API, (), "8.8.8.8", yes()),
    (API, (), "2606:4700:4700::1111", yes()),
    *(
        (API, (), it, refused(Denial.ADDRESS_NOT_PUBLIC, "allow-1"))
        for it in (
            # one of each kind, and some as IPv6 carries them: formats/test_addresses.py has all ways to that
            *("127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "0.0.0.0", "10.0.0.1", "fc00::1"),
            *("100.64.0.1", "169.254.1.1", "fe80::1%eth0", "224.0.0.1", "240.0.0.1", "198.18.0.2", "203.0.113.9"),
        )
    ),
    *(
        (API, (), it, refused(Denial.ADDRESS_METADATA, "allow-1"))
        for it in (METADATA, "fd00:ec2::254", f"::ffff:{METADATA}", "168.63.129.16")
    ),
    (f"{API},{PRIVATE}", (), "10.0.0.1", yes()),
    (f"{API},{PRIVATE}", (), "fc00::1", yes()),
    (f"{API},{PRIVATE}", (), "100.64.0.1", yes()),
    (f"{API},{PRIVATE}", (), "::ffff:10.0.0.1", yes()),
    (f"{API},{PRIVATE}", (), "127.0.0.1", refused(Denial.ADDRESS_NOT_PUBLIC, "allow-1")),
    (f"{API},{PRIVATE}", (), "169.254.1.1", refused(Denial.ADDRESS_NOT_PUBLIC, "allow-1")),
    (f"{API},{PRIVATE}", (), METADATA, refused(Denial.ADDRESS_METADATA, "allow-1")),
    (f"{API},{PRIVATE}", (), "fd00:ec2::254", refused(Denial.ADDRESS_METADATA, "allow-1")),
    (f"{API},acknowledge=metadata", (), METADATA, yes()),
    (f"{API},acknowledge=metadata", (), "10.0.0.1", refused(Denial.ADDRESS_NOT_PUBLIC, "allow-1")),
    # a denied range counts for what names lead to
    (API, ("8.8.8.0/24",), "8.8.8.8", refused(Denial.DENIED_BY_RULE, "deny-1")),
    (API, ("8.8.8.0/24:443",), "8.8.8.8", refused(Denial.DENIED_BY_RULE, "deny-1")),
    (API, ("8.8.8.0/24:80",), "8.8.8.8", yes()),
    (API, ("8.8.8.0/24",), "::ffff:8.8.8.8", refused(Denial.DENIED_BY_RULE, "deny-1")),
    (API, ("8.8.8.0/24",), "64:ff9b::808:808", refused(Denial.DENIED_BY_RULE, "deny-1")),
    (f"{API},{PRIVATE}", ("10.0.0.0/8",), "10.0.0.1", refused(Denial.DENIED_BY_RULE, "deny-1")),
    (f"{API},{PRIVATE}", ("10.0.0.0/8",), "192.168.0.1", yes()),
]


@pytest.mark.parametrize(("rule", "denied", "address", "verdict"), DIALED)
def test_addresses_that_a_name_leads_to(rule: str, denied: tuple[str, ...], address: str, verdict: Verdict) -> None:
    assert rules(rule, deny=denied).reaches("allow-1", address, 443) == verdict


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111"])
def test_an_address_of_the_host_counts_as_private(address: str) -> None:
    assert rules(API).reaches("allow-1", address, 443) == yes()
    assert rules(API).reaches("allow-1", address, 443, is_own=True) == refused(Denial.ADDRESS_NOT_PUBLIC, "allow-1")
    acknowledged = rules(f"{API},acknowledge=private-addresses")
    assert acknowledged.reaches("allow-1", address, 443, is_own=True) == yes()
    assert acknowledged.reaches("allow-1", METADATA, 443, is_own=True).code is Denial.ADDRESS_METADATA


ADMITTED = [
    (API, (), "allow-1", "api.example.com", 443, yes()),
    (API, (), "allow-2", "api.example.com", 443, refused(Denial.NO_RULE)),
    (API, (), "", "api.example.com", 443, refused(Denial.NO_RULE)),
    (API, (), "deny-1", "api.example.com", 443, refused(Denial.NO_RULE)),
    *(
        (API, (), "allow-1", it, 443, refused(Denial.NO_RULE))
        for it in ("evil.example", "localhost", "x.api.example.com")
    ),
    (API, (), "allow-1", "api.example.com", 22, refused(Denial.PORT_NOT_ALLOWED, "allow-1")),
    *(
        (API, (), "allow-1", it, 443, refused(Denial.BAD_NAME, "allow-1"))
        for it in (
            *("api.example.com\0", "api.example.com:443", "8.8.8.8", "127.0.0.1", METADATA, "2130706433", "0x7f.1"),
            "fe80::1%lo",
        )
    ),
    (API, ("evil.example",), "deny-1", "evil.example", 443, refused(Denial.NO_RULE)),
    (API, ("evil.example",), "allow-1", "evil.example", 443, refused(Denial.NO_RULE)),
    (API, ("api.example.com:443",), "allow-1", "api.example.com", 443, refused(Denial.DENIED_BY_RULE, "deny-1")),
    (WILD, (), "allow-1", "x.example.com", 443, yes()),
    (WILD, ("x.example.com",), "allow-1", "x.example.com", 443, refused(Denial.DENIED_BY_RULE, "deny-1")),
    ("tcp:8.8.8.0/24:22", (), "allow-1", "8.8.8.8", 22, yes()),
    ("tcp:8.8.8.0/24:22", (), "allow-1", "8.8.9.8", 22, refused(Denial.NO_RULE)),
    ("tcp:8.8.8.0/24:22", (), "allow-1", "8.8.8.8", 23, refused(Denial.PORT_NOT_ALLOWED, "allow-1")),
    ("tcp:8.8.8.0/24:22", (), "allow-1", "a.example", 22, refused(Denial.BAD_NAME, "allow-1")),
    ("tcp:8.8.8.0/24:22", ("8.8.8.8",), "allow-1", "8.8.8.8", 22, refused(Denial.DENIED_BY_RULE, "deny-1")),
    ("tcp:0.0.0.0/0:80", (), "allow-1", METADATA, 80, refused(Denial.ADDRESS_METADATA, "allow-1")),
]


@pytest.mark.parametrize(("rule", "denied", "id_", "host", "port", "verdict"), ADMITTED)
def test_what_the_dialer_is_asked(
    rule: str, denied: tuple[str, ...], id_: str, host: str, port: int, verdict: Verdict
) -> None:
    assert rules(rule, deny=denied).admits(id_, host, port) == verdict


def test_rules_by_id() -> None:
    found = rules(API, deny=("10.0.0.0/8",))
    assert found.rule("allow-1").host == "api.example.com"
    for id_ in ("deny-1", "allow-9"):
        with pytest.raises(KeyError):
            found.rule(id_)


@pytest.mark.parametrize(
    "network", [None, Network((), (PublishedPort("127.0.0.1", 8080, 80),)), Network(parse_rules([], ["a.example"]))]
)
def test_what_has_no_rule_that_allows_allows_nothing(network: Network | None) -> None:
    asked = Rules(network)
    names = ("a.example", "localhost", "metadata.google.internal", "b")
    verdicts = [asked.resolves(it) for it in names]
    verdicts += [asked.tls(it, 443, it) for it in names]
    verdicts += [asked.http(it, 80, request()) for it in names]
    verdicts += [asked.address(it, port) for it in ("8.8.8.8", METADATA, "127.0.0.1", "10.0.0.1") for port in (53, 80)]
    verdicts += [asked.admits("allow-1", it, 443) for it in names]
    assert not any(it.allowed for it in verdicts)


@pytest.mark.parametrize(
    ("allowed", "rule", "code"), [(True, "a", Denial.NO_RULE), (True, "", None), (False, "a", None), (False, "", None)]
)
def test_a_verdict_is_one_or_the_other(allowed: bool, rule: str, code: Denial | None) -> None:
    with pytest.raises(ValueError, match="a verdict"):
        Verdict(allowed=allowed, rule=rule, code=code)


@pytest.mark.parametrize(
    ("host", "port", "protocol", "flag"),
    [
        ("api.example.com", 443, None, "--allow https://api.example.com"),
        ("API.example.com.", 8443, Protocol.HTTPS, "--allow https://api.example.com:8443"),
        ("a.example", 80, None, "--allow http://a.example"),
        ("a.example", 5432, None, "--allow tcp:a.example:5432"),
        ("a.example", 5432, Protocol.TLS, "--allow tls:a.example:5432"),
        ("8.8.8.8", 53, None, "--allow tcp:8.8.8.8:53"),
        ("10.0.0.1", 53, None, "--allow tcp:10.0.0.1:53,acknowledge=private-addresses"),
        (METADATA, 80, None, f"--allow tcp:{METADATA}:80,acknowledge=metadata"),
        ("127.0.0.1", 80, None, ""),
        ("198.18.0.1", 80, None, ""),
        ("registry", 443, None, "--allow https://registry,acknowledge=private-addresses"),
        ("db.internal", 5432, None, "--allow tcp:db.internal:5432,acknowledge=private-addresses"),
        ("x.localhost", 443, None, ""),
        ("a b", 80, None, ""),
    ],
)
def test_the_option_that_would_allow_it(host: str, port: int, protocol: Protocol | None, flag: str) -> None:
    assert missing_flag(host, port, protocol) == flag
    if flag:
        refuse_unacknowledged(Network(parse_rules([flag.removeprefix("--allow ")], [])))


@pytest.mark.parametrize("method", ["PUT", "M-SEARCH"])
def test_the_option_for_a_method(method: str) -> None:
    assert missing_flag("a.example", 80, method=method) == f"--allow http://a.example,method={method}"


@pytest.mark.parametrize("method", ["GET`reboot`", "GET|sh", "put", "CONNECT", "$(id)", "'"])
def test_what_a_guest_calls_a_method_is_no_option(method: str) -> None:
    """A person may have a shell read it."""
    assert missing_flag("a.example", 80, method=method) == ""


LABEL = st.sampled_from(["a", "b", "evil", "x-a", "ab"])
NAME = st.lists(LABEL, min_size=2, max_size=4).map(".".join)
HOST = st.one_of(NAME, NAME.map("*.{}".format), st.just("*"))
PORTS = st.sampled_from([22, 80, 443])


@st.composite
def networks(draw: st.DrawFn) -> Network:
    found = list[NetworkRule]()
    for number in range(draw(st.integers(1, 6))):
        denied = draw(st.booleans())
        protocol = draw(st.sampled_from(Protocol))
        rule = NetworkRule(f"r{number}", Action.ALLOW, draw(HOST), draw(PORTS), protocol)
        if denied:
            rule = replace(rule, action=Action.DENY)
            rule = draw(st.sampled_from([rule, replace(rule, protocol=None), replace(rule, protocol=None, port=None)]))
        if not any(it.host == rule.host and it.port == rule.port for it in found):
            found.append(rule)
    return Network(tuple(found))


def covers(host: str, name: str) -> bool:
    """The same as the product's, said otherwise."""
    wanted, labels = host.split("."), name.split(".")
    return (
        host == "*"
        or wanted == labels
        or (wanted[0] == "*" and labels[-len(wanted) + 1 :] == wanted[1:] and len(labels) >= len(wanted))
    )


@given(networks(), NAME, PORTS)
def test_nothing_is_allowed_but_by_a_rule_that_no_denial_covers(network: Network, name: str, port: int) -> None:
    asked = Rules(network)
    found = asked.names(name, port)
    here = [it for it in network.rules if it.port in {port, None} and covers(it.host, name)]
    if isinstance(found, Verdict):
        assert found.code in {Denial.NO_RULE, Denial.PORT_NOT_ALLOWED, Denial.DENIED_BY_RULE}
        assert all(it.action is Action.DENY for it in here) or found.code is Denial.DENIED_BY_RULE
        assert all(not asked.admits(it.id, name, port).allowed for it in network.rules)
        return
    assert found
    assert not any(it.action is Action.DENY and it.protocol is None for it in here)
    assert asked.resolves(name).allowed
    for it in found:
        assert it in here
        assert it.action is Action.ALLOW
        assert asked.admits(it.id, name, port) == Verdict(allowed=True, rule=it.id)


@given(networks(), networks(), NAME, PORTS)
def test_more_denials_never_allow_more(network: Network, other: Network, name: str, port: int) -> None:
    denials = tuple(replace(it, id=f"d-{it.id}") for it in other.rules if it.action is Action.DENY)
    before, after = Rules(network), Rules(Network((*network.rules, *denials)))
    assert before.resolves(name).allowed or not after.resolves(name).allowed
    for it in network.rules:
        assert before.admits(it.id, name, port).allowed or not after.admits(it.id, name, port).allowed


@given(st.ip_addresses(), st.sets(st.sampled_from(Acknowledgement)))
def test_no_rule_reaches_metadata_or_what_is_not_public_without_a_word(
    address: IPv4Address, words: set[Acknowledgement]
) -> None:
    rule = NetworkRule("r", Action.ALLOW, "*", 443, Protocol.TLS, acknowledged=tuple(sorted(words)))
    allowed = Rules(Network((rule,))).reaches("r", address, 443).allowed
    kind = kind_of(address)
    if kind is AddressKind.PUBLIC:
        assert allowed
    elif kind is AddressKind.METADATA:
        assert allowed == (Acknowledgement.METADATA in words)
    elif kind in {AddressKind.PRIVATE, AddressKind.SHARED}:
        assert allowed == (Acknowledgement.PRIVATE_ADDRESSES in words)
    else:
        assert not allowed


@given(st.text(string.printable, max_size=30), st.integers(1, 65535))
def test_whatever_a_guest_says_has_a_verdict(text: str, port: int) -> None:
    asked = rules("https://*", "tcp:*:22", "tcp:8.8.8.0/24:22")
    requests = asked.http(text, port, request(text, text, has_content=True, has_override=True))
    for verdict in (asked.resolves(text), asked.tls(text, port, text), requests):
        assert verdict.allowed or verdict.code
    assert not asked.address(text, 443).allowed


@pytest.mark.parametrize(
    ("address", "port", "tcp", "expected"),
    [
        ("8.8.8.8", 22, True, refused(Denial.NO_RULE)),  # what it allows isn't refused: another one was taken over
        ("8.8.8.8", 23, True, refused(Denial.PORT_NOT_ALLOWED)),
        ("9.9.9.9", 22, True, refused(Denial.NO_RULE)),
        ("10.1.1.1", 22, True, refused(Denial.DENIED_BY_RULE, "deny-1")),
        ("8.8.8.8", 22, False, refused(Denial.NOT_TCP)),
    ],
)
def test_why_a_packet_was_refused(address: str, port: int, *, tcp: bool, expected: Verdict) -> None:
    it = rules("tcp:8.8.8.8:22", deny=("10.0.0.0/8",))
    assert it.refused_packet(IPv4Address(address), None, port, tcp=tcp) == expected


@pytest.mark.parametrize(
    ("name", "port", "expected"),
    [
        ("a.example.com", 80, refused(Denial.PORT_NOT_ALLOWED)),
        ("a.example.com", 443, refused(Denial.NO_RULE)),  # what it allows isn't refused: another one was taken over
        ("b.example.com", 443, refused(Denial.DENIED_BY_RULE, "deny-1")),
    ],
)
def test_why_a_packet_to_a_name_was_refused(name: str, port: int, expected: Verdict) -> None:
    it = rules("https://*.example.com", deny=("b.example.com",))
    assert it.refused_packet(IPv4Address("198.18.0.2"), name, port, tcp=True) == expected
