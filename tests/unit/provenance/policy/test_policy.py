"""The trust policy: what it admits, that it says so strictly, and that a user's file only narrows the floor."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.keys import Algorithm, PrivateKey, Role
from mvmnix.provenance.identity import trusted_root
from mvmnix.provenance.identity.trust import Identity, Pattern, Revocations, Signer, Trust
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.policy import policy_files, trust_text
from mvmnix.provenance.policy.default_policy import default_policy
from mvmnix.provenance.policy.policy import TrustPolicy, digest_of
from mvmnix.provenance.policy.rules import BUILDER_IMAGE, BuilderRule, Freshness, SourceRule, Thresholds
from mvmnix.provenance.slsa.provenance import HOST_NIX, MICROVM, RootTree
from mvmnix.system.private_dirs import Directory
from tests.policies import effective
from tests.support.refusals import refusal_codes
from tests.unit.provenance.policy.claims import COMMITTED, IMAGE, NOW, by

KEYS = {role: PrivateKey.generate(kind).public for role, kind in zip(Role, (*Algorithm, *Algorithm), strict=True)}
OTHER = PrivateKey.generate().public
DEFAULT = default_policy(KEYS, now=NOW)
ONE, TWO = (f"cache.{name}-1:{base64.b64encode(fill * 32).decode()}" for name, fill in (("one", b"\0"), ("two", b"\1")))
PAIR = 'pairs = [["github:a/*", "github:b/*"]]\n[launch]'
IFD = "[evaluation]\nimport-from-derivation = true\n[launch]"
LOCAL = RootTree("path:hello", Digest.of(b""), None)


HEAD = b"version = 1\nserial = 1\nexpires = 2036-01-01T00:00:00Z\n"


def text(old: str = "", new: str = "") -> bytes:
    assert old in DEFAULT.decode()
    return DEFAULT.decode().replace(old, new, 1).encode()


def caches(*keys: str) -> str:
    return "".join(f'[[caches]]\nkey = "{key}"\n' for key in keys) + "[launch]"


def codes(floor: bytes | None, user: bytes | None) -> set[ReasonCode]:
    return set(refusal_codes(effective, floor, user))


def test_the_default_policy_of_a_workstation() -> None:
    policy = effective(None, DEFAULT)
    assert default_policy(KEYS, now=NOW) == DEFAULT
    assert {signer.name: signer.roles for signer in policy.signers} == {str(role): {role} for role in Role}
    builder = policy.trust.by_hint(KEYS[Role.BUILDER].hint)
    planner = policy.trust.by_hint(KEYS[Role.PLANNER].hint)
    assert builder is not None
    assert planner is not None
    assert policy.trust.by_hint(OTHER.hint) is None
    assert policy.level(by(MICROVM), signer=builder, image="hello") == 1
    assert policy.level(by(MICROVM), signer=planner, image="hello") is None
    assert policy.level(by(HOST_NIX), signer=builder, image=BUILDER_IMAGE) == 1
    assert policy.level(by(HOST_NIX), signer=builder, image="hello") is None
    assert (policy.serials, policy.expires) == ((0, 1, 0, 0), datetime(2037, 1, 1, tzinfo=UTC))
    assert (policy.thresholds, policy.freshness, policy.verifiers) == (Thresholds(), Freshness(), ())
    assert policy.isolation is Isolation.MICROVM
    assert "level 1" in DEFAULT.decode()
    assert all(rule.problem(root) is None for rule in policy.sources for root in (COMMITTED, LOCAL))


@pytest.mark.parametrize(
    ("builder", "images", "image", "admitted"),
    [
        (HOST_NIX, set(), BUILDER_IMAGE, True),
        (HOST_NIX, set(), "hello", False),
        (HOST_NIX, {"hello"}, "hello", False),
        (HOST_NIX, {"hello"}, BUILDER_IMAGE, False),
        (MICROVM, set(), "hello", True),
        (MICROVM, {"hello"}, "hello", True),
        (MICROVM, {"hello"}, BUILDER_IMAGE, False),
    ],
)
def test_the_host_s_nix_builds_the_first_builder_image_alone(
    builder: str, images: set[str], image: str, *, admitted: bool
) -> None:
    rule = BuilderRule(builder, IMAGE, 1, frozenset(images))
    assert rule.admits(by(builder), signer=IMAGE, image=image) is admitted


def test_a_hint_that_names_no_key_means_the_only_one() -> None:
    key, other = (Signer(f"key-{n}", it, frozenset(Role)) for n, it in enumerate((OTHER, KEYS[Role.HOST])))
    somebody = Signer("ci", Identity(Pattern("ci"), Pattern("https://issuer.example"), IMAGE), frozenset(Role))
    for signers, found in (
        ((), None),
        ((key,), key),
        ((somebody,), None),
        ((key, other), None),
        ((somebody, key), None),
    ):
        assert Trust(signers).by_hint("release-key") == found
    assert Trust((somebody, other, key)).by_hint(OTHER.hint) == key


def test_a_key_in_base64_is_the_same_key() -> None:
    pem = KEYS[Role.BUILDER].pem
    one_line = f'key = "{base64.b64encode(KEYS[Role.BUILDER].spki).decode()}"'
    assert trust_text.parse(text(f'key = """\n{pem}"""', one_line)) == trust_text.parse(DEFAULT)


def test_the_highest_matching_level_counts() -> None:
    more = b'\n[[builders]]\nid = "urn:mvmnix:builder:microvm:1"\nsigner = "builder"\nlevel = 2\nimages = ["hello"]\n'
    policy = effective(None, DEFAULT + more)
    signer = policy.trust.by_hint(KEYS[Role.BUILDER].hint)
    assert signer is not None
    assert policy.level(by(MICROVM), signer=signer, image="hello") == 2
    assert policy.level(by(MICROVM), signer=signer, image="other") == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 1", "version = 2"),
        ("version = 1\n", ""),
        ("version = 1", "version = true"),
        ("version = 1", "version = 1\nmore = 1"),
        ("version = 1", "version = 1\nversion = 1"),
        ("serial = 1", "serial = 1.5"),
        ("serial = 1", "serial = 0"),
        ("serial = 1", "#"),
        ("expires = ", "#"),
        ("expires = 2037-01-01T00:00:00Z", "expires = 2037-01-01T00:00:00"),
        ("expires = 2037-01-01T00:00:00Z", "expires = 2037-01-01"),
        ("expires = 2037-01-01T00:00:00Z", 'expires = "2037-01-01T00:00:00Z"'),
        ("expires = 2037-01-01T00:00:00Z", "expires = 2037-01-01T00:00:00+02:00"),
        ("expires = 2037-01-01T00:00:00Z", "expires = 2037-01-01T00:00:00.5Z"),
        ('name = "planner"', 'name = "builder"'),
        ('name = "planner"', 'name = "a b"'),
        ('roles = ["planner"]', 'roles = ["king"]'),
        ('roles = ["planner"]', "roles = []"),
        ('roles = ["planner"]', 'roles = "planner"'),
        (KEYS[Role.PLANNER].pem, KEYS[Role.BUILDER].pem),
        (KEYS[Role.PLANNER].pem, "no key"),
        ("level = 1", "level = 4"),
        ("level = 1", "level = -1"),
        ('images = ["builder"]\n', ""),
        ('images = ["builder"]', "images = []"),
        ('images = ["builder"]', 'images = ["builder", "hello"]'),
        ('signer = "builder"', 'signer = "nobody"'),
        ("allow-local = true", "allow-local = 1"),
        ("allow-local = true", ""),
        ("allow-local", "allow_local"),
        ('patterns = ["*"]', 'patterns = ["*a*b*c*d*e"]'),
        ('patterns = ["*"]', "patterns = [1]"),
        ('isolation = "microvm"', 'isolation = "container"'),
        ('isolation = "microvm"', "network-proxy = 1"),
        ('isolation = "microvm"', "unasked-verbs = 1"),
        ('isolation = "microvm"', "warm-starts = 1"),
        ('isolation = "microvm"', "imported-snapshots = 1"),
        ('isolation = "microvm"', ""),
        ("[launch]", "[lunch]"),
        ("[launch]", "inputs = 1\n[launch]"),
        ("[launch]", 'inputs = ["a b"]\n[launch]'),
        ("[launch]", 'inputs = ["*a*b*c*"]\n[launch]'),
        ("[launch]", 'pairs = ["a", "b"]\n[launch]'),
        ("[launch]", 'pairs = [["a"]]\n[launch]'),
        ("[launch]", 'pairs = [["a", "b", "c"]]\n[launch]'),
        ("[launch]", 'pairs = [["a", 1]]\n[launch]'),
        ("[launch]", 'pairs = [["a", ""]]\n[launch]'),
        ("[launch]", 'pairs = [["a", "*b*c*d*"]]\n[launch]'),
        ("[launch]", "[evaluation]\n[launch]"),
        ("[launch]", "[evaluation]\nimport-from-derivation = 1\n[launch]"),
        ("[launch]", "[evaluation]\nimport-from-derivation = true\nmore = 1\n[launch]"),
        ("[launch]", "[[caches]]\n[launch]"),
        ("[launch]", '[[caches]]\nkey = "cache.example-1"\n[launch]'),
        ("[launch]", '[[caches]]\nkey = "cache.example-1:AAAA"\n[launch]'),
        ("[launch]", f'[[caches]]\nkey = "{ONE}"\nurl = "https://cache.example"\n[launch]'),
        ("[launch]", caches(ONE, ONE)),
        ("[launch]", caches(ONE, ONE.replace("AA", "BB", 1))),
        ("[launch]", caches(ONE, ONE.replace("one", "two"))),
        ("version = 1", "version ="),
        ("version = 1", "version = 1 # \x00"),
    ],
)
def test_malformed(old: str, new: str) -> None:
    assert codes(None, text(old, new)) == {ReasonCode.POLICY_MALFORMED}
    assert codes(text(old, new), None) == {ReasonCode.POLICY_MALFORMED}


def test_all_problems_at_once() -> None:
    broken = text("version = 1", "version = 3").replace(b"allow-local = true", b"allow-local = 1\nmore = 1")
    with pytest.raises(RefusedError) as caught:
        effective(None, broken)
    assert len(caught.value.reasons) == 3


def test_not_utf8_and_too_large() -> None:
    assert codes(None, b"\xff") == {ReasonCode.POLICY_MALFORMED}
    assert codes(None, DEFAULT + b"#" * 2**20) == {ReasonCode.POLICY_MALFORMED}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n# nothing\n",
        HEAD,
        text('patterns = ["*"]', "patterns = []"),
        DEFAULT[: DEFAULT.index(b"[[builders]]")] + DEFAULT[DEFAULT.index(b"[sources]") :],
        HEAD + b'[sources]\npatterns = ["*"]\nallow-local = true\n',
    ],
)
def test_an_empty_policy_is_an_error(data: bytes) -> None:
    assert codes(None, data) == {ReasonCode.POLICY_EMPTY}
    assert codes(data, None) == {ReasonCode.POLICY_EMPTY}
    assert codes(DEFAULT, data) == {ReasonCode.POLICY_EMPTY}


def test_no_policy_is_an_error() -> None:
    assert codes(None, None) == {ReasonCode.POLICY_MISSING}


FLOOR = text('patterns = ["*"]', 'patterns = ["git+https://host/*", "path:*"]')


def test_within_the_floor() -> None:
    policy = effective(FLOOR, DEFAULT)
    assert [rule.patterns for rule in policy.sources] == [("git+https://host/*", "path:*"), ("*",)]
    elsewhere = replace(COMMITTED, uri=COMMITTED.uri.replace("host", "elsewhere"))
    assert [rule.problem(elsewhere) is None for rule in policy.sources] == [False, True]
    fewer = default_policy({role: key for role, key in KEYS.items() if role is not Role.HOST}, now=NOW)
    assert [signer.name for signer in effective(FLOOR, fewer).signers] == ["builder", "planner", "verifier"]


@pytest.mark.parametrize(
    ("floor", "user"),
    [
        (DEFAULT, default_policy(KEYS | {Role.PLANNER: OTHER}, now=NOW)),
        (DEFAULT, text('roles = ["planner"]', 'roles = ["planner", "host"]')),
        (DEFAULT, text("level = 1", "level = 2")),
        (DEFAULT, text(f'id = "{MICROVM}"', 'id = "urn:x"')),
        (text('signer = "builder"\nlevel = 1', 'signer = "builder"\nlevel = 1\nimages = ["hello"]'), DEFAULT),
        (text('signer = "builder"', 'signer = "planner"'), DEFAULT),
        (text("allow-local = true", "allow-local = false"), DEFAULT),
        (DEFAULT, text("[launch]", PAIR)),
        (text("[launch]", PAIR), text("[launch]", PAIR.replace("b/*", "c/*"))),
        (DEFAULT, text("[launch]", IFD)),
        (DEFAULT, text("[launch]", caches(ONE))),
        (text("[launch]", caches(ONE)), text("[launch]", caches(ONE, TWO))),
        (text("[launch]", caches(ONE)), text("[launch]", caches(ONE.replace("AA", "BB", 1)))),
    ],
)
def test_a_user_file_that_widens(floor: bytes, user: bytes) -> None:
    assert codes(floor, user) == {ReasonCode.POLICY_WIDENS}


@pytest.mark.parametrize(
    "user",
    [
        text("level = 1", "level = 0"),
        text('signer = "builder"\nlevel = 1', 'signer = "builder"\nlevel = 1\nimages = ["hello"]'),
        text("allow-local = true", "allow-local = false"),
        text('patterns = ["*"]', 'patterns = ["git+https://host/repository*"]'),
    ],
)
def test_a_user_file_that_narrows(user: bytes) -> None:
    assert effective(DEFAULT, user).digest == digest_of(DEFAULT, user)


def test_what_nobody_mentions_is_admitted_least() -> None:
    policy = effective(None, DEFAULT)
    assert (policy.caches, policy.pairs, policy.import_from_derivation) == ((), (), False)
    assert policy.admits_input("https://anything")


def test_inputs_pairs_caches_and_import_from_derivation_within_the_floor() -> None:
    floor = text("[launch]", 'inputs = ["github:a/*"]\n' + PAIR.removesuffix("[launch]") + caches(ONE, TWO))
    floor = floor.replace(b"[launch]", IFD.encode())
    whole = effective(floor, None)
    assert [key.name for key in whole.caches] == ["cache.one-1", "cache.two-1"]
    assert [key.raw for key in whole.caches] == [bytes(32), b"\1" * 32]
    assert (whole.pairs, whole.import_from_derivation) == ((("github:a/*", "github:b/*"),), True)
    assert effective(floor, floor).pairs == whole.pairs
    narrow = effective(floor, text("[launch]", 'inputs = ["*/b/*"]\n' + caches(TWO)))
    assert [key.name for key in narrow.caches] == ["cache.two-1"]
    assert (narrow.pairs, narrow.import_from_derivation) == ((), False)
    for uri, admitted in (("github:a/b/c", True), ("github:a/c/c", False), ("github:c/b/c", False)):
        assert narrow.admits_input(uri) is admitted


def test_a_policy_without_signers_is_empty() -> None:
    policy = effective(None, DEFAULT)
    assert refusal_codes(replace, policy, trust=Trust(())) == (ReasonCode.POLICY_EMPTY,)


def test_how_a_digest_is_made() -> None:
    """Plans name it: another version of mvm has to find the same one."""
    both = b"mvmnix trust policy 1\0\1\0\0\0\0\0\0\0\2ab\1\0\0\0\0\0\0\0\1c"
    assert digest_of(b"ab", b"c") == Digest.of(both)
    assert digest_of(None, None) == Digest.of(b"mvmnix trust policy 1\0\0\0")


def test_the_digest_is_over_the_exact_bytes_of_both() -> None:
    pairs = [(b"ab", b"c"), (b"a", b"bc"), (b"abc", None), (None, b"abc"), (b"abc", b""), (b"", b"abc"), (None, None)]
    assert len({digest_of(floor, user) for floor, user in pairs}) == len(pairs)
    assert effective(None, DEFAULT).digest == digest_of(None, DEFAULT) != digest_of(None, DEFAULT + b"\n")


def test_how_many_stars_a_pattern_has() -> None:
    assert effective(None, text('patterns = ["*"]', 'patterns = ["*a*b*c"]')).sources[0].patterns == ("*a*b*c",)
    with pytest.raises(RefusedError, match=r"patterns\[0\]: .* with three \* at most"):
        effective(None, text('patterns = ["*"]', 'patterns = ["*a*b*c*"]'))


@pytest.mark.parametrize(
    ("rule", "root", "admitted"),
    [
        (SourceRule(("*",), allow_local=True), LOCAL, True),
        (SourceRule(("*",), allow_local=False), LOCAL, False),
        (SourceRule(("*",), allow_local=False), COMMITTED, True),
        (SourceRule(("git+https://host/repository[?]rev=*",), allow_local=False), COMMITTED, True),
        (SourceRule(("git+https://HOST/*",), allow_local=False), COMMITTED, False),
        (SourceRule(("repository",), allow_local=False), COMMITTED, False),
        (SourceRule(("path:*",), allow_local=True), COMMITTED, False),
    ],
)
def test_source_rules(rule: SourceRule, root: RootTree, admitted: bool) -> None:
    assert (rule.problem(root) is None) == admitted


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "home/.config/mvmnix")) as found:
        yield found


def load(tmp_path: Path, config: Directory) -> TrustPolicy:
    return policy_files.in_force(*policy_files.read_policy_files(str(tmp_path / "floor"), config))


def test_files(tmp_path: Path, config: Directory) -> None:
    assert refusal_codes(load, tmp_path, config) == (ReasonCode.POLICY_MISSING,)
    config.write_atomic("trust.toml", DEFAULT)
    assert load(tmp_path, config).digest == digest_of(None, DEFAULT)
    with Directory.create(str(tmp_path / "floor")) as floor:
        assert load(tmp_path, config).digest == digest_of(None, DEFAULT)
        floor.write_atomic("trust.toml", FLOOR)
    assert load(tmp_path, config).digest == digest_of(FLOOR, DEFAULT)
    config.remove("trust.toml")
    assert load(tmp_path, config).digest == digest_of(FLOOR, None)


@pytest.mark.parametrize("which", ["floor/trust.toml", "floor", "home/.config/mvmnix/trust.toml"])
def test_files_that_others_can_change(tmp_path: Path, config: Directory, which: str) -> None:
    config.write_atomic("trust.toml", DEFAULT)
    with Directory.create(str(tmp_path / "floor")) as floor:
        floor.write_atomic("trust.toml", FLOOR)
    (tmp_path / which).chmod(0o777)
    assert refusal_codes(load, tmp_path, config) == (ReasonCode.STATE_PERMISSIONS,)


def test_a_floor_that_is_a_link_is_no_absent_floor(tmp_path: Path, config: Directory) -> None:
    config.write_atomic("trust.toml", DEFAULT)
    (tmp_path / "floor").symlink_to(tmp_path / "nowhere")
    assert refusal_codes(load, tmp_path, config) == (ReasonCode.STATE_PERMISSIONS,)


def pinned(name: str, data: bytes) -> bytes:
    return DEFAULT + f'[[roots]]\nname = "{name}"\nsha256 = "{Digest.of(data).hex}"\n'.encode()


def test_roots_and_revocations_beside_the_files(tmp_path: Path, config: Directory) -> None:
    config.write_atomic("trust.toml", pinned("ours", b"{}"))
    config.write_atomic("revocations.toml", b"version = 1\nserial = 3\n")
    assert refusal_codes(load, tmp_path, config) == (ReasonCode.ROOT_MISMATCH,)
    with config.child("roots") as roots, Directory.create(str(tmp_path / "floor")) as floor:
        roots.write_atomic("ours.json", b"{ }")
        assert refusal_codes(load, tmp_path, config) == (ReasonCode.ROOT_MISMATCH,)
        roots.remove("ours.json")
        assert refusal_codes(load, tmp_path, config) == (ReasonCode.ROOT_MISMATCH,), "there is none of that name"
        roots.write_atomic("ours.json", b"{}")
        floor.write_atomic("revocations.toml", b"version = 1\nserial = 2\n")
        policy = load(tmp_path, config)
        assert policy.serials == (0, 1, 2, 3)
        assert dict(policy.trust.roots) == {Digest.of(b"{}"): b"{}"}
        (tmp_path / "home/.config/mvmnix/roots/ours.json").chmod(0o666)
        assert refusal_codes(load, tmp_path, config) == (ReasonCode.STATE_PERMISSIONS,)


def test_the_root_that_the_library_ships(tmp_path: Path, config: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def shipped() -> bytes:
        asked.append(1)
        return b"{}"

    monkeypatch.setattr(policy_files, "_public_good", shipped)
    config.write_atomic("trust.toml", pinned("public-good", b"{}"))
    policy = load(tmp_path, config)
    assert list(policy.trust.roots) == [Digest.of(b"{}")]
    assert not asked, "whoever needs no identity does not pay for it"
    assert [policy.trust.roots[Digest.of(b"{}")] for _ in range(2)] == [b"{}", b"{}"]
    assert asked == [1]
    config.write_atomic("trust.toml", pinned("public-good", b"another"))
    other = load(tmp_path, config)
    with pytest.raises(RefusedError) as caught:
        other.trust.roots[Digest.of(b"another")]
    assert caught.value.codes == (ReasonCode.ROOT_MISMATCH,)
    with config.child("roots") as roots:
        roots.write_atomic("public-good.json", b"another")
    assert load(tmp_path, config).trust.roots[Digest.of(b"another")] == b"another"
    assert len(asked) == 2


def test_the_shipped_root_is_one(tmp_path: Path, config: Directory) -> None:
    """The very one of the sigstore library that is installed here."""
    from mvmnix.provenance.identity.sigstore import public_good_root

    config.write_atomic("trust.toml", pinned("public-good", public_good_root()))
    policy = load(tmp_path, config)
    (data,) = policy.trust.roots.values()
    assert trusted_root.parse(data).newest is not None


def test_a_default_policy_believes_a_builder() -> None:
    with pytest.raises(ValueError, match="needs a builder key"):
        default_policy({role: key for role, key in KEYS.items() if role is not Role.BUILDER}, now=NOW)


def test_a_role_that_is_none_is_told_with_those_that_are() -> None:
    with pytest.raises(RefusedError, match="'king' is not one of builder, planner, host, verifier") as caught:
        effective(None, text('roles = ["planner"]', 'roles = ["king"]'))
    assert set(caught.value.codes) == {ReasonCode.POLICY_MALFORMED}


def test_a_signer_that_an_identity_is_needs_no_other_log() -> None:
    """Its own domain's proves it; another one's beside it would be asked for nothing."""
    certified = Identity(Pattern("ci"), Pattern("https://issuer.example"), Digest.of(b"root"))
    with pytest.raises(ValueError, match="is an identity, which needs its own domain's log anyway"):
        Signer("ci", certified, frozenset(Role), Digest.of(b"another root"))


def pattern(text: str) -> Pattern:
    return Pattern(text)


PAIRS = (
    ((pattern("a"), pattern("b")), (pattern("c"), pattern("d"))),
    ((pattern("a"), pattern("d")), (pattern("c"), pattern("b"))),
)
REVOKED = [
    Revocations(keys=frozenset({Digest.of(b"key")})),
    Revocations(digests=frozenset({Digest.of(b"key")})),
    Revocations(digests=frozenset({Digest.of(b"key"), Digest.of(b"another")})),
    *(Revocations(identities=pairs) for pairs in PAIRS),
    Revocations(identities=PAIRS[0][:1]),
    Revocations(identities=((Pattern("a", regexp=True), pattern("b")),)),
]


def test_its_state_is_another_one_whenever_any_part_of_it_is() -> None:
    """What was made under it, such as a template, is of no use then."""
    policy = effective(None, DEFAULT)
    others = [
        replace(policy, digest=Digest.of(b"another")),
        *(replace(policy, serials=serials) for serials in ((1, 1, 0, 0), (0, 2, 0, 0), (0, 1, 1, 0), (0, 1, 0, 1))),
        *(replace(policy, trust=replace(policy.trust, revocations=revoked)) for revoked in REVOKED),
    ]
    assert len({policy.state, *(other.state for other in others)}) == len(others) + 1


def test_its_state_is_not_of_an_order_nor_of_reasons() -> None:
    policy = effective(None, DEFAULT)
    there, back = (Revocations(identities=pairs) for pairs in (PAIRS[0], PAIRS[0][::-1]))
    said = replace(there, reasons={Digest.of(b"x"): "why"})
    states = {replace(policy, trust=replace(policy.trust, revocations=it)).state for it in (there, back, said)}
    assert len(states) == 1
