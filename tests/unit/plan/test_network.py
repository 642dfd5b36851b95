"""The network of a plan: as it is typed, as it is written and read, and what is refused."""

import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.formats import strict
from mvmnix.plan.backend import Backend
from mvmnix.plan.network import (
    Acknowledgement,
    Action,
    Network,
    NetworkRule,
    Protocol,
    RuleLimits,
    WhenGatewayEnds,
    acknowledged,
    check,
    from_record,
    parse_rules,
    parse_size,
    show_size,
    to_json,
)
from mvmnix.plan.network_endpoints import ConnectionRate, PublishedPort, UpstreamProxy

RULE = NetworkRule("allow-1", Action.ALLOW, "api.example.com", 443, Protocol.HTTPS)
DENIAL = NetworkRule("deny-1", Action.DENY, "example.org", None, None)
HTTP = NetworkRule("allow-1", Action.ALLOW, "api.example.com", 80, Protocol.HTTP)
PORT = PublishedPort("127.0.0.1", 8080, 80)
RULE_JSON = {"id": "a", "action": "allow", "host": "a.example", "port": 443, "protocol": "https"}


def again(network: Network) -> Network:
    return strict.read(to_json(network), "network", from_record)


def allowed(text: str) -> NetworkRule:
    return parse_rules([text], [])[0]


def test_what_is_written_is_read_again() -> None:
    network = Network(
        (
            RULE,
            DENIAL,
            replace(
                HTTP,
                id="api",
                methods=("GET", "HEAD"),
                path_prefix="/v1/items",
                limits=RuleLimits(10 << 20, 1 << 20, 8),
                acknowledged=(Acknowledgement.PRIVATE_ADDRESSES,),
            ),
        ),
        (PORT, PublishedPort("0.0.0.0", 80, 80)),
        WhenGatewayEnds.CONTINUE,
        connection_rate=ConnectionRate(7, 9),
    )
    assert again(network) == network
    assert again(Network((), (PORT,))) == Network((), (PORT,))
    assert to_json(Network((RULE, DENIAL))) == {
        "rules": [
            {"id": "allow-1", "action": "allow", "host": "api.example.com", "port": 443, "protocol": "https"},
            {"id": "deny-1", "action": "deny", "host": "example.org"},
        ],
        "ports": [],
        "whenGatewayEnds": "end-machine",
        "connectionRate": {"perSecond": 100, "burst": 1000},
    }, "and no more"


def test_a_proxy_is_named() -> None:
    network = Network((RULE,), proxy=UpstreamProxy.parse("Proxy.example.com.:3128"))
    assert again(network) == network
    assert to_json(network)["proxy"] == {"host": "proxy.example.com", "port": 3128}
    assert acknowledged(network) == ("network-proxy",)
    assert network.digest != Network((RULE,)).digest


@pytest.mark.parametrize("typed", ["proxy", "proxy:", "proxy:0", "http://proxy:3128", "*:3128", "[::1]:3128", ":3128"])
def test_what_is_no_proxy(typed: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        UpstreamProxy.parse(typed)


def test_its_digest_is_that_of_its_canonical_json() -> None:
    one = Network((RULE, DENIAL))
    assert one.digest == again(one).digest
    assert one.digest != Network((DENIAL, RULE)).digest != Network((RULE,)).digest


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("https://api.example.com", RULE),
        ("https://API.example.com.", RULE),
        ("https://api.example.com/", RULE),
        ("https://api.example.com:8443", replace(RULE, port=8443)),
        ("https://*.example.com", replace(RULE, host="*.example.com")),
        ("https://*", replace(RULE, host="*")),
        ("http://api.example.com", HTTP),
        ("http://api.example.com:8080/v1", replace(HTTP, port=8080, path_prefix="/v1")),
        (
            "http://api.example.com/v1/,method=HEAD,method=GET",
            replace(HTTP, path_prefix="/v1/", methods=("GET", "HEAD")),
        ),
        ("tls:db.example.com:5432", replace(RULE, host="db.example.com", port=5432, protocol=Protocol.TLS)),
        ("tcp:db.example.com:5432", replace(RULE, host="db.example.com", port=5432, protocol=Protocol.TCP)),
        ("tcp:192.0.2.7:22", replace(RULE, host="192.0.2.7", port=22, protocol=Protocol.TCP)),
        ("tcp:192.0.2.0/24:22", replace(RULE, host="192.0.2.0/24", port=22, protocol=Protocol.TCP)),
        (
            "https://api.example.com,bytes=10MiB,rate=1MiB,connections=8,id=api",
            replace(RULE, id="api", limits=RuleLimits(10 << 20, 1 << 20, 8)),
        ),
        (
            "https://api.example.com,acknowledge=private-addresses,acknowledge=metadata",
            replace(RULE, acknowledged=(Acknowledgement.METADATA, Acknowledgement.PRIVATE_ADDRESSES)),
        ),
    ],
)
def test_allow_as_typed(text: str, rule: NetworkRule) -> None:
    assert allowed(text) == rule
    assert replace(allowed(rule.typed), id=rule.id) == rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("example.org", DENIAL),
        ("*.example.org", replace(DENIAL, host="*.example.org")),
        ("example.org:25", replace(DENIAL, port=25)),
        ("10.0.0.0/8", replace(DENIAL, host="10.0.0.0/8")),
        ("10.0.0.0/8:22", replace(DENIAL, host="10.0.0.0/8", port=22)),
        ("*", replace(DENIAL, host="*")),
        ("*.ru", replace(DENIAL, host="*.ru")),
        ("localhost", replace(DENIAL, host="localhost")),
        ("*:25", replace(DENIAL, host="*", port=25)),
        ("https://example.org", replace(DENIAL, port=443, protocol=Protocol.HTTPS)),
        (
            "http://example.org/admin,method=POST",
            replace(DENIAL, port=80, protocol=Protocol.HTTP, path_prefix="/admin", methods=("POST",)),
        ),
        ("tcp:192.0.2.7:22", replace(DENIAL, host="192.0.2.7", port=22, protocol=Protocol.TCP)),
    ],
)
def test_deny_as_typed(text: str, rule: NetworkRule) -> None:
    assert parse_rules([], [text]) == (rule,)
    assert parse_rules([], [rule.typed]) == (rule,)


def test_ids_are_numbered_beside_those_that_are_taken() -> None:
    typed = ["https://a.example", "https://b.example,id=allow-1", "https://c.example"]
    assert [it.id for it in parse_rules(typed, ["d.example"])] == ["allow-2", "allow-1", "allow-3", "deny-1"]
    assert [it.id for it in parse_rules(typed, ["d.example"], "apt")] == ["apt-1", "allow-1", "apt-2", "apt-3"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not https://HOST"),
        ("api.example.com", "not https://HOST"),
        ("api.example.com:443", "not https://HOST"),
        ("ftp://api.example.com", "not https://HOST"),
        ("udp:api.example.com:53", "not https://HOST"),
        ("HTTPS://api.example.com", "not https://HOST"),
        ("https://", "not a host name"),
        ("https://user:pw@api.example.com", "no user, query or fragment"),
        ("https://api.example.com?x", "no user, query or fragment"),
        ("https://api.example.com/v1", "within TLS isn't seen"),
        ("https://api.example.com:0", "not a port"),
        ("https://api.example.com:", "not a port"),
        ("https://api.example.com:65536", "not a port"),
        ("https://api.example.com:0443", "not a port"),
        ("https:" + "//[::1]", "no IPv6"),
        ("tcp:fd00:ec2::254:80", "no IPv6"),
        ("tcp:api.example.com", "no port"),
        ("tls:api.example.com", "no port"),
        ("tcp:api.example.com:*", "not a port"),
        ("https://192.0.2.7", "no name to check"),
        ("tls:192.0.2.7:443", "no name to check"),
        ("http://192.0.2.7", "no name to check"),
        ("https://2130706433", "another form"),
        ("tls:0x7f.1:443", "another form"),
        ("https://localhost", "the guest itself"),
        ("https://*.localhost", "two labels or more"),
        ("https://a.localhost", "the guest itself"),
        ("https://*.com", "two labels or more"),
        ("https://bücher.example", "xn--bcher-kva.example"),
        ("https://api.example.com,method=GET", "http alone"),
        ("tcp:api.example.com:80,method=GET", "http alone"),
        ("http://api.example.com,method=get", "not a method"),
        ("http://api.example.com,method=CONNECT", "not a method"),
        ("http://api.example.com,method=GET,method=GET", "listed twice"),
        ("http://api.example.com/a/../b", "not a path"),
        ("http://api.example.com/%61", "not a path"),
        ("http://api.example.com/a;b", "not a path"),
        ("http://api.example.com//a", "an empty segment"),
        ("https://api.example.com,bytes=1,bytes=2", "listed twice"),
        ("https://api.example.com,bytes=0", "between 1 and"),
        ("https://api.example.com,bytes=1MB", "number of bytes"),
        ("https://api.example.com,rate=1", "between 1024 and"),
        ("https://api.example.com,connections=0", "between 1 and"),
        ("https://api.example.com,connections=x", "not a number"),
        ("https://api.example.com,acknowledge=all", "is none of all-hosts"),
        ("https://api.example.com,acknowledge=all-hosts,acknowledge=all-hosts", "listed twice"),
        ("https://api.example.com,id=", "not the id"),
        ("https://api.example.com,id=Api", "not the id"),
        ("https://api.example.com,id=" + "a" * 65, "not the id"),
        ("https://api.example.com,", "is none of method="),
        ("https://api.example.com,allow", "is none of method="),
    ],
)
def test_what_is_no_rule_that_allows(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        allowed(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not a host name"),
        ("example.org:", "not a port"),
        ("example.org/x", "not a host name"),
        ("https://example.org,bytes=1", "no limits"),
        ("example.org,acknowledge=metadata", "nothing to acknowledge"),
        ("example.org,method=GET", "http alone"),
    ],
)
def test_what_is_no_denial(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_rules([], [text])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"port": None}, "all ports"),
        ({"protocol": None}, "one port and one protocol"),
        ({"port": None, "protocol": None}, "one port and one protocol"),
        ({"host": "API.example.com"}, "lower case"),
        ({"acknowledged": (Acknowledgement.METADATA, Acknowledgement.ALL_HOSTS)}, "not sorted"),
        ({"protocol": Protocol.HTTP, "methods": tuple(f"M{'A' * it}" for it in range(17))}, "more than 16"),
    ],
)
def test_what_is_no_rule(change: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(RULE, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("8080:80", replace(PORT, address="localhost")),
        ("localhost:8080:80", replace(PORT, address="localhost")),
        ("127.0.0.1:8080:80", PORT),
        ("0.0.0.0:8080:80", replace(PORT, address="0.0.0.0")),
        ("192.0.2.7:1:65535", PublishedPort("192.0.2.7", 1, 65535)),
    ],
)
def test_published_as_typed(text: str, port: PublishedPort) -> None:
    assert PublishedPort.parse(text) == port
    assert PublishedPort.parse(port.typed) == port


@pytest.mark.parametrize(
    "text",
    [
        *("", "80", ":80", "80:", "0:80", "80:0", "65536:80", "a:80", "80:80/udp", "+80:80", "080:80", "80-81:80-81"),
        *(
            "localhost.:80:80",
            "LOCALHOST:80:80",
            "::1:80:80",
            "[::1]:80:80",
            ":80:80",
            "127.1:80:80",
            "224.0.0.1:80:80",
        ),
    ],
)
def test_what_is_no_published_port(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a port|not an IPv4 address"):
        PublishedPort.parse(text)


@pytest.mark.parametrize(
    ("rules", "ports", "told"),
    [
        ((), (), "leave the network out"),
        ((RULE, RULE), (), "the same id: allow-1"),
        ((RULE, replace(RULE, id="raw", protocol=Protocol.TCP)), (), "allow-1 would check nothing"),
        ((), (PORT, PORT), "published twice: 8080"),
        ((), (PORT, replace(PORT, guest=81)), "published twice: 8080"),
        ((), (PORT, replace(PORT, address="0.0.0.0")), "published twice: 8080"),
        ((), (PORT, replace(PORT, address="localhost")), "published twice: 8080"),
        ((), (replace(PORT, address="localhost"), replace(PORT, address="0.0.0.0")), "published twice: 8080"),
        (tuple(replace(RULE, id=f"r{it}") for it in range(257)), (), "more than 256"),
        ((), tuple(replace(PORT, host=it) for it in range(1, 66)), "more than 256 rules, or 64"),
    ],
)
def test_what_is_no_network(rules: tuple[NetworkRule, ...], ports: tuple[PublishedPort, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Network(rules, ports)


def test_a_port_at_two_addresses_and_unchecked_rules_elsewhere_are_fine() -> None:
    Network((), (PORT, replace(PORT, address="127.0.0.2")))
    Network((RULE, replace(RULE, id="raw", port=5432, protocol=Protocol.TCP), replace(DENIAL, port=443)))


@pytest.mark.parametrize(
    "change",
    [
        {"rules": [{**RULE_JSON, "port": 0}]},
        {"rules": [{**RULE_JSON, "host": "A.example"}]},
        {"rules": [{**RULE_JSON, "protocol": "udp"}]},
        {"rules": [{**RULE_JSON, "methods": []}, {"more": 1}]},
        {"rules": [{**RULE_JSON, "limits": {}}]},
        {"rules": [{**RULE_JSON, "limits": {"bytes": True}}]},
        {"rules": [{**RULE_JSON, "acknowledge": ["everything"]}]},
        {"rules": [{**RULE_JSON, "comment": "x"}]},
        {"rules": []},
        {"ports": [{"address": "::1", "host": 80, "guest": 80}]},
        {"whenGatewayEnds": "go-on"},
        {"connectionRate": {"perSecond": 0, "burst": 1}},
        {"connectionRate": {"perSecond": 10_001, "burst": 1}},
        {"connectionRate": {"perSecond": 1, "burst": 0}},
        {"connectionRate": {"perSecond": 1, "burst": 65_536}},
        {"connectionRate": {"perSecond": 1}},
        {"proxy": "http://proxy.example"},
        {"proxy": {"host": "proxy.example"}},
        {"proxy": {"host": "*.example.org", "port": 3128}},
        {"proxy": {"host": "10.0.0.0/8", "port": 3128}},
        {"proxy": {"host": "proxy.example", "port": 0}},
        {
            "proxy": {"host": "proxy.example", "port": 3128},
            "rules": [RULE_JSON, {"id": "d", "action": "deny", "host": "10.0.0.0/8"}],
        },
    ],
)
def test_a_plan_that_says_something_else_is_none(change: dict[str, object]) -> None:
    rate = {"perSecond": 10_000, "burst": 65_535}
    value = {"rules": [RULE_JSON], "ports": [], "whenGatewayEnds": "end-machine", "connectionRate": rate}
    strict.read(value, "network", from_record)
    with pytest.raises(strict.MalformedError):
        strict.read({**value, **change}, "network", from_record)


@pytest.mark.parametrize("backend", [it for it in Backend if it is not Backend.QEMU])
def test_other_backends_have_no_network(backend: Backend) -> None:
    check(None, backend)
    check(Network((RULE,)), Backend.QEMU)
    with pytest.raises(ValueError, match=str(backend)):
        check(Network((RULE,)), backend)


def test_the_log_is_told_of_consent() -> None:
    assert acknowledged(None) == acknowledged(Network((RULE,))) == ()
    two = (
        replace(RULE, acknowledged=(Acknowledgement.METADATA,)),
        replace(RULE, id="b", acknowledged=(Acknowledgement.ALL_HOSTS, Acknowledgement.METADATA)),
    )
    assert acknowledged(Network(two)) == ("acknowledged-all-hosts", "acknowledged-metadata")


def test_a_plan_without_a_rate_is_none() -> None:
    value = {"rules": [RULE_JSON], "ports": [], "whenGatewayEnds": "end-machine"}
    with pytest.raises(strict.MalformedError, match="connectionRate"):
        strict.read(value, "network", from_record)


@pytest.mark.parametrize(
    ("typed", "rate"), [("1", (1, 10)), ("1:1", (1, 1)), ("10000:65535", (10_000, 65_535)), ("9000", (9000, 65_535))]
)
def test_a_rate_as_it_is_typed(typed: str, rate: tuple[int, int]) -> None:
    assert ConnectionRate.parse(typed) == ConnectionRate(*rate)
    assert ConnectionRate.parse(ConnectionRate(*rate).typed) == ConnectionRate(*rate)


@pytest.mark.parametrize("typed", ["", "0", "10001", "1:0", "1:65536", "1:", ":1", "-1", "1.5", "1/2", "٣", "1:2:3"])
def test_what_is_no_rate(typed: str) -> None:
    with pytest.raises(ValueError, match="connections"):
        ConnectionRate.parse(typed)


def test_sizes() -> None:
    assert [parse_size(it) for it in ("0", "1", "1KiB", "3TiB")] == [0, 1, 1024, 3 << 40]
    assert [show_size(it) for it in (1, 1023, 1024, 1536, 10 << 20)] == ["1", "1023", "1KiB", "1536", "10MiB"]
    for text in ("", "-1", "1 MiB", "1mib", "1.5MiB", "MiB", "1e3"):
        with pytest.raises(ValueError, match="bytes"):
            parse_size(text)


LABELS = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=9), min_size=1, max_size=3)
HOSTS = st.one_of(
    st.just("*"),
    LABELS.map(".".join),
    LABELS.map(lambda it: ".".join(["*", *it, "example"])),
    st.ip_addresses(v=4).map(str),
)
LIMITS = st.builds(
    RuleLimits,
    bytes=st.none() | st.integers(1, 2**50),
    bytes_per_second=st.none() | st.integers(1024, 2**50),
    connections=st.none() | st.integers(1, 65535),
)


@st.composite
def rules(draw: st.DrawFn) -> NetworkRule:
    host = draw(HOSTS)
    protocol = Protocol.TCP if host[-1].isdigit() else draw(st.sampled_from(Protocol))
    is_http = protocol is Protocol.HTTP
    return NetworkRule(
        "allow-1",
        Action.ALLOW,
        host,
        draw(st.integers(1, 65535)),
        protocol,
        tuple(sorted(draw(st.sets(st.sampled_from(["GET", "HEAD", "POST"]))))) if is_http else (),
        draw(st.sampled_from(["", "/v1", "/v1/", "/a/b@c"])) if is_http else "",
        draw(LIMITS),
        tuple(sorted(draw(st.sets(st.sampled_from(Acknowledgement))))),
    )


@given(rules())
def test_each_rule_is_typed_and_written_and_read_again(rule: NetworkRule) -> None:
    assert parse_rules([rule.typed], []) == (rule,)
    assert again(Network((rule,))).rules == (rule,)


@given(st.text(max_size=60), st.booleans())
def test_whatever_is_typed_is_a_rule_or_refused(text: str, denied: bool) -> None:
    try:
        (rule,) = parse_rules([] if denied else [text], [text] if denied else [])
    except ValueError:
        return
    assert rule.typed.isascii()
