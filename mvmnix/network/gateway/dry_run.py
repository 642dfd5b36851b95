"""Answers what would become of a connection, by the rules that decide it in earnest; starts nothing; pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from mvmnix.network.gateway.client_hello import HelloRefusedError, read_name
from mvmnix.network.gateway.http_heads import HeadError, HttpFault, read_request
from mvmnix.network.gateway.opening import speaks_http
from mvmnix.network.policy.decisions import Denial, Rules, Verdict, refused
from mvmnix.network.policy.request_paths import RequestHead
from mvmnix.plan.network import NetworkRule, Protocol
from mvmnix.plan.network_hosts import is_address


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a guest would do: connect to a name or an address, and speak a protocol, or any that the rules allow.

    `sni` is the name in a TLS handshake (None: the host), "" for a handshake without one; `method`, `target` and
    `fields` (`Name: value`) are of a request. `addresses` are those that the name would resolve to, if this is known.
    Raises ValueError.
    """

    host: str
    port: int
    protocol: Protocol | None = None
    sni: str | None = None
    method: str = "GET"
    target: str = "/"
    addresses: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for address in self.addresses:
            ip_address(address)
        if wrong := [it for it in self.fields if ":" not in it or not it.isascii() or not it.isprintable()]:
            raise ValueError(f"not a field of a request, NAME: VALUE: {wrong[0][:80]!r}")


def judge(rules: Rules, attempt: Attempt) -> Verdict:
    """The first refusal that it would meet, or the rule that allows it."""
    steps = _literal(rules, attempt) if is_address(attempt.host) else _named(rules, attempt)
    verdict = next(steps)
    while verdict.allowed and (later := next(steps, None)) is not None:
        verdict = later
    return verdict


def _literal(rules: Rules, attempt: Attempt) -> Iterator[Verdict]:
    yield rules.address(attempt.host, attempt.port)


def _named(rules: Rules, attempt: Attempt) -> Iterator[Verdict]:
    yield rules.resolves(attempt.host)
    found = rules.names(attempt.host, attempt.port)
    if isinstance(found, Verdict):
        yield found
        return
    protocol = attempt.protocol or found[0].protocol
    if protocol is Protocol.HTTP:
        verdict = _request(rules, found, attempt)
    elif protocol is Protocol.TCP and found[0].protocol is not Protocol.TCP:
        verdict = rules.unknown(attempt.host, attempt.port)
    elif found[0].protocol is not Protocol.TCP and attempt.sni and not _is_name(attempt.sni):
        yield refused(Denial.BAD_CLIENT_HELLO, found[0].id)
        return
    else:
        sni = attempt.host if attempt.sni is None else attempt.sni or None
        verdict = rules.tls(attempt.host, attempt.port, sni)
    yield verdict
    yield rules.admits(verdict.rule, attempt.host, attempt.port)
    for address in attempt.addresses:
        yield rules.reaches(verdict.rule, address, attempt.port)


def _request(rules: Rules, found: Sequence[NetworkRule], attempt: Attempt) -> Verdict:
    """Of the head that such a request has: what the gateway has against it itself, and then the rules."""
    first = f"{attempt.method} {attempt.target} HTTP/1.1"
    head = "\r\n".join((first, f"Host: {attempt.host}:{attempt.port}", *attempt.fields, "", "")).encode()
    request = RequestHead(attempt.method, attempt.target, "1.1", upgrade=False)
    if found[0].protocol is not Protocol.TCP:
        if not speaks_http(head):
            return refused(Denial.PROTOCOL, found[0].id)
        try:
            request, _ = read_request(head, attempt.host, attempt.port)
        except HeadError as error:
            return refused(Denial.HOST_MISMATCH if error.fault is HttpFault.HOST else Denial.BAD_HTTP, found[0].id)
    return rules.http(attempt.host, attempt.port, request)


def _is_name(sni: str) -> bool:
    try:
        read_name(sni.encode())
    except HelloRefusedError:
        return False
    return True
