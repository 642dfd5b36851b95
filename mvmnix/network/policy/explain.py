"""What each verdict's code means and what to do about it: for `mvm net explain`, and for a refusal's sentence; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mvmnix.network.policy.decisions import LIFTABLE, Denial, Verdict, missing_flag
from mvmnix.plan.network import Protocol

_PLAN_AGAIN: Final = "make a plan with such a rule (`mvm net show` prints those that it has), and sign it"
_CLIENT: Final = "look at the program in the guest"
_SERVER: Final = "look at the server, or at its name, from the host"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A code in words: what was seen, and what to do next."""

    meaning: str
    hint: str


#: Each code of a denial, as `mvm net explain` prints it.
EXPLANATIONS: Final[Mapping[Denial, Explanation]] = {
    Denial.BAD_NAME: Explanation("what was asked for is not a host name, or an address of unusual form", _CLIENT),
    Denial.NO_RULE: Explanation("no rule of the plan allows this host", _PLAN_AGAIN),
    Denial.DENIED_BY_RULE: Explanation(
        "a rule that denies covers it, and a denial beats every rule that allows",
        "leave that rule out of the next plan",
    ),
    Denial.PORT_NOT_ALLOWED: Explanation("rules allow this host, but not this port of it", _PLAN_AGAIN),
    Denial.NOT_TCP: Explanation(
        "only TCP is carried, and DNS to the guest's own resolver",
        "have the program use TCP: QUIC and ping are not carried",
    ),
    Denial.PROTOCOL: Explanation(
        "the connection speaks another protocol than the rule names, or none that is known",
        "name the protocol that it speaks: https, http, tls, or tcp, which looks at nothing",
    ),
    Denial.NO_SNI: Explanation(
        "the TLS handshake names no server, so that there is nothing to check",
        "have the client send the server's name (SNI), or allow the host with tcp",
    ),
    Denial.SNI_MISMATCH: Explanation(
        "the TLS handshake names another server than the name that was resolved", "have the client ask for that name"
    ),
    Denial.ECH: Explanation(
        "the TLS handshake encrypts the server's name (ECH)", "turn ECH off in the client, or allow the host with tcp"
    ),
    Denial.BAD_CLIENT_HELLO: Explanation("what should be a TLS handshake is none, or one with errors", _CLIENT),
    Denial.HOST_MISMATCH: Explanation(
        "the request names another host or port than the connection's", "have the client connect to the host of its URL"
    ),
    Denial.BAD_HTTP: Explanation(
        "what should be an HTTP/1.1 request is none, or one of more than one meaning", _CLIENT
    ),
    Denial.BAD_ANSWER: Explanation(
        "the server's answer can't be followed, or nothing asked for it; the connection was open", _SERVER
    ),
    Denial.METHOD: Explanation("rules allow this path, but not this method", _PLAN_AGAIN),
    Denial.PATH: Explanation(
        "rules allow other paths of this host alone, or the path has more than one meaning", _PLAN_AGAIN
    ),
    Denial.CONTENT: Explanation(
        "a GET, HEAD, DELETE, OPTIONS or TRACE with content, which some servers take for another request, where rules "
        "name methods or paths",
        "have the client send no Content-Length and no Transfer-Encoding with it",
    ),
    Denial.OVERRIDE: Explanation(
        "a field or parameter that some servers take another method, path or host from, where rules name methods or "
        "paths",
        "have the client leave it out, and ask for that method and path in the first line",
    ),
    Denial.ADDRESS_NOT_PUBLIC: Explanation(
        "the name leads to an address that is not public or is this host's own, or the address is such a one",
        "if it is your own network's, add acknowledge=private-addresses to the rule; loopback, link-local and reserved "
        "addresses are never reached",
    ),
    Denial.ADDRESS_METADATA: Explanation(
        "the address is a cloud's metadata service, which gives credentials to those who ask",
        "leave it; a rule with acknowledge=metadata allows it",
    ),
    Denial.RESOLVE_FAILED: Explanation("the host's resolver has no address of this name", _SERVER),
    Denial.CONNECT_FAILED: Explanation("the server refused the connection, or did not answer", _SERVER),
    Denial.PROXY_REFUSED: Explanation(
        "the proxy that the plan names did not connect to it", "look at what that proxy allows, and at the host's name"
    ),
    Denial.PROXY_ADDRESS: Explanation(
        "the plan names a proxy whose name leads to an address that is not public or is this host's own, or one at a "
        "link-local, reserved or metadata address",
        "for a proxy on this host or in its networks, make a plan with its address in place of its name: "
        "--network-proxy ADDRESS:PORT",
    ),
    Denial.LIMIT_BYTES: Explanation("the rule's bytes are used up", "give the rule more with bytes="),
    Denial.LIMIT_CONNECTIONS: Explanation(
        "as many connections are open as the rule allows", "close some, or give the rule more with connections="
    ),
    Denial.LIMIT_LOOKUPS: Explanation("the guest asked for more names than a guest may", _CLIENT),
    Denial.LIMIT_CONNECTION_RATE: Explanation(
        "the guest made new connections faster than its plan allows",
        "keep connections open, or make a plan with a higher --connection-rate",
    ),
    Denial.LIMIT_PEER: Explanation(
        "one address has as many connections to published ports as an address may", "close some of them"
    ),
    Denial.TOO_SLOW: Explanation("the client did not say in time what it wants", _CLIENT),
    Denial.GATEWAY_BUSY: Explanation("the gateway has as many connections as it takes at once", "open fewer at once"),
    Denial.GATEWAY_ENDED: Explanation(
        "the gateway has ended, and nothing passes without it", "start the machine again"
    ),
}


def sentence(verdict: Verdict, host: str, port: int, protocol: Protocol | None = None, method: str = "") -> str:
    """One line for a refusal: what was asked, why not, and the option that would allow it, if any would.

    Host and method are the guest's own words: to be escaped for where they are shown. Raises ValueError for a verdict
    that allows.
    """
    if verdict.code is None:
        raise ValueError("nothing was refused")
    rule = f" ({verdict.rule})" if verdict.rule else ""
    said = f"{host}:{port} is refused [{verdict.code}]: {EXPLANATIONS[verdict.code].meaning}{rule}"
    flag = missing_flag(host, port, protocol, method=method) if verdict.code in LIFTABLE else ""
    return f"{said}; {flag} would allow it" if flag else f"{said}; {EXPLANATIONS[verdict.code].hint}"
