"""Says what a plan's rules make of a name, an address, a connection and a request; pure, and the one place that does.

The resolver asks it for names, the gateway for connections and requests, the dialer for what the gateway wants dialed
and for each address that a name resolves to, and `mvm net test` for all of these. In this order:

1. A name is compared in lower case, without a trailing dot (plan/network_hosts.py). What is no name is refused.
2. Rules that allow the name are looked for from the exact host to the longest suffix and on to `*`. If the first of
   them that allows the port is of the protocol `tcp`, only such rules are asked, for they look at nothing; else none.
3. What a denial covers is allowed by no rule. A denial covers its own protocol, and `tcp`, which could carry it. One
   that names methods or a path covers requests of the protocol `http`, and all of `tcp`.
4. The name in the handshake or the request is the name that was resolved. Where a rule or a denial names methods or a
   path, no request has content that some servers don't read, or names another method, path or host in a field.
5. Each address that is dialed is public, or of a kind that the rule acknowledges; denied ranges count for it too. One
   that is the host's own counts as private at least: what listens there may count on never being asked from outside.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Final

from mvmnix.formats.addresses import Address, AddressKind, carried_by, kind_of
from mvmnix.network.policy.request_paths import RequestHead, is_beneath, may_be_beneath, segments_of
from mvmnix.plan.network import Acknowledgement, Action, Network, NetworkRule, Protocol, parse_rules
from mvmnix.plan.network_hosts import HostKind, covered_range, covers_name, host_kind, host_name, is_private_name

#: Where allowed names lead in the guest: each to an address of its own (`Rules.synthetic_networks`).
SYNTHETIC: Final = IPv4Network("198.18.0.0/16")


class Denial(StrEnum):
    """Why something was refused: the code of a verdict, of which docs/reference/network.md tells more."""

    BAD_NAME = "bad-name"
    NO_RULE = "no-rule"
    DENIED_BY_RULE = "denied-by-rule"
    PORT_NOT_ALLOWED = "port-not-allowed"
    NOT_TCP = "not-tcp"
    PROTOCOL = "protocol"
    NO_SNI = "no-sni"
    SNI_MISMATCH = "sni-mismatch"
    ECH = "ech"
    BAD_CLIENT_HELLO = "bad-client-hello"
    HOST_MISMATCH = "host-mismatch"
    BAD_HTTP = "bad-http"
    BAD_ANSWER = "bad-answer"
    METHOD = "method"
    PATH = "path"
    CONTENT = "content"
    OVERRIDE = "override"
    ADDRESS_NOT_PUBLIC = "address-not-public"
    ADDRESS_METADATA = "address-metadata"
    RESOLVE_FAILED = "resolve-failed"
    CONNECT_FAILED = "connect-failed"
    PROXY_REFUSED = "proxy-refused"
    PROXY_ADDRESS = "proxy-address"
    LIMIT_BYTES = "limit-bytes"
    LIMIT_CONNECTIONS = "limit-connections"
    LIMIT_LOOKUPS = "limit-lookups"
    LIMIT_CONNECTION_RATE = "limit-connection-rate"
    LIMIT_PEER = "limit-peer"
    TOO_SLOW = "too-slow"
    GATEWAY_BUSY = "gateway-busy"
    GATEWAY_ENDED = "gateway-ended"


#: Those that another rule would lift, which `missing_flag` says.
LIFTABLE: Final = frozenset({Denial.NO_RULE, Denial.PORT_NOT_ALLOWED, Denial.METHOD, Denial.PATH})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say, and by which rule, by its id; "" where no rule says it. `code` is of what is refused."""

    allowed: bool
    rule: str = ""
    code: Denial | None = None

    def __post_init__(self) -> None:
        if self.allowed == (self.code is not None) or (self.allowed and not self.rule):
            raise ValueError("a verdict is of a rule that allows, or has a code")


def refused(code: Denial, rule: str = "") -> Verdict:
    """A verdict that refuses, by a rule if one decided it."""
    return Verdict(allowed=False, rule=rule, code=code)


#: What each acknowledgement lets through besides public addresses. All other kinds are dialed for no rule.
_ACKNOWLEDGED: Final = {
    AddressKind.PRIVATE: Acknowledgement.PRIVATE_ADDRESSES,
    AddressKind.SHARED: Acknowledgement.PRIVATE_ADDRESSES,
    AddressKind.METADATA: Acknowledgement.METADATA,
}
#: No host name has it.
_NO_LABEL: Final = "-"
_TLS: Final = frozenset({Protocol.HTTPS, Protocol.TLS})
#: Methods whose content has no meaning (RFC 9110, 9.3), so that there are servers that leave it unread.
_WITHOUT_CONTENT: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"})
#: Which protocols of a rule that allows are covered by a denial of one.
_COVERED: Final = {
    None: frozenset(Protocol),
    Protocol.TCP: frozenset(Protocol),
    Protocol.TLS: _TLS | {Protocol.TCP},
    Protocol.HTTPS: _TLS | {Protocol.TCP},
    Protocol.HTTP: frozenset({Protocol.HTTP, Protocol.TCP}),
}


class Rules:
    """The rules of a plan's network, ready to be asked; by None, a plan without one, nothing is allowed.

    No verdict depends on another one, or on anything but the plan.
    """

    def __init__(self, network: Network | None) -> None:
        rules = network.rules if network is not None else ()
        self._by_id = {it.id: it for it in rules if it.action is Action.ALLOW}
        self._denials = tuple(it for it in rules if it.action is Action.DENY)
        self._by_host: dict[str, list[NetworkRule]] = {}
        for it in self._by_id.values():
            self._by_host.setdefault(it.host, []).append(it)
        self._literal = tuple(
            (covered, it) for it in self._by_id.values() if (covered := covered_range(it.host)) is not None
        )
        self._denied = tuple((covered_range(it.host), it) for it in self._denials)

    def rule(self, id_: str) -> NetworkRule:
        """A rule that allows, by its id. Raises KeyError."""
        return self._by_id[id_]

    def resolves(self, name: str) -> Verdict:
        """Whether a name may be resolved for the guest: some rule allows a port of it that no denial covers."""
        if (named := _name(name)) is None:
            return refused(Denial.BAD_NAME)
        allowing = list(self._allowing(named))
        for it in allowing:
            if self._denial(it, named, None) is None:
                return Verdict(allowed=True, rule=it.id)
        denial = next(filter(None, (self._denial(it, named, None) for it in allowing)), None)
        denial = denial or self._denial_of_all(named, None, None)
        return refused(Denial.DENIED_BY_RULE, denial.id) if denial else refused(Denial.NO_RULE)

    def ports(self, name: str) -> frozenset[int]:
        """The ports at which a name may be connected to; none for one that isn't resolved."""
        return frozenset() if (named := _name(name)) is None else self._ports(named)

    def _ports(self, name: str) -> frozenset[int]:
        open_ = (it.port for it in self._allowing(name) if self._denial(it, name, None) is None)
        return frozenset(it for it in open_ if it is not None)

    @cached_property
    def synthetic_networks(self) -> Mapping[frozenset[int], IPv4Network]:
        """Networks of one size, in which names have their addresses: by the ports of these names.

        What the rules make of a name is the same for all names of which the same host of a rule is the most specific
        one: there is a name for each, with a label that no rule has.
        """
        hosts = {it.host for it in (*self._by_id.values(), *self._denials) if not host_kind(it.host).is_literal}
        found = {self._ports(host.replace("*", _NO_LABEL)) for host in hosts} - {frozenset[int]()}
        bits = max(0, len(found) - 1).bit_length()
        networks = SYNTHETIC.subnets(prefixlen_diff=bits)
        return dict(zip(sorted(found, key=sorted), networks, strict=False))

    @cached_property
    def exact_names(self) -> Mapping[str, frozenset[int]]:
        """Names that rules have in full, in alphabetical order, and the ports at which they may be connected to."""
        hosts = sorted(host for host in self._by_host if "*" not in host and not host_kind(host).is_literal)
        return {host: ports for host in hosts if (ports := self._ports(host))}

    def names(self, name: str, port: int) -> tuple[NetworkRule, ...] | Verdict:
        """The rules of which one may allow a connection to a name's port, the most specific host first, or a refusal.

        All of them are of the protocol `tcp`, and the connection is allowed by the first, or none is: then its first
        bytes decide, with `tls` or `http`.
        """
        if (named := _name(name)) is None:
            return refused(Denial.BAD_NAME)
        allowing = list(self._allowing(named))
        here = [it for it in allowing if it.port == port]
        open_ = [it for it in here if self._denial(it, named, None) is None]
        if open_:
            unchecked = open_[0].protocol is Protocol.TCP
            return tuple(it for it in open_ if (it.protocol is Protocol.TCP) == unchecked)
        denial = next(filter(None, (self._denial(it, named, None) for it in here)), None)
        if denial := denial or self._denial_of_all(named, None, port):
            return refused(Denial.DENIED_BY_RULE, denial.id)
        return refused(Denial.PORT_NOT_ALLOWED if allowing else Denial.NO_RULE)

    def _match(self, name: str, port: int) -> tuple[NetworkRule, ...] | Verdict:
        """As `names`, where rules look at the first bytes; of `tcp`, which doesn't, the verdict."""
        found = self.names(name, port)
        if isinstance(found, Verdict) or found[0].protocol is not Protocol.TCP:
            return found
        return Verdict(allowed=True, rule=found[0].id)

    def unknown(self, name: str, port: int) -> Verdict:
        """What is said of a connection to a name's port that speaks neither TLS nor HTTP: `tcp` alone allows it."""
        found = self._match(name, port)
        return found if isinstance(found, Verdict) else refused(Denial.PROTOCOL, found[0].id)

    def tls(self, name: str, port: int, sni: str | None) -> Verdict:
        """What is said of a ClientHello to a name's port; `sni` is the name in it, None where it has none."""
        found = self._match(name, port)
        if isinstance(found, Verdict):
            return found
        fitting = [it for it in found if it.protocol in _TLS]
        if not fitting:
            return refused(Denial.PROTOCOL, found[0].id)
        if sni is None:
            return refused(Denial.NO_SNI, fitting[0].id)
        if _name(sni) != _name(name):
            return refused(Denial.SNI_MISMATCH, fitting[0].id)
        return Verdict(allowed=True, rule=fitting[0].id)

    def http(self, name: str, port: int, request: RequestHead) -> Verdict:
        """What is said of a request to a name's port, whose Host the caller has compared with both."""
        found = self._match(name, port)
        if isinstance(found, Verdict):
            return found
        fitting = [it for it in found if it.protocol is Protocol.HTTP]
        if not fitting:
            return refused(Denial.PROTOCOL, found[0].id)
        verdict = self._request(fitting, str(_name(name)), port, request.method, request.target)
        has_content = request.has_content and request.method.upper() in _WITHOUT_CONTENT
        naming = self._naming(fitting, str(_name(name)), port)
        if not verdict.allowed or naming is None or not (has_content or request.has_override):
            return verdict
        return refused(Denial.OVERRIDE if request.has_override else Denial.CONTENT, naming.id)

    def names_requests(self, name: str, port: int) -> bool:
        """Whether a rule or a denial names methods or a path at a name's port."""
        found = self._match(name, port)
        return not isinstance(found, Verdict) and self._naming(found, str(_name(name)), port) is not None

    def address(self, address: str | IPv4Address, port: int) -> Verdict:
        """Whether a connection to an address that no name led to is allowed: by a rule with such a host, and `tcp`."""
        try:
            literal = IPv4Address(address)
        except ValueError:
            return refused(Denial.BAD_NAME)
        covering = [it for covered, it in self._literal if literal in covered]
        here = [it for it in covering if it.port == port]
        verdicts = [self.reaches(it.id, literal, port) for it in here]
        if verdicts:
            return next((it for it in verdicts if it.allowed), verdicts[0])
        if denial := self._denial_of_all(None, literal, port):
            return refused(Denial.DENIED_BY_RULE, denial.id)
        return refused(Denial.PORT_NOT_ALLOWED if covering else Denial.NO_RULE)

    def refused_packet(self, address: IPv4Address, name: str | None, port: int, *, tcp: bool) -> Verdict:
        """Why the packet rules refused what a guest sent to an address, and to the name that led to it, if any."""
        if not tcp:
            return refused(Denial.NOT_TCP)
        verdict = self.address(address, port) if name is None else self.names(name, port)
        return verdict if isinstance(verdict, Verdict) and not verdict.allowed else refused(Denial.NO_RULE)

    def admits(self, rule: str, host: str, port: int) -> Verdict:
        """Whether a rule, by its id, lets a name or an address be dialed at a port: what the dialer asks first."""
        if (it := self._by_id.get(rule)) is None:
            return refused(Denial.NO_RULE)
        if host_kind(it.host).is_literal:
            return self._admits_literal(it, host, port)
        return self._admits_named(it, host, port)

    def reaches(self, rule: str, address: str | Address, port: int, *, is_own: bool = False) -> Verdict:
        """Whether a rule, by its id, lets an address be dialed: the last question, asked for each address of a name.

        A text is an address as getaddrinfo(3) gives it; `is_own` says that it is the host's. Raises ValueError for what
        is none.
        """
        it = self._by_id.get(rule)
        if it is None:
            return refused(Denial.NO_RULE)
        literal = ip_address(address.partition("%")[0]) if isinstance(address, str) else address
        if denial := self._denial(it, None, literal, port):
            return refused(Denial.DENIED_BY_RULE, denial.id)
        kind = kind_of(literal)
        if is_own and kind is AddressKind.PUBLIC:
            kind = AddressKind.PRIVATE
        if kind is AddressKind.PUBLIC or _ACKNOWLEDGED.get(kind) in it.acknowledged:
            return Verdict(allowed=True, rule=rule)
        metadata = kind is AddressKind.METADATA
        return refused(Denial.ADDRESS_METADATA if metadata else Denial.ADDRESS_NOT_PUBLIC, rule)

    def _admits_named(self, rule: NetworkRule, host: str, port: int) -> Verdict:
        if (name := _name(host)) is None:
            return refused(Denial.BAD_NAME, rule.id)
        if not covers_name(rule.host, name):
            return refused(Denial.NO_RULE)
        if rule.port != port:
            return refused(Denial.PORT_NOT_ALLOWED, rule.id)
        if denial := self._denial(rule, name, None):
            return refused(Denial.DENIED_BY_RULE, denial.id)
        return Verdict(allowed=True, rule=rule.id)

    def _admits_literal(self, rule: NetworkRule, host: str, port: int) -> Verdict:
        try:
            literal = IPv4Address(host)
        except ValueError:
            return refused(Denial.BAD_NAME, rule.id)
        if literal not in IPv4Network(rule.host):
            return refused(Denial.NO_RULE)
        if rule.port != port:
            return refused(Denial.PORT_NOT_ALLOWED, rule.id)
        return self.reaches(rule.id, literal, port)

    def _allowing(self, name: str) -> Iterator[NetworkRule]:
        """The rules that allow some port of a name: 2."""
        labels = name.split(".")
        suffixes = ("*." + ".".join(labels[index:]) for index in range(1, len(labels) - 1))
        for host in (name, *suffixes, "*"):
            yield from self._by_host.get(host, ())

    def _denial(
        self, rule: NetworkRule, name: str | None, address: Address | None, port: int | None = None
    ) -> NetworkRule | None:
        """The first denial that covers what a rule allows, for a name or an address: 3."""
        wanted = rule.port if port is None else port
        for covered, it in self._denied:
            requests = bool(it.methods or it.path_prefix) and rule.protocol is not Protocol.TCP
            fits = it.port in {None, wanted} and rule.protocol in _COVERED[it.protocol] and not requests
            if fits and _covers(it, covered, name, address):
                return it
        return None

    def _denial_of_all(self, name: str | None, address: Address | None, port: int | None) -> NetworkRule | None:
        """The first denial of a name or an address with all that is asked of it, whether some rule allows it or not."""
        for covered, it in self._denied:
            if it.protocol is None and (it.port is None or it.port == port) and _covers(it, covered, name, address):
                return it
        return None

    def _denials_of_requests(self, name: str, port: int) -> list[NetworkRule]:
        return [
            it
            for it in self._denials
            if it.protocol is Protocol.HTTP and it.port == port and _covers(it, None, name, None)
        ]

    def _naming(self, rules: Sequence[NetworkRule], name: str, port: int) -> NetworkRule | None:
        """The first denial or rule that names methods or a path: 4."""
        asked = (*self._denials_of_requests(name, port), *rules)
        return next((it for it in asked if it.methods or it.path_prefix), None)

    def _request(self, rules: Sequence[NetworkRule], name: str, port: int, method: str, target: str) -> Verdict:
        denials = self._denials_of_requests(name, port)
        segments = segments_of(target)
        if segments is None and (unclear := next((it for it in (*denials, *rules) if it.path_prefix), None)):
            return refused(Denial.PATH, unclear.id)
        for it in denials:
            is_path = not it.path_prefix or (segments is not None and may_be_beneath(segments, it.path_prefix))
            if is_path and (not it.methods or method.upper() in it.methods):  # some servers take any case
                return refused(Denial.DENIED_BY_RULE, it.id)
        there = [it for it in rules if not it.path_prefix or (segments and is_beneath(segments, it.path_prefix))]
        for it in there:
            if method in (it.methods or (method,)):
                return Verdict(allowed=True, rule=it.id)
        return refused(Denial.METHOD, there[0].id) if there else refused(Denial.PATH, rules[0].id)


def _covers(rule: NetworkRule, covered: IPv4Network | None, name: str | None, address: Address | None) -> bool:
    """Whether the host of a denial stands for a name, or for an address; `*` does for both."""
    if name is not None:
        return covers_name(rule.host, name)
    if address is None:
        return False
    if covered is None:
        return host_kind(rule.host) is HostKind.ALL
    return any(it in covered for it in _versions(address))


def _versions(address: Address) -> Iterable[IPv4Address]:
    """The IPv4 address that it is, or those that it stands for."""
    return carried_by(address) if isinstance(address, IPv6Address) else (address,)


def _name(text: str) -> str | None:
    """A name as names are compared; None for what is none: 1."""
    try:
        return host_name(text)
    except ValueError:
        return None


def missing_flag(host: str, port: int, protocol: Protocol | None = None, *, method: str = "") -> str:
    """The option that would allow it in a new plan; "" where no option would.

    It is for a person to type, and a guest may have chosen all of it but the port: what isn't a rule, which has nothing
    that means anything to a shell, is no option.

    >>> missing_flag("api.example.com", 443), missing_flag("10.0.0.7", 22)
    ('--allow https://api.example.com', '--allow tcp:10.0.0.7:22,acknowledge=private-addresses')
    """
    try:
        kind = kind_of(IPv4Address(host))
    except ValueError:
        return _missing_name(host, port, protocol, method)
    if kind is AddressKind.PUBLIC:
        return f"--allow tcp:{host}:{port}"
    word = _ACKNOWLEDGED.get(kind)
    return f"--allow tcp:{host}:{port},acknowledge={word}" if word else ""


def _missing_name(host: str, port: int, protocol: Protocol | None, method: str) -> str:
    if (name := _name(host)) is None:
        return ""
    wanted = protocol or {443: Protocol.HTTPS, 80: Protocol.HTTP}.get(port, Protocol.TCP)
    at = "" if wanted.usual_port == port else f":{port}"
    target = f"{wanted}://{name}{at}" if wanted.usual_port is not None else f"{wanted}:{name}{at}"
    words = [f"method={method}"] if method and wanted is Protocol.HTTP else []
    words += [f"acknowledge={Acknowledgement.PRIVATE_ADDRESSES}"] if is_private_name(name) else []
    found = ",".join([target, *words])
    try:
        parse_rules([found], [])
    except ValueError:  # not a method, or the guest's own name
        return ""
    return f"--allow {found}"
