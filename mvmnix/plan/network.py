"""What a guest may reach over the network, and which of its ports are reached, as a plan says it; pure.

docs/reference/network.md describes it. What the rules say about a name, an address or a connection:
network/policy/decisions.py.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, count
from typing import Final

from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.plan.backend import Backend
from mvmnix.plan.network_endpoints import (
    ANY_ADDRESS,
    DEFAULT_RATE,
    LARGEST_PORT,
    ConnectionRate,
    PublishedPort,
    UpstreamProxy,
    parse_port,
)
from mvmnix.plan.network_hosts import HostKind, host_kind, is_local, parse_host
from mvmnix.words import Words, check_words

#: How many rules and published ports a plan may have.
MOST_RULES: Final = 256
MOST_PUBLISHED: Final = 64
MOST_BYTES: Final = 2**50
MOST_CONNECTIONS: Final = 65_535
#: Of the suffix of a wildcard: all names below a top-level one are nothing that one rule should allow.
_LEAST_LABELS: Final = 2
#: Below this a connection doesn't get through its handshake in time.
LEAST_RATE: Final = 1024
_MOST_METHODS: Final = 16
_LONGEST_PATH: Final = 1024
_ID: Final = r"[a-z0-9][a-z0-9.-]{0,63}"
_METHOD: Final = r"[A-Z][A-Z-]{0,31}"
#: Segments of a path as they are compared (RFC 3986, section 3.3), without parameters, escapes or dot segments.
_PATH: Final = r"(/[A-Za-z0-9._~!$&'()*+=:@-]*)+"
#: Of sizes.
_UNITS: Final = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class Protocol(StrEnum):
    """What is checked of a connection: TLS with its name (`https` is `tls` with a usual port), HTTP/1.1, or nothing."""

    HTTPS = "https"
    HTTP = "http"
    TLS = "tls"
    TCP = "tcp"

    @property
    def usual_port(self) -> int | None:
        """The port where the user names none."""
        return {Protocol.HTTPS: 443, Protocol.HTTP: 80}.get(self)


class Action(StrEnum):
    """What a rule does. A denial beats every rule that allows."""

    ALLOW = "allow"
    DENY = "deny"


class Acknowledgement(StrEnum):
    """What makes a rule one that is taken only where the plan says that it is meant, by this very word."""

    ALL_HOSTS = "all-hosts"
    PUBLIC_SUFFIX = "public-suffix"
    PRIVATE_ADDRESSES = "private-addresses"
    METADATA = "metadata"


class WhenGatewayEnds(StrEnum):
    """What becomes of a machine whose gateway has ended: it ends too, or it goes on and reaches nothing."""

    END = "end-machine"
    CONTINUE = "continue-without-network"


@dataclass(frozen=True, slots=True)
class RuleLimits:
    """What the connections of one rule may use together; None: not bounded by the rule.

    `bytes` of all of them in both directions, for the life of the machine; `bytes_per_second` likewise; `connections`
    at once. Raises ValueError.
    """

    bytes: int | None = None
    bytes_per_second: int | None = None
    connections: int | None = None

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("bytes", self.bytes, 1, MOST_BYTES),
            ("bytes per second", self.bytes_per_second, LEAST_RATE, MOST_BYTES),
            ("connections", self.connections, 1, MOST_CONNECTIONS),
        ):
            if value is not None and not low <= value <= high:
                raise ValueError(f"the {name} of a rule are between {low} and {high}, not {value}")


NO_RULE_LIMITS: Final = RuleLimits()


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """What a guest may reach, or may not, at one host. Raises ValueError for what is not a rule.

    `host` is a name in lower case without a trailing dot, `*.` and a suffix, `*`, an IPv4 address or a range of them;
    in a rule that allows, a suffix has two labels or more. For a denial alone `protocol` may be None, all protocols,
    and then `port` too, all ports.
    `methods` and `path_prefix` are for `http`; without them all are meant. `methods` and `acknowledged` are sorted.
    """

    id: str
    action: Action
    host: str
    port: int | None
    protocol: Protocol | None
    methods: tuple[str, ...] = ()
    path_prefix: str = ""
    limits: RuleLimits = NO_RULE_LIMITS
    acknowledged: tuple[Acknowledgement, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(_ID, self.id):
            raise ValueError(f"not the id of a rule: {self.id[:80]!r}: 1 to 64 of a-z, 0-9, and inner . and -")
        kind = host_kind(self.host)
        if self.port is not None and not 1 <= self.port <= LARGEST_PORT:
            raise ValueError(f"not a port: {self.port}")
        if self.port is None and self.protocol is not None:
            raise ValueError(f"{self.id}: what denies all ports denies all protocols")
        if self.action is Action.ALLOW:
            self._check_allowed(kind)
        elif self.limits != NO_RULE_LIMITS or self.acknowledged:
            raise ValueError(f"{self.id}: a denial has no limits, and nothing to acknowledge")
        if kind.is_literal and self.protocol not in {Protocol.TCP, None}:
            raise ValueError(f"{self.host}: an address has the protocol tcp alone, for there is no name to check")
        self._check_requests()
        if list(self.acknowledged) != sorted(set(self.acknowledged)):
            raise ValueError(f"{self.id}: what is acknowledged is not sorted, or is listed twice")

    def _check_allowed(self, kind: HostKind) -> None:
        if self.port is None or self.protocol is None:
            raise ValueError(f"{self.id}: a rule that allows names one port and one protocol")
        if kind is HostKind.WILDCARD and self.host.count(".") < _LEAST_LABELS:
            raise ValueError(f"a rule that allows names `*.` and a suffix of two labels or more, not {self.host}")
        if kind in {HostKind.NAME, HostKind.WILDCARD} and is_local(self.host):
            raise ValueError(f"{self.host}: in a guest this is the guest itself; publish a port of it instead")

    def _check_requests(self) -> None:
        if (self.methods or self.path_prefix) and self.protocol is not Protocol.HTTP:
            raise ValueError(f"{self.id}: methods and paths are seen with the protocol http alone")
        if list(self.methods) != sorted(set(self.methods)) or len(self.methods) > _MOST_METHODS:
            raise ValueError(f"{self.id}: methods are not sorted, or listed twice, or more than {_MOST_METHODS}")
        if wrong := [it for it in self.methods if not re.fullmatch(_METHOD, it) or it == "CONNECT"]:
            raise ValueError(f"{self.id}: not a method that a rule may name: {wrong[0][:40]!r}")
        if self.path_prefix:
            _check_path(self.path_prefix)

    @property
    def typed(self) -> str:
        """As it is typed behind --allow or --deny, without its id."""
        words = [
            *(f"method={it}" for it in self.methods),
            *(f"bytes={show_size(it)}" for it in (self.limits.bytes,) if it is not None),
            *(f"rate={show_size(it)}" for it in (self.limits.bytes_per_second,) if it is not None),
            *(f"connections={it}" for it in (self.limits.connections,) if it is not None),
            *(f"acknowledge={it}" for it in self.acknowledged),
        ]
        return ",".join((self._typed_target(), *words))

    def _typed_target(self) -> str:
        if self.protocol is None:
            return self.host if self.port is None else f"{self.host}:{self.port}"
        if self.protocol.usual_port is None:
            return f"{self.protocol}:{self.host}:{self.port}"
        port = "" if self.port == self.protocol.usual_port else f":{self.port}"
        return f"{self.protocol}://{self.host}{port}{self.path_prefix}"


@dataclass(frozen=True, slots=True)
class Network:
    """The network of a plan: rules in their order, published ports, what a gateway's end means, a proxy and a rate.

    Raises ValueError for two rules of one id, for a port that is published twice, for a rule of the protocol `tcp`
    beside one that checks more of the same host and port, and for denied ranges where a proxy resolves names.
    """

    rules: tuple[NetworkRule, ...]
    ports: tuple[PublishedPort, ...] = ()
    when_gateway_ends: WhenGatewayEnds = WhenGatewayEnds.END
    proxy: UpstreamProxy | None = None
    connection_rate: ConnectionRate = DEFAULT_RATE

    def __post_init__(self) -> None:
        if not self.rules and not self.ports:
            raise ValueError("neither a rule nor a published port: leave the network out")
        if len(self.rules) > MOST_RULES or len(self.ports) > MOST_PUBLISHED:
            raise ValueError(f"more than {MOST_RULES} rules, or {MOST_PUBLISHED} published ports")
        if twice := _twice(it.id for it in self.rules):
            raise ValueError(f"rules have the same id: {', '.join(twice)}")
        for one, other in combinations(self.ports, 2):
            places = {*one.addresses} & {*other.addresses} or ANY_ADDRESS in {one.address, other.address}
            if one.host == other.host and places:
                raise ValueError(f"a port of the host is published twice: {one.host}")
        self._check_unchecked()
        if self.proxy is not None and (range_ := next((it for it in self.rules if _is_denied_range(it)), None)):
            why = f"{range_.id} denies {range_.host}, which can't be held: names are resolved by the proxy"
            raise ValueError(f"{why} {self.proxy.typed}")

    @property
    def is_closed(self) -> bool:
        """Whether nothing passes: its rules are denials, and no port is published."""
        return not self.ports and all(rule.action is Action.DENY for rule in self.rules)

    def _check_unchecked(self) -> None:
        allowed = [it for it in self.rules if it.action is Action.ALLOW]
        unchecked = {(it.host, it.port): it for it in allowed if it.protocol is Protocol.TCP}
        for it in allowed:
            if it.protocol is not Protocol.TCP and (other := unchecked.get((it.host, it.port))):
                text = (
                    f"{other.id} lets everything through to {it.host} port {it.port}, and {it.id} would check nothing"
                )
                raise ValueError(text)

    @property
    def digest(self) -> Digest:
        """Of the canonical JSON of the plan's field `network`: what the audit log has of it."""
        return Digest.of(strict.canonical(self.shown))

    @property
    def shown(self) -> Mapping[str, object]:
        """As it stands in a plan's predicate."""
        return to_json(self)


def _is_denied_range(rule: NetworkRule) -> bool:
    return rule.action is Action.DENY and host_kind(rule.host).is_literal


def parse_rules(allowed: Words, denied: Words, prefix: str = "") -> tuple[NetworkRule, ...]:
    """The rules that a user typed behind --allow and --deny, in this order. Raises ValueError.

    What has no id gets one: `allow-1`, `deny-1` and so on, or all of them with the same prefix.

    >>> [it.id for it in parse_rules(["https://api.example.com", "tcp:192.0.2.7:22,id=host"], ["example.org"])]
    ['allow-1', 'host', 'deny-1']
    """
    typed = [*((it, Action.ALLOW) for it in check_words(allowed)), *((it, Action.DENY) for it in check_words(denied))]
    named = {word.removeprefix("id=") for text, _ in typed for word in text.split(",") if word.startswith("id=")}
    ids = {it: _unused(it, named) for it in ({prefix} if prefix else Action)}
    return tuple(_parse_rule(text, action, ids[prefix or action]) for text, action in typed)


def _unused(prefix: str, taken: Container[str]) -> Iterator[str]:
    return (it for it in (f"{prefix}-{number}" for number in count(1)) if it not in taken)


def _parse_rule(text: str, action: Action, ids: Iterator[str]) -> NetworkRule:
    target, *words = text.split(",")
    protocol, host, port, path = _parse_target(target, action)
    found: dict[str, list[str]] = {name: [] for name in ("method", "bytes", "rate", "connections", "id", "acknowledge")}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in found:
            raise ValueError(f"{word[:80]!r} is none of {', '.join(f'{it}=' for it in found)}")
        found[name].append(value)
    if twice := [name for name in ("bytes", "rate", "connections", "id") if len(found[name]) > 1]:
        raise ValueError(f"{twice[0]}= is listed twice: {text[:80]!r}")
    if wrong := sorted(set(found["acknowledge"]) - set(Acknowledgement)):
        raise ValueError(f"acknowledge={wrong[0][:40]} is none of {', '.join(Acknowledgement)}")
    one = {name: values[0] for name, values in found.items() if values}
    limits = RuleLimits(
        bytes=parse_size(one["bytes"]) if "bytes" in one else None,
        bytes_per_second=parse_size(one["rate"]) if "rate" in one else None,
        connections=_number(one["connections"]) if "connections" in one else None,
    )
    return NetworkRule(
        id=one["id"] if "id" in one else next(ids),
        action=action,
        host=host,
        port=port,
        protocol=protocol,
        methods=tuple(sorted(found["method"])),
        path_prefix=path,
        limits=limits,
        acknowledged=tuple(sorted(map(Acknowledgement, found["acknowledge"]))),
    )


def _parse_target(text: str, action: Action) -> tuple[Protocol | None, str, int | None, str]:
    """Protocol, host, port and path of what was typed before the first comma."""
    if "[" in text or text.count(":") > 3:
        raise ValueError(f"there is no IPv6 in a guest, so that no rule has such an address: {text[:80]!r}")
    scheme, slashes, rest = text.partition("://")
    if slashes and scheme in {Protocol.HTTPS, Protocol.HTTP}:
        return _parse_url(Protocol(scheme), rest, text)
    scheme, colon, rest = text.partition(":")
    if colon and scheme in {Protocol.TCP, Protocol.TLS}:
        host, colon, port = rest.rpartition(":")
        if not colon:
            raise ValueError(f"no port: write {scheme}:{rest[:80]}:PORT")
        return Protocol(scheme), parse_host(host), parse_port(port, text), ""
    if action is Action.ALLOW:
        raise ValueError(
            f"not https://HOST[:PORT], http://HOST[:PORT][/PATH], tls:HOST:PORT or tcp:HOST:PORT: {text[:80]!r}"
        )
    host, colon, port = text.partition(":")
    return None, parse_host(host), parse_port(port, text) if colon else None, ""


def _parse_url(protocol: Protocol, rest: str, text: str) -> tuple[Protocol, str, int | None, str]:
    authority, slash, path = rest.partition("/")
    host, colon, port = authority.partition(":")
    if "@" in authority or re.search(r"[?#]", rest):
        raise ValueError(f"a rule has no user, query or fragment: {text[:80]!r}")
    # https://HOST/ is how such addresses are copied, and says no more than https://HOST
    prefix = "" if not path else slash + path
    if prefix and protocol is Protocol.HTTPS:
        raise ValueError(f"what is asked for within TLS isn't seen: leave the path out: {text[:80]!r}")
    number = parse_port(port, text) if colon else protocol.usual_port
    return protocol, parse_host(host), number, prefix


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError(f"not a number: {text[:40]!r}")
    return int(text)


def parse_size(text: str) -> int:
    """Bytes, with one of KiB, MiB, GiB, TiB or none of them. Raises ValueError.

    >>> parse_size("10MiB")
    10485760
    """
    match = re.fullmatch(r"([0-9]{1,18})(KiB|MiB|GiB|TiB|)", text)
    if match is None:
        raise ValueError(f"not a number of bytes like 10MiB: {text[:40]!r}")
    return int(match[1]) * _UNITS[match[2]]


def show_size(size: int) -> str:
    """As `parse_size` reads it, with the largest unit that divides it."""
    unit = next(it for it in reversed(_UNITS) if size % _UNITS[it] == 0)
    return f"{size // _UNITS[unit]}{unit}"


def _check_path(path: str) -> None:
    segments = path.split("/")[1:]
    if not re.fullmatch(_PATH, path) or len(path) > _LONGEST_PATH or not {".", ".."}.isdisjoint(segments):
        raise ValueError(f"not a path that a rule may have, without escapes, dot segments, commas: {path[:80]!r}")
    if "" in segments[:-1]:
        raise ValueError(f"an empty segment in a path: {path[:80]!r}")


def _twice(texts: Iterable[str]) -> list[str]:
    return sorted(text for text, number in Counter(texts).items() if number > 1)


def check(network: Network | None, backend: Backend) -> None:
    """Raises ValueError for a backend that gives a guest no network."""
    if network is not None and backend is not Backend.QEMU:
        raise ValueError(f"with the backend {backend} there is no network in this version")


def acknowledged(network: Network | None) -> tuple[str, ...]:
    """What the audit log says of consent: what a plan acknowledges for any of its rules, and that it names a proxy."""
    rules = network.rules if network is not None else ()
    proxied = {"network-proxy"} if network is not None and network.proxy is not None else set[str]()
    return tuple(sorted({f"acknowledged-{it}" for rule in rules for it in rule.acknowledged} | proxied))


def to_json(network: Network) -> Mapping[str, object]:
    """The field `network` of a plan's predicate; the audit log has the digest of this."""
    ports = [it.value for it in network.ports]
    return {
        "rules": [_shown(it) for it in network.rules],
        "ports": ports,
        "whenGatewayEnds": network.when_gateway_ends,
        "connectionRate": network.connection_rate.value,
        **({"proxy": network.proxy.value} if network.proxy is not None else {}),
    }


def from_record(record: strict.Record) -> Network:
    """As `to_json` wrote it. Raises ValueError."""
    return Network(
        rules=record.each("rules", _read_rule, MOST_RULES),
        ports=record.each("ports", PublishedPort.read, MOST_PUBLISHED),
        when_gateway_ends=record.choice("whenGatewayEnds", WhenGatewayEnds),
        proxy=record.child("proxy", UpstreamProxy.read) if record.has("proxy") else None,
        connection_rate=record.child("connectionRate", ConnectionRate.read),
    )


def _shown(rule: NetworkRule) -> Mapping[str, object]:
    """A rule with those of its fields that say something."""
    limits = {
        "bytes": rule.limits.bytes,
        "bytesPerSecond": rule.limits.bytes_per_second,
        "connections": rule.limits.connections,
    }
    optional: dict[str, object] = {
        "port": rule.port,
        "protocol": rule.protocol,
        "methods": list(rule.methods) or None,
        "pathPrefix": rule.path_prefix or None,
        "limits": {name: value for name, value in limits.items() if value is not None} or None,
        "acknowledge": list(rule.acknowledged) or None,
    }
    said = {name: value for name, value in optional.items() if value is not None}
    return {"id": rule.id, "action": rule.action, "host": rule.host, **said}


def _read_rule(record: strict.Record) -> NetworkRule:
    words = "|".join(Acknowledgement)
    meant = record.texts("acknowledge", words, len(Acknowledgement)) if record.has("acknowledge") else ()
    return NetworkRule(
        id=record.text("id", _ID),
        action=record.choice("action", Action),
        host=record.text("host", limit=300),
        port=record.integer("port", 1, LARGEST_PORT) if record.has("port") else None,
        protocol=record.choice("protocol", Protocol) if record.has("protocol") else None,
        methods=record.texts("methods", _METHOD, _MOST_METHODS) if record.has("methods") else (),
        path_prefix=record.text("pathPrefix", _PATH, _LONGEST_PATH) if record.has("pathPrefix") else "",
        limits=record.child("limits", _read_limits) if record.has("limits") else NO_RULE_LIMITS,
        acknowledged=tuple(map(Acknowledgement, meant)),
    )


def _read_limits(record: strict.Record) -> RuleLimits:
    if not record.names():
        raise ValueError("no limits: leave them out")
    return RuleLimits(
        bytes=record.integer("bytes", 1, MOST_BYTES) if record.has("bytes") else None,
        bytes_per_second=(
            record.integer("bytesPerSecond", LEAST_RATE, MOST_BYTES) if record.has("bytesPerSecond") else None
        ),
        connections=record.integer("connections", 1, MOST_CONNECTIONS) if record.has("connections") else None,
    )
