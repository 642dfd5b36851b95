"""What a trust.toml may say besides its first rules, how each of it is narrowed by a user's file, and never widened."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats.strict import show_time
from mvmnix.keys import PrivateKey, Role
from mvmnix.provenance.identity.trust import Identity, Pattern
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.policy.default_policy import default_policy
from mvmnix.provenance.policy.merge import PolicyInputs
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.policy.rules import BuilderRule, Freshness, Thresholds, VerifierRule
from mvmnix.provenance.slsa.provenance import HOST_NIX, MICROVM
from mvmnix.provenance.trust_toml import duration, show_duration
from tests.policies import effective
from tests.support.refusals import refusal_codes
from tests.unit.provenance.policy.claims import IMAGE, NOW, by

BUILDER, PLANNER, VERIFIER = (PrivateKey.generate().public for _ in range(3))
DEFAULT = default_policy({Role.BUILDER: BUILDER, Role.PLANNER: PLANNER, Role.VERIFIER: VERIFIER}, now=NOW).decode()
ROOT, OTHER = (b'{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.%d"}' % n for n in (1, 2))
ROOTS = {Digest.of(ROOT): ROOT, Digest.of(OTHER): OTHER}
PINS = "".join(
    f'[[roots]]\nname = "{name}"\nsha256 = "{Digest.of(data).hex}"\n'
    for name, data in (("ours", ROOT), ("other", OTHER))
)
MIB = IMAGE.hex
LEFT_OUT = DEFAULT[: DEFAULT.index("[launch]")]
HARDWARE = DEFAULT.replace('isolation = "microvm"', f'isolation = "{Isolation.HARDWARE}"')
COMMITTED = DEFAULT.replace("allow-local = true", "allow-local = false")
PROVED, PROMISED = (DEFAULT.replace("serial = 1", f"serial = 1\nrequire-inclusion = {it}") for it in ("true", "false"))
PROXIED, UNPROXIED = (
    DEFAULT.replace('isolation = "microvm"', f'isolation = "microvm"\nnetwork-proxy = {it}') for it in ("true", "false")
)
ASKED, UNASKED = (PROXIED.replace("network-proxy = true", f"unasked-verbs = {it}") for it in ("false", "true"))
TAKES, TAKES_NONE = (PROXIED.replace("network-proxy = true", f"imported-snapshots = {it}") for it in ("true", "false"))
COLD, WARM = (PROXIED.replace("network-proxy = true", f"warm-starts = {it}") for it in ("false", "true"))
CONTAINERS = DEFAULT.replace('isolation = "microvm"', f'isolation = "{Isolation.CONTAINER}"')


def table(text: str) -> str:
    """The default policy with another table in it."""
    return DEFAULT.replace("[launch]", f"{text}\n[launch]")


def since(day: int) -> str:
    """The default policy, under which snapshots count since that day of January."""
    return table(f"[freshness]\nsnapshots-not-before = 2026-01-0{day}T00:00:00Z")


def key(more: str = "") -> str:
    """The default policy with two trust roots, and something more about its planner."""
    return table(PINS).replace('roles = ["planner"]', f'roles = ["planner"]\n{more}')


def identity(*lines: str, roles: str = '["planner"]') -> str:
    """The default policy with two trust roots and a planner who is known by name."""
    told = "\n".join(lines)
    return table(PINS + f'[[signers]]\nname = "ci"\nroles = {roles}\n{told}\n')


def image(*digests: str) -> str:
    """The default policy, whose builder runs these images."""
    listed = ", ".join(f'"{digest}"' for digest in digests)
    return DEFAULT.replace("level = 1\n\n", f"level = 1\nbuilder-images = [{listed}]\n\n")


def verifier(**fields: Any) -> str:
    """The default policy with a verifier."""
    told = {"signer": '"verifier"', "id": '"urn:example:verifier"', "max-age": '"7d"', "min-level": "1"}
    told |= {name.replace("_", "-"): value for name, value in fields.items() if value is not None}
    return table("[[verifiers]]\n" + "".join(f"{name} = {value}\n" for name, value in told.items()))


SAN, ISSUER = 'identity = "ci@ours.example"', 'issuer = "https://issuer.example"'
MANY = 'identity-regexp = ".*@ours[.]example"'


def two(*who: str) -> str:
    """The default policy with two planners who are known by name."""
    more = "".join(
        f'[[signers]]\nname = "ci-{n}"\nroles = ["planner"]\n{each}\n{ISSUER}\nroot = "ours"\n'
        for n, each in enumerate(who)
    )
    return table(PINS + more)


def read(floor: str | None, user: str | None) -> TrustPolicy:
    one, two = (None if text is None else text.encode() for text in (floor, user))
    return effective(one, two, PolicyInputs(roots=ROOTS))


def codes(floor: str | None, user: str | None) -> set[ReasonCode]:
    return set(refusal_codes(read, floor, user))


def test_an_identity_and_a_logged_key() -> None:
    policy = read(None, identity(MANY, ISSUER, 'root = "ours"'))
    known = {signer.name: signer for signer in policy.signers}
    assert known["ci"].credential == Identity(
        Pattern(".*@ours[.]example", regexp=True), Pattern("https://issuer.example"), Digest.of(ROOT)
    )
    assert known["ci"].key is None
    assert known["ci"].roles == {Role.PLANNER}
    assert policy.trust.roots[Digest.of(ROOT)] == ROOT
    logged = {signer.name: signer.log for signer in read(None, key('log = "other"')).signers}
    assert logged == {"builder": None, "planner": Digest.of(OTHER), "verifier": None}


def test_thresholds_freshness_and_verifiers() -> None:
    text = '[thresholds]\nplans = 2\n[freshness]\nprovenance = "90d"\nplan-window = "36h"\n'
    policy = read(None, table(text))
    assert policy.thresholds == Thresholds(plans=2, rebuilds=1)
    assert policy.freshness == Freshness(timedelta(days=90), timedelta(hours=36), None)
    (rule,) = read(None, verifier(resources='["oci:*"]')).verifiers
    assert rule == VerifierRule(VERIFIER.fingerprint, "urn:example:verifier", timedelta(days=7), 1, ("oci:*",))
    assert [rule.admits_resource(uri) for uri in ("oci:x", "git:x")] == [True, False]


def test_the_builder_s_image() -> None:
    for text, level in ((image(MIB), 1), (image("0" * 64, MIB), 1), (image("0" * 64), None)):
        policy = read(None, text)
        signer = next(each for each in policy.signers if each.name == "builder")
        assert policy.level(by(MICROVM), signer=signer, image="hello") == level


@pytest.mark.parametrize(
    "text",
    [
        # roots
        table('[[roots]]\nname = "ours"'),
        table('[[roots]]\nname = "ours"\nsha256 = "00"'),
        table('[[roots]]\nname = "../ours"\nsha256 = "' + "0" * 64 + '"'),
        table(PINS + PINS),
        # signers
        identity(SAN, ISSUER),
        identity(SAN, 'root = "ours"'),
        identity(ISSUER, 'root = "ours"'),
        identity(SAN, ISSUER, 'root = "nobody"'),
        identity(SAN, MANY, ISSUER, 'root = "ours"'),
        identity('identity-regexp = "("', ISSUER, 'root = "ours"'),
        identity('identity = ""', ISSUER, 'root = "ours"'),
        identity(SAN, ISSUER, 'root = "ours"', 'log = "ours"'),
        identity(SAN, ISSUER, 'root = "ours"').replace(PINS, ""),
        table(PINS + 2 * f'[[signers]]\nname = "ci"\nroles = ["host"]\n{SAN}\n{ISSUER}\nroot = "ours"\n'),
        identity(SAN, ISSUER, 'root = "ours"')
        + f'[[signers]]\nname="i"\nroles=["host"]\n{SAN}\n{ISSUER}\nroot="ours"\n',
        key('log = "nobody"'),
        key('root = "ours"'),
        key(SAN),
        # builders
        image(),
        image("00"),
        image("A" * 64),
        DEFAULT.replace('images = ["builder"]', f'images = ["builder"]\nbuilder-images = ["{MIB}"]'),
        # thresholds and freshness
        table("[thresholds]\nplans = 0"),
        table("[thresholds]\nplans = 17"),
        table("[thresholds]\nrebuilds = 0"),
        table("[thresholds]\nsigners = 1"),
        table('[freshness]\nprovenance = "90"'),
        table("[freshness]\nprovenance = 90"),
        table('[freshness]\nprovenance = "0d"'),
        table('[freshness]\nplan-window = "-1h"'),
        table('[freshness]\nplan-age = "1.5h"'),
        table('[freshness]\nprovenances = "1h"'),
        table('[freshness]\nsnapshots-not-before = "2026-01-01T00:00:00Z"'),
        table("[freshness]\nsnapshots-not-before = 2026-01-01"),
        table("[freshness]\nsnapshots-not-before = 2026-01-01T00:00:00+01:00"),
        # inclusion in a log
        DEFAULT.replace("serial = 1", 'serial = 1\nrequire-inclusion = "yes"'),
        DEFAULT.replace("serial = 1", "serial = 1\nrequire-inclusion = 1"),
        # verifiers
        verifier(signer='"nobody"'),
        verifier(max_age='"forever"'),
        verifier(min_level="4"),
        verifier(resources='["a b"]'),
        verifier(id='"a b"'),
        verifier(more="1"),
        table('[[verifiers]]\nsigner = "verifier"'),
    ],
)
def test_malformed(text: str) -> None:
    assert codes(None, text) == {ReasonCode.POLICY_MALFORMED}
    assert codes(text, None) == {ReasonCode.POLICY_MALFORMED}


@pytest.mark.parametrize(
    ("floor", "user"),
    [
        # trust roots, identities, logs
        (DEFAULT, table(PINS)),
        (key(), identity(SAN, ISSUER, 'root = "ours"')),
        (identity(SAN, ISSUER, 'root = "ours"'), identity(MANY, ISSUER, 'root = "ours"')),
        (identity(SAN, ISSUER, 'root = "ours"'), identity(SAN, ISSUER, 'root = "other"')),
        (identity(SAN, ISSUER, 'root = "ours"'), identity(SAN, 'issuer-regexp = ".*"', 'root = "ours"')),
        (identity(MANY, ISSUER, 'root = "ours"'), identity('identity = "x@theirs.example"', ISSUER, 'root = "ours"')),
        (identity(SAN, ISSUER, 'root = "ours"'), identity(SAN, ISSUER, 'root = "ours"', roles='["planner", "host"]')),
        (identity(MANY, ISSUER, 'root = "ours"'), two(SAN, 'identity = "more@ours.example"')),
        (identity(MANY, ISSUER, 'root = "ours"'), two(SAN, MANY)),
        (key('log = "ours"'), key()),
        (key('log = "ours"'), key('log = "other"')),
        # builder images
        (image(MIB), DEFAULT),
        (image(MIB), image(MIB, "0" * 64)),
        # bounds
        (table("[thresholds]\nplans = 2"), table("[thresholds]\nplans = 1")),
        (table("[thresholds]\nrebuilds = 3"), table("[thresholds]\nrebuilds = 2")),
        (table('[freshness]\nprovenance = "1d"'), table('[freshness]\nprovenance = "25h"')),
        (table('[freshness]\nplan-window = "60m"'), table('[freshness]\nplan-window = "61m"')),
        (table('[freshness]\nplan-age = "1d"'), table('[freshness]\nplan-age = "2d"')),
        (since(2), since(1)),
        (DEFAULT.replace("expires = 2037", "expires = 2036"), DEFAULT),
        # isolation
        (DEFAULT, CONTAINERS),
        (HARDWARE, CONTAINERS),
        (HARDWARE, DEFAULT),
        # proxies
        (UNPROXIED, PROXIED),
        (ASKED, UNASKED),
        # inclusion in a log
        (PROVED, PROMISED),
        # verifiers
        (DEFAULT, verifier()),
        (verifier(), verifier(id='"urn:other"')),
        (verifier(), verifier(signer='"planner"')),
        (verifier(), verifier(max_age='"8d"')),
        (verifier(), verifier(min_level="0")),
        (verifier(resources='["oci:*"]'), verifier()),
        (verifier(resources='["oci:*"]'), verifier(resources='["oci:*", "git:*"]')),
    ],
)
def test_a_user_file_that_widens(floor: str, user: str) -> None:
    assert codes(floor, user) == {ReasonCode.POLICY_WIDENS}


@pytest.mark.parametrize(
    ("floor", "user"),
    [
        (key(), DEFAULT),
        (identity(SAN, ISSUER, 'root = "ours"'), DEFAULT),
        (identity(MANY, ISSUER, 'root = "ours"'), identity(SAN, ISSUER, 'root = "ours"')),
        (identity(MANY, 'issuer-regexp = ".*"', 'root = "ours"'), identity(MANY, ISSUER, 'root = "ours"')),
        (two(MANY, SAN), two(MANY, SAN)),
        (two(MANY, SAN), two(SAN, 'identity = "more@ours.example"')),
        (key(), key('log = "ours"')),
        (DEFAULT, image(MIB)),
        (image(MIB, "0" * 64), image(MIB)),
        (image(MIB), image(MIB)),
        (COMMITTED, COMMITTED),
        (DEFAULT, COMMITTED),
        (verifier(), DEFAULT),
        (verifier(), verifier()),
        (verifier(resources='["oci:*"]'), verifier(resources='["oci:*"]')),
        *((table(text), table(text)) for text in ("[thresholds]\nplans = 2", "[thresholds]\nrebuilds = 2")),
        *((table(f'[freshness]\n{it} = "1d"'),) * 2 for it in ("provenance", "plan-window", "plan-age")),
        *((since(2), user) for user in (since(2), since(3), DEFAULT)),
        (DEFAULT, since(1)),
        (verifier(), verifier(max_age='"1d"', min_level="2", resources='["oci:*"]')),
        (DEFAULT, DEFAULT.replace("expires = 2037", "expires = 2036")),
        (DEFAULT.replace("serial = 1", "serial = 9"), DEFAULT),
        (CONTAINERS, DEFAULT),
        (CONTAINERS, CONTAINERS),
        (CONTAINERS, HARDWARE),
        (DEFAULT, HARDWARE),
        (HARDWARE, HARDWARE),
        (HARDWARE, LEFT_OUT),
        (DEFAULT, PROVED),
        (DEFAULT, PROMISED),
        (PROMISED, PROMISED),
        (PROMISED, PROVED),
        (PROVED, PROVED),
        (PROVED, DEFAULT),
    ],
)
def test_a_user_file_that_narrows(floor: str, user: str) -> None:
    assert read(floor, user).digest == read(floor, user).digest != read(None, user).digest


@pytest.mark.parametrize(
    ("floor", "user", "required"),
    [
        (None, DEFAULT, False),
        (None, PROMISED, False),
        (None, PROVED, True),
        (PROVED, DEFAULT, True),
        (DEFAULT, PROVED, True),
        (PROVED, None, True),
        (PROMISED, DEFAULT, False),
    ],
)
def test_either_file_may_require_inclusion(floor: str | None, user: str | None, required: bool) -> None:
    assert read(floor, user).trust.require_inclusion is required


OURS = 'root = "ours"'


@pytest.mark.parametrize(
    ("floor", "user", "why"),
    [
        (key(), identity(SAN, ISSUER, OURS), "signer 'ci' is none of the floor's"),
        (
            identity(SAN, ISSUER, OURS),
            identity(SAN, ISSUER, OURS, roles='["planner", "host"]'),
            "signer 'ci' has the role host, which the floor's 'ci' has not",
        ),
        (
            key('log = "ours"'),
            key('log = "ours"').replace(
                "[launch]", f'[[signers]]\nname = "ci"\nroles = ["host"]\n{SAN}\n{ISSUER}\n{OURS}\n[launch]'
            ),
            "signer 'ci' is none of the floor's",
        ),
        (key('log = "ours"'), key(), "signer 'planner' needs no log, unlike the floor's 'planner'"),
        (key('log = "ours"'), key('log = "other"'), "signer 'planner' needs another log, unlike the floor's 'planner'"),
    ],
)
def test_what_a_signer_has_beyond_the_floor_is_said(floor: str, user: str, why: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read(floor, user)
    assert why in [reason.why for reason in caught.value.reasons]


def test_who_is_content_with_a_container_and_who_forbids_it() -> None:
    assert read(None, CONTAINERS).isolation is read(CONTAINERS, CONTAINERS).isolation is Isolation.CONTAINER
    assert read(CONTAINERS, DEFAULT).isolation is Isolation.MICROVM
    assert read(CONTAINERS, LEFT_OUT).isolation is Isolation.MICROVM, "what the user's file doesn't say is not allowed"


def test_snapshots_of_others_count_where_each_file_says_so() -> None:
    for floor, user in ((None, TAKES), (TAKES, None), (TAKES, TAKES)):
        assert read(floor, user).imported_snapshots
    for floor, user in ((None, DEFAULT), (DEFAULT, None), (TAKES, DEFAULT), (TAKES, TAKES_NONE)):
        assert not read(floor, user).imported_snapshots


@pytest.mark.parametrize(
    ("key", "allowed", "refused"),
    [("network-proxy", PROXIED, UNPROXIED), ("unasked-verbs", UNASKED, ASKED), ("warm-starts", WARM, COLD)],
)
def test_either_file_may_refuse(key: str, allowed: str, refused: str) -> None:
    field = key.replace("-", "_")
    for floor, user in ((None, DEFAULT), (DEFAULT, LEFT_OUT), (allowed, allowed), (allowed, None)):
        assert getattr(read(floor, user), field)
    for floor, user in ((refused, DEFAULT), (refused, LEFT_OUT), (allowed, refused), (None, refused)):
        assert not getattr(read(floor, user), field)
    alone = read(None, f"{LEFT_OUT}[launch]\n{key} = false\n")
    assert (getattr(alone, field), alone.isolation) == (False, Isolation.MICROVM)


@pytest.mark.parametrize(
    ("floor", "user", "day"),
    [
        (None, DEFAULT, 0),
        (None, since(1), 1),
        (since(1), None, 1),
        (since(2), DEFAULT, 2),
        (DEFAULT, since(2), 2),
        (since(2), since(3), 3),
    ],
)
def test_either_file_may_say_since_when_snapshots_count(floor: str | None, user: str | None, day: int) -> None:
    found = read(floor, user).freshness.snapshots_not_before
    assert found == (datetime(2026, 1, day, tzinfo=UTC) if day else None)


def test_who_requires_hardware() -> None:
    for floor, user in ((None, HARDWARE), (HARDWARE, None), (DEFAULT, HARDWARE), (HARDWARE, HARDWARE)):
        assert read(floor, user).isolation is Isolation.HARDWARE
    assert read(HARDWARE, LEFT_OUT).isolation is Isolation.HARDWARE, "what the user's file leaves out is the floor's"
    for floor, user in ((None, LEFT_OUT), (LEFT_OUT, None), (LEFT_OUT, DEFAULT), (DEFAULT, LEFT_OUT)):
        assert read(floor, user).isolation is Isolation.MICROVM


def test_a_builder_known_by_a_narrower_name() -> None:
    rule = '[[builders]]\nid = "urn:mvmnix:builder:microvm:1"\nsigner = "ci"\nlevel = 2\n'
    floor, user = (identity(who, ISSUER, 'root = "ours"', roles='["builder"]') + rule for who in (MANY, SAN))
    policy = read(floor, user)
    signer = next(each for each in policy.signers if each.name == "ci")
    assert policy.level(by(MICROVM), signer=signer, image="hello") == 2
    assert codes(floor, user.replace("level = 2", "level = 3")) == {ReasonCode.POLICY_WIDENS}


def test_what_the_user_leaves_out_is_the_floor_s() -> None:
    floor = table('[thresholds]\nplans = 2\n[freshness]\nprovenance = "1d"\nplan-age = "2h"')
    user = table('[thresholds]\nrebuilds = 2\n[freshness]\nplan-window = "3h"\nplan-age = "1h"')
    policy = read(floor, user)
    assert policy.thresholds == Thresholds(plans=2, rebuilds=2)
    assert policy.freshness == Freshness(timedelta(days=1), timedelta(hours=3), timedelta(hours=1))
    assert read(floor, DEFAULT).thresholds == Thresholds(plans=2)
    earlier = read(DEFAULT, DEFAULT.replace("expires = 2037", "expires = 2030"))
    assert earlier.expires.year == 2030


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty; `mvm key show ROLE` prints one"),
        ("AAAA", "not the DER encoding of a public key"),
        ("-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----", "not a public key in PEM"),
    ],
)
def test_a_key_that_is_none_is_told_with_its_signer_and_in_our_words(text: str, why: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read(None, DEFAULT.replace(PLANNER.pem, text))
    (told,) = [reason.why for reason in caught.value.reasons if "the key of signer" in reason.why]
    assert told.endswith(f"the key of signer 'planner': {why}")


@pytest.mark.parametrize(
    ("minutes", "text"),
    [(1, "1m"), (59, "59m"), (60, "1h"), (61, "61m"), (1380, "23h"), (1440, "1d"), (1500, "25h"), (129_600, "90d")],
)
def test_how_a_duration_is_written(minutes: int, text: str) -> None:
    assert show_duration(timedelta(minutes=minutes)) == text
    assert duration(text) == duration(f"{minutes}m") == timedelta(minutes=minutes)


def test_times_are_told_as_everywhere() -> None:
    with pytest.raises(RefusedError, match=r"it expires at 2037-[^ ]*Z, after the floor, which does at 2036-[^ ]*Z"):
        read(DEFAULT.replace("expires = 2037", "expires = 2036"), DEFAULT)
    policy = read(None, DEFAULT)
    (reason,) = policy.expired(policy.expires)
    assert reason.why == f"it expired at {show_time(policy.expires)}, and now it is {show_time(policy.expires)}"


def test_a_root_that_is_not_there() -> None:
    pinned = table(PINS).encode()
    with pytest.raises(RefusedError, match=r"roots/other[.]json") as caught:
        effective(None, pinned, PolicyInputs(roots={Digest.of(ROOT): ROOT}))
    assert caught.value.codes == (ReasonCode.ROOT_MISMATCH,)
    assert refusal_codes(effective, None, pinned) == (ReasonCode.ROOT_MISMATCH,) * 2


def test_all_that_widens_at_once() -> None:
    floor = table("[thresholds]\nplans = 2").replace("expires = 2037", "expires = 2036")
    with pytest.raises(RefusedError) as caught:
        read(floor, table("[thresholds]\nplans = 1\n" + PINS))
    assert len(caught.value.reasons) == 4


# Whatever two files say: what is within the floor's is admitted by the floor's

_KEYS = [Digest.of(bytes([n])) for n in range(2)]
_IMAGES = st.frozensets(st.sampled_from(["hello", "other", "builder"]))
_RULES = st.builds(
    BuilderRule,
    st.sampled_from([MICROVM, HOST_NIX]),
    st.sampled_from(_KEYS),
    st.integers(0, 3),
    _IMAGES,
    st.frozensets(st.sampled_from([IMAGE, Digest.of(b"another image")])),
)
_PATTERNS = st.builds(Pattern, st.sampled_from(["a", "b", "ab", "a|b", ".*", "a.*"]), st.booleans())


@given(
    _RULES, _RULES, st.sampled_from([MICROVM, HOST_NIX]), st.sampled_from(_KEYS), st.sampled_from(["hello", "builder"])
)
def test_a_builder_rule_within_another_admits_no_more(
    ours: BuilderRule, theirs: BuilderRule, builder_id: str, signer: Digest, name: str
) -> None:
    covered = {key: frozenset({key}) for key in _KEYS}
    claim = by(builder_id)
    if ours.within(theirs, covered) and ours.admits(claim, signer=signer, image=name):
        assert theirs.admits(claim, signer=signer, image=name)
        assert ours.level <= theirs.level


@given(_PATTERNS, _PATTERNS, st.text("ab", max_size=3))
def test_a_pattern_within_another_matches_no_more(ours: Pattern, theirs: Pattern, text: str) -> None:
    if ours.within(theirs) and ours.matches(text):
        assert theirs.matches(text)
