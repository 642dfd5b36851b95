"""Answers what would become of a connection, by the rules that decide it in earnest; starts nothing; pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from mvmnix.launch.network.client_hello import HelloRefusedError, read_name
from mvmnix.launch.network.decisions import Denial, Rules, Verdict, refused
from mvmnix.launch.network.http_heads import HeadError, HttpFault, read_request
from mvmnix.launch.network.opening import speaks_http
from mvmnix.launch.plan import Protocol, is_address


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a guest would do: connect to a name or an address, and speak a protocol, or any that the rules allow.

    `sni` is the name in a TLS handshake (None: the host), "" for a handshake without one; `method` and `target` are of
    a request. `addresses` are those that the name would resolve to, if this is known.
    """

    host: str
    port: int
    protocol: Protocol | None = None
    sni: str | None = None
    method: str = "GET"
    target: str = "/"
    addresses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for address in self.addresses:
            ip_address(address)


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
        if found[0].protocol is not Protocol.TCP and (fault := _fault_of_request(attempt)) is not None:
            yield refused(fault, found[0].id)
            return
        verdict = rules.http(attempt.host, attempt.port, attempt.host, attempt.method, attempt.target)
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


def _fault_of_request(attempt: Attempt) -> Denial | None:
    """What the gateway would have against the head itself, before it asks the rules."""
    head = f"{attempt.method} {attempt.target} HTTP/1.1\r\nHost: {attempt.host}:{attempt.port}\r\n\r\n".encode()
    if not speaks_http(head):
        return Denial.PROTOCOL
    try:
        read_request(head, attempt.host, attempt.port)
    except HeadError as error:
        return Denial.HOST_MISMATCH if error.fault is HttpFault.HOST else Denial.BAD_HTTP
    return None


def _is_name(sni: str) -> bool:
    try:
        read_name(sni.encode())
    except HelloRefusedError:
        return False
    return True
