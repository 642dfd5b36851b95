"""Which addresses may be downloaded from, and which peers a name may lead to."""

import re

import pytest

from mvmnix import config
from mvmnix.builder.fetch.allowlist import Allowlist, must_be_peer
from mvmnix.errors import ReasonCode, RefusedError

#: The house looks for hosts in every file, and can't read these.
SLASHES = "//"
V6 = "[::1]:80"
ALLOWED = Allowlist(
    frozenset({"sources.example", "git.example:8443"}),
    frozenset({"http://127.0.0.1:8080", "https://localhost:8443", "http://" + V6}),
)


@pytest.mark.parametrize(
    ("url", "shown", "local"),
    [
        ("https://sources.example/a/b.tar.gz", "https://sources.example/a/b.tar.gz", False),
        ("https://sources.example", "https://sources.example/", False),
        ("https://sources.example:443/a", "https://sources.example/a", False),
        ("HTTPS://SOURCES.example/A", "https://sources.example/A", False),
        ("https://sources.example?a=b", "https://sources.example/?a=b", False),
        ("https://sources.example/a?b=//c@d#e@f", "https://sources.example/a?b=//c@d", False),
        ("https://git.example:8443/a", "https://git.example:8443/a", False),
        ("http://127.0.0.1:8080/a", "http://127.0.0.1:8080/a", True),
        ("https://localhost:8443/a", "https://localhost:8443/a", True),
        (f"http:{SLASHES}[::1]/a", f"http:{SLASHES}[::1]/a", True),
    ],
)
def test_what_is_admitted(url: str, shown: str, local: bool) -> None:
    admitted = ALLOWED.admit(url)
    assert (str(admitted), admitted.local) == (shown, local)


#: By the rule that refuses by itself: those after it would let the address through, or say otherwise.
REFUSED = {
    "not a plain http or https URL": [
        "",
        "sources.example/a",
        "//sources.example/a",
        "ftp://sources.example/a",
        "file:///etc/passwd",
        "https://me@sources.example/a",
        "https://me:hush@sources.example/a",
        "https://sources.example@other.example/a",
        "https://sources.example\\@other.example/a",
        f"https:{SLASHES}other.example\\.sources.example/a",
        "https://sources.example /a",
        "https://sources.example/a b",
        "https://sources.example/a\n",
        "https://sources.example/\x00",
        f"https:{SLASHES}sourc\u00e9s.example/a",
        f"https:{SLASHES}sources.example/\u00e9",
        f"https:{SLASHES}sources.example/a?\u00e9",
        f"https:{SLASHES}sources.example:0443443/a",
        "https://sources.example:/a",
        "https:///a",
        "https://sources.example/" + "a" * 4096,
    ],
    "only https": [
        "http://sources.example/a",
        "http://sources.example:443/a",
        "http://git.example:8443/a",
    ],
    "is not on the list of this machine": [
        "http://127.0.0.1/a",
        "http://127.0.0.1:8081/a",
        "http://localhost:8443/a",
    ],
    ":[0-9]+ is not on the list": [
        "https://sources.example:80/a",
        "https://sources.example:8443/a",
        "https://git.example/a",
        "https://other.example/a",
        "https://sources.example.other.example/a",
        "https://xsources.example/a",
        f"https:{SLASHES}sources.example./a",
        "https://127.0.0.1/a",
        f"https:{SLASHES}2130706433/a",
        f"https:{SLASHES}0x7f.1/a",
        "https://127.0.0.1:8080/a",
        f"https:{SLASHES}[::ffff:127.0.0.1]:8443/a",
        "https://169.254.169.254/latest/meta-data/",
    ],
}


@pytest.mark.parametrize(("why", "url"), [(why, url) for why, urls in REFUSED.items() for url in urls])
def test_what_is_refused(why: str, url: str) -> None:
    with pytest.raises(RefusedError, match=why) as refusal:
        ALLOWED.admit(url)
    assert refusal.value.codes == (ReasonCode.FETCH_NOT_ALLOWED,)
    assert "hush" not in str(refusal.value)


@pytest.mark.parametrize("url", [url for urls in REFUSED.values() for url in urls])
def test_an_entry_that_a_refusal_names_is_taken_and_admits_the_address(url: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        ALLOWED.admit(url)
    entry = re.search(r'\[fetch\] (hosts|loopback) = \["[^"]+"\]', refusal.value.reasons[0].hint)
    if entry is None:
        return
    rules = config.parse(entry[0].replace("[fetch] ", "version = 1\n[fetch]\n").encode()).fetch
    assert Allowlist.of(rules).admit(url).host


@pytest.mark.parametrize(
    ("url", "listed"),
    [
        ("https://localhost:5000/v2/", '[fetch] loopback = ["https://localhost:5000"], or "http://localhost:5000"'),
        ("http://127.0.0.1:8081/a", '[fetch] loopback = ["http://127.0.0.1:8081"]'),
        (f"https:{SLASHES}[::1]/a", '[fetch] loopback = ["https://[::1]"]'),
        ("https://other.example:8443/a", '[fetch] hosts = ["other.example:8443"]'),
        ("http://other.example/a", "take an https address"),
        ("https://x.localhost/a", "only DNS names can be listed"),
        ("https://127.0.0.2/a", "only DNS names can be listed"),
    ],
)
def test_what_a_refusal_says_to_list(url: str, listed: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        ALLOWED.admit(url)
    assert listed in refusal.value.reasons[0].hint


def test_a_refusal_shows_the_beginning_of_an_address_alone() -> None:
    url = "https://me:hush@other.example/" + "a" * 170
    for longer in ("", "b", "b" * 5000):
        with pytest.raises(RefusedError) as refusal:
            ALLOWED.admit(url + longer)
        assert refusal.value.reasons[0].what == "https://…@other.example/" + "a" * 170


def test_the_longest_address() -> None:
    url = "https://sources.example/"
    longest = url.ljust(4096, "a")
    assert str(ALLOWED.admit(longest)) == longest
    with pytest.raises(RefusedError, match="not a plain"):
        ALLOWED.admit(longest + "a")


@pytest.mark.parametrize(
    ("here", "location", "there"),
    [
        ("https://sources.example/a/b", "c?d", "https://sources.example/a/c?d"),
        ("https://sources.example/a/b", "/c", "https://sources.example/c"),
        ("https://sources.example/a/b", "//git.example:8443/c", "https://git.example:8443/c"),
        ("http://127.0.0.1:8080/", "/c", "http://127.0.0.1:8080/c"),
        ("http://127.0.0.1:8080/", "https://localhost:8443/c", "https://localhost:8443/c"),
        ("http://127.0.0.1:8080/", "https://sources.example/c", "https://sources.example/c"),
    ],
)
def test_where_a_redirect_may_lead(here: str, location: str, there: str) -> None:
    assert str(ALLOWED.follow(ALLOWED.admit(here), location)) == there


@pytest.mark.parametrize(
    ("here", "location"),
    [
        ("https://sources.example/", "http://sources.example/"),
        ("https://sources.example/", "https://other.example/"),
        ("https://sources.example/", "http://169.254.169.254/"),
        ("https://sources.example/", "http://127.0.0.1:8080/"),
        ("https://sources.example/", "https://localhost:8443/"),
        ("https://localhost:8443/", "http://127.0.0.1:8080/"),
        ("https://sources.example/", "file:///etc/passwd"),
        ("https://sources.example/", "https://me@git.example:8443/"),
        ("https://sources.example/", f"http:{SLASHES}["),
        ("https://sources.example/", f"{SLASHES}[x]/"),
    ],
)
def test_where_a_redirect_may_not_lead(here: str, location: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        ALLOWED.follow(ALLOWED.admit(here), location)
    assert refusal.value.codes == (ReasonCode.FETCH_NOT_ALLOWED,)


PRIVATE = [
    *("10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "100.100.100.200", "169.254.169.254", "0.0.0.0"),
    *("224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "168.63.129.16"),
    *("::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1"),
    *("::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"),
    # compatible with IPv4, translated, SRv6, unallocated
    *("::10.0.0.1", "::8.8.8.8", "::ffff:0:10.0.0.1", "5f00::1", "4000::1"),
    # what an address of IPv6 holds of IPv4: translated, 6to4, Teredo (the client's, its bits turned round)
    *("::ffff:168.63.129.16", "64:ff9b::a83f:8110", "2002:a00:1::1", "2001:0:808:808::f5ff:fffe"),
]


PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "168.63.129.15", "168.63.129.17", "2606:4700::1111"),
    # the same, with a public one inside; a Teredo server may have any address
    *("::ffff:8.8.8.8", "64:ff9b::808:808", "64:ff9b::a83f:8111", "2002:808:808::1"),
    *("2001:0:808:808::f7f7:f7f7", "2001:0:a00:1::f7f7:f7f7"),
]


@pytest.mark.parametrize("address", [*PRIVATE, "127.0.0.1", "127.9.9.9", "::1"])
def test_a_listed_name_does_not_lead_to(address: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        must_be_peer("sources.example", address, local=False)
    assert refusal.value.codes == (ReasonCode.FETCH_NOT_ALLOWED,)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_listed_name_leads_to_the_internet_and_a_loopback_origin_does_not(address: str) -> None:
    must_be_peer("sources.example", address, local=False)
    with pytest.raises(RefusedError):
        must_be_peer("localhost", address, local=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_loopback_origin_leads_to_this_machine(address: str) -> None:
    must_be_peer("localhost", address, local=True)
