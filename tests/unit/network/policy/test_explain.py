"""What a refusal says, and what becomes of connections that are only asked about."""

import pytest

from mvmnix.network.gateway.dry_run import Attempt, judge
from mvmnix.network.policy.decisions import Denial, Rules, Verdict, refused
from mvmnix.network.policy.explain import EXPLANATIONS, sentence
from mvmnix.plan.network import Network, Protocol, parse_rules

RULES = Rules(
    Network(
        parse_rules(
            ["https://api.example.com", "http://a.example/v1,method=GET", "tcp:db.example.com:5432", "tcp:8.8.8.8:53"],
            ["evil.example"],
        )
    )
)


def test_each_code_has_a_meaning_and_a_hint() -> None:
    assert set(EXPLANATIONS) == set(Denial)
    assert all(it.meaning and it.hint for it in EXPLANATIONS.values())


@pytest.mark.parametrize(
    ("verdict", "host", "port", "text"),
    [
        (
            refused(Denial.NO_RULE),
            "b.example",
            443,
            (
                "b.example:443 is refused [no-rule]: no rule of the plan allows this host; "
                "--allow https://b.example would allow it"
            ),
        ),
        (
            refused(Denial.DENIED_BY_RULE, "deny-1"),
            "evil.example",
            443,
            (
                "evil.example:443 is refused [denied-by-rule]: a rule that denies covers it, and a denial beats every "
                "rule that allows (deny-1); leave that rule out of the next plan"
            ),
        ),
        (
            refused(Denial.NO_RULE),
            "127.0.0.1",
            80,
            "127.0.0.1:80 is refused [no-rule]: no rule of the plan allows this host; ",
        ),
    ],
)
def test_a_sentence(verdict: Verdict, host: str, port: int, text: str) -> None:
    assert sentence(verdict, host, port).startswith(text)


def test_there_is_no_sentence_for_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="nothing was refused"):
        sentence(Verdict(allowed=True, rule="a"), "a.example", 443)


@pytest.mark.parametrize(
    ("attempt", "verdict"),
    [
        (Attempt("api.example.com", 443), Verdict(allowed=True, rule="allow-1")),
        (Attempt("api.example.com", 443, addresses=("8.8.8.8",)), Verdict(allowed=True, rule="allow-1")),
        (
            Attempt("api.example.com", 443, addresses=("8.8.8.8", "10.0.0.1")),
            refused(Denial.ADDRESS_NOT_PUBLIC, "allow-1"),
        ),
        (Attempt("api.example.com", 443, addresses=("fd00:ec2::254",)), refused(Denial.ADDRESS_METADATA, "allow-1")),
        (Attempt("api.example.com", 443, sni="other.example"), refused(Denial.SNI_MISMATCH, "allow-1")),
        (Attempt("api.example.com", 443, sni=""), refused(Denial.NO_SNI, "allow-1")),
        (Attempt("api.example.com", 443, Protocol.HTTP), refused(Denial.PROTOCOL, "allow-1")),
        (Attempt("api.example.com", 443, Protocol.TCP), refused(Denial.PROTOCOL, "allow-1")),
        (Attempt("api.example.com", 80), refused(Denial.PORT_NOT_ALLOWED)),
        (Attempt("b.example", 443), refused(Denial.NO_RULE)),
        (Attempt("evil.example", 443), refused(Denial.DENIED_BY_RULE, "deny-1")),
        (Attempt("a.example", 80, target="/v1/x"), Verdict(allowed=True, rule="allow-2")),
        (Attempt("a.example", 80), refused(Denial.PATH, "allow-2")),
        (Attempt("a.example", 80, method="PUT", target="/v1"), refused(Denial.METHOD, "allow-2")),
        (Attempt("a.example", 80, target="/v1", fields=("Content-Length: 0",)), Verdict(allowed=True, rule="allow-2")),
        (Attempt("a.example", 80, target="/v1", fields=("Content-Length: 9",)), refused(Denial.CONTENT, "allow-2")),
        (Attempt("a.example", 80, target="/v1", fields=("X-Rewrite-URL: /",)), refused(Denial.OVERRIDE, "allow-2")),
        (Attempt("a.example", 80, target="/v1?_method=PUT"), refused(Denial.OVERRIDE, "allow-2")),
        (Attempt("a.example", 80, target="/v1", fields=("Host: b.example",)), refused(Denial.HOST_MISMATCH, "allow-2")),
        (Attempt("a.example", 80, target="/v1", fields=("Expect: x",)), refused(Denial.BAD_HTTP, "allow-2")),
        (Attempt("db.example.com", 5432), Verdict(allowed=True, rule="allow-3")),
        (Attempt("db.example.com", 5432, Protocol.HTTPS, sni=""), Verdict(allowed=True, rule="allow-3")),
        (Attempt("db.example.com", 5432, Protocol.HTTP, method="get"), Verdict(allowed=True, rule="allow-3")),
        (Attempt("db.example.com", 5432, Protocol.TCP), Verdict(allowed=True, rule="allow-3")),
        (Attempt("db.example.com", 5432, Protocol.HTTPS, sni="no name"), Verdict(allowed=True, rule="allow-3")),
        (Attempt("api.example.com", 443, sni="no name"), refused(Denial.BAD_CLIENT_HELLO, "allow-1")),
        (Attempt("api.example.com", 443, sni="API.example.com"), Verdict(allowed=True, rule="allow-1")),
        (Attempt("a.example", 80, method="get", target="/v1"), refused(Denial.PROTOCOL, "allow-2")),
        (Attempt("a.example", 80, Protocol.HTTPS, sni="a.example"), refused(Denial.PROTOCOL, "allow-2")),
        (Attempt("8.8.8.8", 53), Verdict(allowed=True, rule="allow-4")),
        (Attempt("8.8.8.8", 443), refused(Denial.PORT_NOT_ALLOWED)),
        (Attempt("169.254.169.254", 80), refused(Denial.NO_RULE)),
        (Attempt("2852039166", 80), refused(Denial.BAD_NAME)),
    ],
)
def test_what_would_become_of_it(attempt: Attempt, verdict: Verdict) -> None:
    assert judge(RULES, attempt) == verdict


def test_an_address_that_is_none() -> None:
    with pytest.raises(ValueError, match="address"):
        Attempt("a.example", 443, addresses=("nowhere",))


@pytest.mark.parametrize("field", ["", "X", "X: y\r\nHost: b.example", "X: \n", "\xe4: b"])
def test_a_field_that_is_none(field: str) -> None:
    with pytest.raises(ValueError, match="not a field"):
        Attempt("a.example", 80, fields=("X: y", field))
