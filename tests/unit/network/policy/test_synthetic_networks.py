"""Networks of synthetic addresses: names of the same ports have one, whatever the rules are."""

from ipaddress import IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from mvmnix.network.policy.decisions import Rules, Verdict
from mvmnix.plan.network import Network, parse_rules


def rules(*allowed: str, deny: tuple[str, ...] = ()) -> Rules:
    return Rules(Network(parse_rules(allowed, deny)))


def test_names_have_networks_by_their_ports() -> None:
    it = rules("https://*.example.com", "tcp:a.example.com:22", "http://*.b.example.com", deny=("*.c.example.com:443",))
    networks = {
        frozenset(ports): IPv4Network(network)
        for ports, network in (((22, 443), "198.18.0.0/18"), ((80, 443), "198.18.64.0/18"), ((443,), "198.18.128.0/18"))
    }
    assert it.synthetic_networks == networks
    for name, ports in {
        "a.example.com": {22, 443},
        "x.a.example.com": {443},
        "x.y.b.example.com": {80, 443},
        "b.example.com": {443},
        "x.c.example.com": set[int](),
        "example.com": set[int](),
        "?": set[int](),
    }.items():
        assert it.ports(name) == ports
    assert rules("tcp:8.8.8.8:22").synthetic_networks == {}


_LABEL = st.sampled_from(["a", "b", "com", "x"])
_NAMES = st.lists(_LABEL, min_size=1, max_size=4).map(".".join)
_WILD = st.lists(_LABEL, min_size=2, max_size=3).map(lambda it: "*." + ".".join(it)) | st.just("*")
_TYPED = st.tuples(_NAMES | _WILD, st.sampled_from([22, 80, 443]))


@given(
    st.lists(_TYPED.map(lambda it: f"tcp:{it[0]}:{it[1]}"), min_size=1, max_size=5),
    st.lists(_NAMES | _WILD | _TYPED.map(lambda it: f"{it[0]}:{it[1]}"), max_size=3),
    _NAMES,
)
def test_each_name_has_the_network_of_its_ports(allow: list[str], deny: list[str], name: str) -> None:
    it = rules(*allow, deny=tuple(deny))
    ports = it.ports(name)
    assert (ports in it.synthetic_networks) == it.resolves(name).allowed
    assert ports == {port for port in (22, 80, 443) if not isinstance(it.names(name, port), Verdict)}
    assert sum(network.num_addresses for network in it.synthetic_networks.values()) <= 65_536
