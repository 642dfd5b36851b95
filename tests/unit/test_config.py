"""The text of config.toml: what it may say, and that nothing else is taken."""

import base64

import pytest

from mvmnix.config import (
    AnchorRule,
    CacheKey,
    CacheRule,
    Config,
    CredentialRule,
    FetchRules,
    SecretRef,
    SigningRule,
    TokenPlace,
    parse,
)
from mvmnix.errors import ReasonCode, RefusedError

KEY = base64.b64encode(bytes(range(32))).decode()
FULL = f"""
version = 1

[fetch]
hosts = ["sources.example", "git.example:8443"]
loopback = ["http://127.0.0.1:8080", "https://localhost:8443"]
size-limit-mib = 10
seconds = 60
parallel = 3

[[caches]]
url = "https://cache.example/nix/"
keys = ["cache.example-1:{KEY}"]

[[caches]]
url = "http://127.0.0.1:8081"
keys = ["a:{KEY}", "b:{KEY}"]

[[credentials]]
node = "git+https://git.example/team/*"
token = "env:GIT_TOKEN"

[[credentials]]
node = "github:team/*"
token = "file:/home/me/token"
"""


def test_all_that_it_may_say() -> None:
    config = parse(FULL.encode())
    assert config.fetch == FetchRules(
        frozenset({"sources.example", "git.example:8443"}),
        frozenset({"http://127.0.0.1:8080", "https://localhost:8443"}),
        10 << 20,
        60,
        3,
    )
    raw = bytes(range(32))
    assert config.caches == (
        CacheRule("https://cache.example/nix", (CacheKey("cache.example-1", raw),)),
        CacheRule("http://127.0.0.1:8081", (CacheKey("a", raw), CacheKey("b", raw))),
    )
    assert [cache.is_local for cache in config.caches] == [False, True]
    assert config.credentials == (
        CredentialRule("git+https://git.example/team/*", TokenPlace.ENVIRONMENT, "GIT_TOKEN"),
        CredentialRule("github:team/*", TokenPlace.FILE, "/home/me/token"),
    )


def test_signing_and_passwords() -> None:
    config = parse(
        b"""version = 1
[keys]
password = "env:WORD"
[signing]
keyless = ["builder", "planner"]
sigstore = "file:/etc/mvmnix/sigstore.json"
identity-token = "file:/run/token"
"""
    )
    assert config.key_password == SecretRef(TokenPlace.ENVIRONMENT, "WORD")
    token = SecretRef(TokenPlace.FILE, "/run/token")
    assert config.signing == SigningRule(frozenset({"builder", "planner"}), "/etc/mvmnix/sigstore.json", token)
    assert str(config.signing.token) == "file:/run/token"
    assert parse(b"version = 1\n[signing]\n").signing == SigningRule()


@pytest.mark.parametrize(
    "table",
    [
        '[keys]\npassword = "word"',
        "[keys]\nmore = 1",
        '[signing]\nkeyless = ["host"]',
        "[signing]\nkeyless = true",
        '[signing]\nsigstore = "elsewhere"',
        '[signing]\nsigstore = "file:relative"',
        '[signing]\nidentity-token = "eyJh"',
        "[signing]\nmore = 1",
    ],
)
def test_secrets_are_references(table: str) -> None:
    with pytest.raises(RefusedError) as caught:
        parse(f"version = 1\n{table}\n".encode())
    assert set(caught.value.codes) == {ReasonCode.CONFIG_MALFORMED}


ANCHORS = """
version = 1

[[anchors]]
name = "usb"
required = true
file = "/media/usb/checkpoint"

[[anchors]]
name = "post"
required = false
command = ["/usr/local/bin/post", "--log", ""]

[[anchors]]
name = "branch"
required = false
git = "/srv/audit.git"
branch = "hosts/this-one"
seconds = 60
"""


def test_anchors_of_the_log() -> None:
    assert parse(ANCHORS.encode()).anchors == (
        AnchorRule("usb", True, file="/media/usb/checkpoint"),
        AnchorRule("post", False, command=("/usr/local/bin/post", "--log", "")),
        AnchorRule("branch", False, git="/srv/audit.git", branch="hosts/this-one", seconds=60),
    )


def test_an_empty_one_allows_nothing() -> None:
    assert parse(b"version = 1") == Config()
    assert not Config().fetch.hosts
    assert Config().makes_templates


def test_templates_are_made_unasked_unless_it_says_otherwise() -> None:
    for table, expected in (("", True), ("unasked = true", True), ("unasked = false", False)):
        assert parse(f"version = 1\n[templates]\n{table}".encode()).makes_templates is expected


ANCHOR = 'version = 1\n[[anchors]]\nname = "a"\nrequired = true\n'
MALFORMED = {
    "an anchor of no kind": ANCHOR,
    "an anchor of two kinds": ANCHOR + 'file = "/a/b"\ngit = "/c"\nbranch = "d"',
    "an anchor without a name": 'version = 1\n[[anchors]]\nrequired = true\nfile = "/a/b"',
    "an anchor that is required or not": 'version = 1\n[[anchors]]\nname = "a"\nfile = "/a/b"',
    "an anchor in a relative file": ANCHOR + 'file = "a/b"',
    "an anchor by a command without a path": ANCHOR + 'command = ["post"]',
    "an anchor by no command": ANCHOR + "command = []",
    "an anchor without a branch": ANCHOR + 'git = "/srv/audit.git"',
    "a branch that is an option": ANCHOR + 'git = "/srv/audit.git"\nbranch = "-a"',
    "a branch that leads elsewhere": ANCHOR + 'git = "/srv/audit.git"\nbranch = "a/../b"',
    "a file with a time limit": ANCHOR + 'file = "/a/b"\nseconds = 1',
    "an anchor without patience": ANCHOR + 'command = ["/bin/a"]\nseconds = 0',
    "two anchors of one name": ANCHOR + 'file = "/a"\n' + ANCHOR.partition("\n")[2] + 'file = "/b"',
    "no version": "",
    "another version": "version = 2",
    "not TOML": "version",
    "an unknown table": "version = 1\n[fetcher]",
    "an unknown key": "version = 1\n[fetch]\nhost = []",
    "a host with a scheme": 'version = 1\n[fetch]\nhosts = ["https://sources.example"]',
    "a host with a star": 'version = 1\n[fetch]\nhosts = ["*.example"]',
    "a host with a path": 'version = 1\n[fetch]\nhosts = ["sources.example/x"]',
    "an address": 'version = 1\n[fetch]\nhosts = ["192.0.2.1"]',
    "this machine by its name": 'version = 1\n[fetch]\nhosts = ["localhost:8080"]',
    "this machine by a name below its": 'version = 1\n[fetch]\nhosts = ["my.localhost"]',
    "an address in other digits": 'version = 1\n[fetch]\nhosts = ["0x7f.1"]',
    "a host in upper case": 'version = 1\n[fetch]\nhosts = ["Sources.example"]',
    "a root dot": 'version = 1\n[fetch]\nhosts = ["sources.example."]',
    "an origin elsewhere": 'version = 1\n[fetch]\nloopback = ["http://192.168.0.1:80"]',
    "an origin with a path": 'version = 1\n[fetch]\nloopback = ["http://127.0.0.1:80/x"]',
    "no limit": "version = 1\n[fetch]\nsize-limit-mib = 0",
    "too many at once": "version = 1\n[fetch]\nparallel = 1000",
    "a cache without keys": 'version = 1\n[[caches]]\nurl = "https://cache.example"\nkeys = []',
    "a cache with a short key": 'version = 1\n[[caches]]\nurl = "https://cache.example"\nkeys = ["a:AAAA"]',
    "a cache by plain http": f'version = 1\n[[caches]]\nurl = "http://cache.example"\nkeys = ["a:{KEY}"]',
    "a cache with a query": f'version = 1\n[[caches]]\nurl = "https://cache.example/?a=b"\nkeys = ["a:{KEY}"]',
    "a cache with a user": f'version = 1\n[[caches]]\nurl = "https://me@cache.example"\nkeys = ["a:{KEY}"]',
    "a cache twice": f'version = 1\n[[caches]]\nurl = "https://c.example"\nkeys = ["a:{KEY}"]\n'
    f'[[caches]]\nurl = "https://c.example/"\nkeys = ["a:{KEY}"]\n',
    "a token itself": 'version = 1\n[[credentials]]\nnode = "github:a/b"\ntoken = "ghp_secret"',
    "a token in a relative file": 'version = 1\n[[credentials]]\nnode = "github:a/b"\ntoken = "file:token"',
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_refused(case: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        parse(MALFORMED[case].encode())
    assert set(refusal.value.codes) == {ReasonCode.CONFIG_MALFORMED}


def test_the_former_name_of_anchors_is_refused_with_the_new_one() -> None:
    with pytest.raises(RefusedError) as refusal:
        parse(b'version = 1\nextra = 1\n[[witnesses]]\nname = "a"\nrequired = true\nfile = "/a/b"')
    extra, former = refusal.value.reasons
    assert (extra.what, extra.why) == ("config.toml:2:1", "extra: unknown")
    assert (former.what, former.code) == ("config.toml:3:1", ReasonCode.CONFIG_MALFORMED)
    assert former.why == "witnesses: unknown: it is called `anchors` now, write [[anchors]]"


def test_a_secret_that_was_written_down_is_not_repeated_in_full() -> None:
    secret = "s" * 200
    with pytest.raises(RefusedError) as refusal:
        parse(f'version = 1\n[[credentials]]\nnode = "github:a/b"\ntoken = "{secret}"'.encode())
    assert secret not in str(refusal.value)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(RefusedError) as refusal:
        parse(b'version = 3\nextra = 1\n[fetch]\nparallel = 0\nhosts = ["/"]')
    assert len(refusal.value.reasons) == 4


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "http://127.0.0.1:8080", "localhost:8080", "[::1]:8080"])
def test_a_host_on_this_machine_is_told_where_it_stands(host: str) -> None:
    with pytest.raises(RefusedError, match=r"stands in `loopback`, such as http://127\.0\.0\.1:8080"):
        parse(f'version = 1\n[fetch]\nhosts = ["{host}"]'.encode())
    with pytest.raises(
        RefusedError, match=r"loopback\[0\]: .* expected an origin of this machine such as http://127\.0\.0\.1:8080"
    ):
        parse(b'version = 1\n[fetch]\nloopback = ["127.0.0.1:8080"]')


def test_a_host_whose_name_begins_like_this_machines() -> None:
    assert parse(b'version = 1\n[fetch]\nhosts = ["localhost.example"]').fetch.hosts == {"localhost.example"}
