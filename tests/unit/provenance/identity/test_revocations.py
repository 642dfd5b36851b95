"""What is no longer trusted: read strictly, joined from both files, and never forgotten without notice."""

from datetime import UTC, datetime

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.provenance.identity.revocations import RevocationFile, Revoked
from mvmnix.provenance.identity.trust import Pattern
from mvmnix.provenance.policy.merge import PolicyInputs
from mvmnix.provenance.policy.policy import SERIAL_FILES
from tests.policies import effective
from tests.unit.provenance import world as worlds

KEY, FILE = Digest.of(b"key"), Digest.of(b"file")
TEXT = f"""
version = 1
serial = 7
[[keys]]
sha256 = "{KEY.hex}"
reason = "the laptop was stolen"
date = 2026-11-25T00:00:00Z
[[identities]]
identity-regexp = ".*@left[.]example"
issuer = "https://issuer.example"
[[digests]]
sha256 = "{FILE.hex}"
"""


def around(*files: str | None) -> PolicyInputs:
    floor, user = (None if text is None else RevocationFile.parse(text.encode()) for text in files)
    return PolicyInputs((floor, user))


def test_what_a_file_says() -> None:
    found = RevocationFile.parse(TEXT.encode())
    assert found.serial == 7
    assert found.revocations.keys == {KEY}
    assert found.revocations.digests == {FILE}
    assert found.revocations.identities == (
        (Pattern(".*@left[.]example", regexp=True), Pattern("https://issuer.example")),
    )
    assert found.revocations.revokes("me@left.example", "https://issuer.example")
    assert not found.revocations.revokes("me@left.example", "https://other.example")
    assert not found.revocations.revokes("me@here.example", "https://issuer.example")
    assert found.entries[0] == Revoked(f"key {KEY}", "the laptop was stolen", datetime(2026, 11, 25, tzinfo=UTC))
    assert found.revocations.words(FILE) == "is revoked"
    assert [entry.reason for entry in found.entries] == ["the laptop was stolen", "", ""]


def test_both_files_count_and_the_policy_s_digest_stays() -> None:
    more = TEXT.replace(KEY.hex, Digest.of(b"another key").hex).replace("serial = 7", "serial = 2")
    policy = effective(worlds.trust(), worlds.trust(), around(TEXT, more))
    assert policy.trust.revocations.keys == {KEY, Digest.of(b"another key")}
    assert len(policy.trust.revocations.identities) == 2
    assert policy.serials == (1, 1, 7, 2)
    assert policy.digest == effective(worlds.trust(), worlds.trust()).digest
    assert effective(None, worlds.trust(), around(None, TEXT)).serials == (0, 1, 0, 7)


def test_the_machine_s_reason_is_told_first() -> None:
    ours, theirs = (f'{TEXT}reason = "{why}"\n' for why in ("a hole", "a whim"))
    for floor, user, told in ((ours, theirs, "a hole"), (TEXT, theirs, "a whim"), (ours, None, "a hole")):
        assert around(floor, user).revocations.words(FILE) == f"is revoked: {told!r}"


def test_a_file_that_revokes_nothing_yet() -> None:
    assert RevocationFile.parse(b"version = 1\nserial = 1\n").entries == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 1", "version = 2"),
        ("version = 1", "version = 0"),
        ("version = 1\n", ""),
        ("serial = 7", ""),
        ("serial = 7", "serial = 0"),
        ("serial = 7", 'serial = "7"'),
        ("serial = 7", "serial = 7\nmore = 1"),
        ("[[keys]]", "[keys]"),
        (KEY.hex, KEY.hex[1:]),
        (KEY.hex, f"sha256:{KEY.hex}"),
        ("the laptop", "the\\nlaptop"),
        ("2026-11-25T00:00:00Z", "2026-11-25"),
        ("2026-11-25T00:00:00Z", '"yesterday"'),
        ("identity-regexp", "identity-regex"),
        (".*@left", "(@left"),
        ('issuer = "https://issuer.example"', ""),
        ('issuer = "https://issuer.example"', 'issuer = ""'),
        ('issuer = "', 'issuer-regexp = ".*"\nissuer = "'),
        ("[[digests]]", "[[digests]]\nkind = 1"),
    ],
)
def test_malformed(old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(RefusedError) as caught:
        RevocationFile.parse(TEXT.replace(old, new).encode())
    assert set(caught.value.codes) == {ReasonCode.POLICY_MALFORMED}
    assert all("revocations.toml" in str(reason) for reason in caught.value.reasons)


@pytest.mark.parametrize("data", [b"", b"\xff", b"#" * 2**20 + b"#"])
def test_no_file_of_that_kind(data: bytes) -> None:
    with pytest.raises(RefusedError):
        RevocationFile.parse(data)


@pytest.mark.parametrize("which", range(4))
def test_an_older_file_is_a_roll_back(which: int) -> None:
    policy = effective(worlds.trust(), worlds.trust(), around(TEXT, TEXT))
    assert policy.serials == (1, 1, 7, 7)
    assert not list(policy.rolled_back(None))
    assert not list(policy.rolled_back((1, 1, 7, 7)))
    assert not list(policy.rolled_back((0, 0, 6, 0)))
    later = [*policy.serials]
    later[which] += 1
    one, two, three, four = later
    (reason,) = policy.rolled_back((one, two, three, four))
    assert (reason.code, reason.what) == (ReasonCode.POLICY_ROLLBACK, SERIAL_FILES[which])


def test_a_file_that_is_gone_is_a_roll_back() -> None:
    policy = effective(None, worlds.trust())
    reasons = list(policy.rolled_back((3, 1, 2, 1)))
    assert [reason.what for reason in reasons] == [SERIAL_FILES[0], SERIAL_FILES[2], SERIAL_FILES[3]]
    assert "it is not there" in str(reasons[0])
