"""Rules that are taken only with a word in the plan."""

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.network.policy.public_suffixes import refuse_public_suffixes
from mvmnix.network.policy.risk_checks import ACKNOWLEDGEMENT_MEANINGS, refuse_unacknowledged
from mvmnix.plan.network import Acknowledgement, Network, parse_rules


def network(*allowed: str, deny: tuple[str, ...] = ()) -> Network:
    return Network(parse_rules(allowed, deny))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("https://*", ("all-hosts",)),
        ("tcp:*:22", ("all-hosts",)),
        ("tcp:0.0.0.0/0:22", ("all-hosts", "metadata", "private-addresses")),
        ("tcp:0.0.0.0/1:22", ("all-hosts", "metadata", "private-addresses")),
        ("tcp:64.0.0.0/7:22", ("all-hosts",)),
        ("tcp:10.0.0.0/8:22", ("private-addresses",)),
        ("tcp:10.1.2.3:22", ("private-addresses",)),
        ("tcp:100.64.0.0/10:22", ("metadata", "private-addresses")),
        ("tcp:169.254.169.254:80", ("metadata",)),
        ("tcp:169.254.0.0/16:80", ("metadata",)),
        ("tcp:168.63.129.16:80", ("metadata",)),
        ("tcp:192.168.0.0/15:22", ("private-addresses",)),
        ("http://pypi:3141", ("private-addresses",)),
        ("tls:index.corp:443", ("private-addresses",)),
        ("tls:*.example.internal:443", ("private-addresses",)),
        ("tls:nas.home.arpa:443", ("private-addresses",)),
    ],
)
def test_what_takes_a_word(rule: str, words: tuple[str, ...]) -> None:
    with pytest.raises(RefusedError) as caught:
        refuse_unacknowledged(network(rule))
    reasons = caught.value.reasons
    assert {it.code for it in reasons} == {ReasonCode.NETWORK_FORBIDDEN}
    assert sorted(it.why.rpartition("[")[2].rstrip("]") for it in reasons) == sorted(words)
    for it, word in zip(sorted(reasons, key=lambda it: it.why.rpartition("[")[2]), sorted(words), strict=True):
        assert it.hint.endswith(f"--allow {rule},acknowledge={word}")
    refuse_unacknowledged(network(rule + "".join(f",acknowledge={it}" for it in words)))


@pytest.mark.parametrize(
    "rule", ["tcp:127.0.0.1:22", "tcp:0.0.0.0:22", "tcp:224.0.0.0/4:22", "tcp:198.18.0.0/15:22", "tcp:240.0.0.1:1"]
)
def test_what_no_word_helps(rule: str) -> None:
    for words in ("", "".join(f",acknowledge={it}" for it in Acknowledgement)):
        with pytest.raises(RefusedError, match="none of them is dialed") as caught:
            refuse_unacknowledged(network(rule + words))
        assert caught.value.codes == (ReasonCode.NETWORK_FORBIDDEN,)


def test_all_are_named_at_once() -> None:
    with pytest.raises(RefusedError) as caught:
        refuse_unacknowledged(network("https://*", "tcp:10.0.0.0/8:22", "https://a.example"))
    assert [it.what for it in caught.value.reasons] == ["the rule allow-1", "the rule allow-2"]


def test_what_takes_none() -> None:
    wide = ("*", "10.0.0.0/8", "169.254.169.254", "127.0.0.0/8", "*.co.uk")
    plain = network("https://a.example", "https://*.example.com", "tcp:8.8.8.0/24:22", deny=wide)
    refuse_unacknowledged(plain)
    refuse_public_suffixes(plain)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("tls:*.co.uk:443", "below co.uk, a public suffix"),
        ("tls:*.github.io:443", "below github.io, a public suffix"),
        ("tls:*.foo.ck:443", "below foo.ck, a public suffix"),
        ("tls:*.xn--55qx5d.cn:443", "below xn--55qx5d.cn, a public suffix"),
        ("tls:*.amazonaws.com:443", "public suffixes that it allows: "),
    ],
)
def test_suffixes_under_which_strangers_register(rule: str, why: str) -> None:
    with pytest.raises(RefusedError) as caught:
        refuse_public_suffixes(network(rule))
    (reason,) = caught.value.reasons
    assert why in reason.why
    assert reason.why.endswith("[public-suffix]")
    assert f"such as NAME.{rule.split(':')[1].removeprefix('*.')}; if" in reason.hint
    refuse_public_suffixes(network(f"{rule},acknowledge=public-suffix"))


@pytest.mark.parametrize(
    "rule", ["*.example.com", "*.example.co.uk", "*.me.github.io", "*.dev.corp.internal", "*.www.ck"]
)
def test_suffixes_that_have_one_owner(rule: str) -> None:
    refuse_public_suffixes(network(f"tls:{rule}:443"))


def test_a_name_of_its_own_is_no_suffix() -> None:
    refuse_public_suffixes(network("tls:github.io:443", "tls:s3.amazonaws.com:443"))


def test_each_word_has_a_meaning() -> None:
    assert set(ACKNOWLEDGEMENT_MEANINGS) == set(Acknowledgement)
