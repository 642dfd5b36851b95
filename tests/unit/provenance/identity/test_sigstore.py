"""Each step refuses the forgeries that only it refuses, for certificates and for logged keys, and none without it."""

import base64
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from itertools import cycle
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509 import verification

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.keys import Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.verification_material import Inclusion
from mvmnix.provenance.identity import timestamps, transparency
from mvmnix.provenance.identity.certificate_names import utf8
from mvmnix.provenance.identity.trust import Revocations, Signer, Trust
from mvmnix.provenance.verify import authentication as authenticator
from mvmnix.provenance.verify.authentication import Authentic, authenticate
from tests.private_sigstore import Hooks, der, merged, name
from tests.support.refusals import refusal_codes
from tests.unit.provenance.forgeries import (
    BUILDER,
    EARLIER,
    HOUR,
    ISSUER,
    KEY,
    MODES,
    NOW,
    OURS,
    PAYLOAD,
    STRANGER,
    SUBJECT,
    THEIRS,
    TSA,
    Case,
    Row,
    edited,
    flip,
    identity,
    stamped_twice,
    twice,
    untimed,
)
from tests.unit.provenance.forgery_rows import ROWS


def check(it: Case, data: bytes | None = None) -> Authentic:
    return authenticate(it.bundle() if data is None else data, trust=it.trust, role=Role.BUILDER, what="the claim")


def refused(it: Case, data: bytes | None = None) -> set[ReasonCode]:
    return set(refusal_codes(check, it, data))


CASES = [
    pytest.param(row, keyed, id=f"{row.step} {'key' if keyed else 'certificate'}: {row.name}")
    for row in ROWS
    for keyed in row.modes
]


@pytest.mark.parametrize("keyed", MODES)
def test_what_is_good_passes(keyed: bool) -> None:
    found = check(Case(keyed))
    assert (found.payload, found.signer.name, found.time) == (PAYLOAD, "key" if keyed else "ci", NOW)
    assert found.identity == (None if keyed else (SUBJECT, ISSUER))


@pytest.mark.parametrize("keyed", MODES)
@pytest.mark.parametrize("hooks", [Hooks(), Hooks(entry=edited(untimed))], ids=["log and authority", "authority alone"])
def test_a_timestamp_authority_says_when(hooks: Hooks, keyed: bool) -> None:
    assert check(Case(keyed, hooks=hooks, options=TSA)).time == NOW


@pytest.mark.parametrize(("row", "keyed"), CASES)
def test_refused_by_exactly_one_step(row: Row, keyed: bool) -> None:
    assert refused(row.change(Case(keyed))) == row.codes


def take_out(step: str, keyed: bool, patch: pytest.MonkeyPatch) -> None:
    """Take a numbered step out; of step 3, for a certificate, that the certified key made the signature."""
    prefix = f"step_{step.replace('.', '_')}_"
    for module in (authenticator, transparency):
        kept = tuple(it for it in module.STEPS if not re.match(rf"{prefix}[a-z]", it.__name__))
        if step != "3" or keyed:
            patch.setattr(module, "STEPS", kept)
    if not keyed and step == "3":
        patch.setattr(transparency, "forged", lambda _: None)


#: Without what these find there is nobody to trust, or nothing to look at.
MAKERS = {("0", False), ("0", True), ("2", False), ("2", True), ("3.1", False), ("3.8", False)}
MAKING = {"no time", "no subject at all"}


def is_taken_out(row: Row, keyed: bool) -> bool:
    return (row.step, keyed) not in MAKERS and row.name not in MAKING


@pytest.mark.parametrize(("row", "keyed"), [it for it in CASES if is_taken_out(*it.values)])  # type: ignore[arg-type]
def test_without_its_step_the_same_thing_passes(row: Row, keyed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    it = row.change(Case(keyed))
    data = it.bundle()
    take_out(row.step, keyed, monkeypatch)
    if ReasonCode.BUNDLE_MALFORMED in row.codes and row.step == "3":
        assert refused(it, data) == {ReasonCode.BUNDLE_MALFORMED}  # which is step 5's
    else:
        assert isinstance(check(it, data), Authentic)


def test_the_contract_the_steps_and_the_rows_have_the_same_numbers() -> None:
    described = re.findall(r"^    (\d[.]\d) ", transparency.__doc__ or "", re.MULTILINE)
    named = [".".join(it.__name__.split("_")[1:3]) for it in transparency.STEPS]
    assert described == named == [f"3.{number}" for number in range(1, 9)]
    for step, number in zip(transparency.STEPS, named, strict=True):
        assert (step.__doc__ or "").startswith(f"{number} ")
    assert {row.step for row in ROWS} == {*"012345", *named}


#: ecdsa-with-SHA256, as SignerInfo of a timestamp names it last: signed by nobody, read by nobody.
ALGORITHM = bytes.fromhex("06082a8648ce3d040302")


def unheeded(bundle: bytes) -> range:
    """Where in a bundle the base64 of that name stands; nowhere without a timestamp."""
    material = envelope.parse_bundle(bundle).material
    if not material.timestamps:
        return range(0)
    before = material.timestamps[0].rindex(ALGORITHM)
    start = bundle.index(b'"signedTimestamp":"') + len('"signedTimestamp":"')
    return range(start + before * 4 // 3, start + (before + len(ALGORITHM)) * 4 // 3 + 1)


@pytest.mark.parametrize(
    "it",
    [Case(), Case(options=TSA), Case(keyed=True), Case(keyed=True, options=TSA)],
    ids=["log", "and authority", "key", "key and authority"],
)
def test_every_flipped_byte_is_refused(it: Case) -> None:
    whole = it.bundle()
    check(it, whole)
    skipped = unheeded(whole)
    # in turns: another letter, the other case, no ASCII
    for position, bit in zip(range(0, len(whole), 11), cycle((1, 32, 128)), strict=False):
        data = bytearray(whole)
        data[position] ^= bit
        if position not in skipped:
            refused(it, bytes(data))


@pytest.mark.parametrize(
    ("parts", "codes"),
    [
        ({"log": OURS.log, "ct": OURS.ct}, {ReasonCode.LOG_INCLUSION}),
        ({"log": OURS.log}, {ReasonCode.LOG_INCLUSION}),
        ({"ct": OURS.ct}, {ReasonCode.CERTIFICATE_INVALID, ReasonCode.LOG_INCLUSION}),
        ({"tsa": OURS.tsa}, {ReasonCode.SIGNING_TIME}),
        ({"ca": OURS.ca}, {ReasonCode.LOG_INCLUSION}),
    ],
)
def test_roots_are_never_merged(parts: dict[str, Any], codes: set[ReasonCode]) -> None:
    """Two domains, each trusted for itself: what one's authority certified is nothing to the other's log and names."""
    mixed = replace(THEIRS, **parts)
    hers = Signer("hers", identity(domain=THEIRS.domain), BUILDER)
    apart = Trust(
        (Signer("ci", identity(), BUILDER), hers),
        {OURS.domain: OURS.trusted_root, THEIRS.domain: THEIRS.trusted_root},
    )
    data = mixed.attest(PAYLOAD, at=NOW, subject=SUBJECT, issuer=ISSUER, tsa="tsa" in parts)
    assert set(refusal_codes(authenticate, data, trust=apart, role=Role.BUILDER, what="the claim")) == codes
    # in one file they would stand for it together
    both = merged(OURS, THEIRS)
    together = Trust((Signer("ci", identity(domain=Digest.of(both)), BUILDER),), {Digest.of(both): both})
    assert authenticate(data, trust=together, role=Role.BUILDER, what="the claim").signer.name == "ci"


def test_an_identity_belongs_to_its_domain() -> None:
    """The same subject and issuer, certified by another domain that the policy knows for somebody else."""
    theirs = THEIRS.attest(PAYLOAD, at=NOW, subject=SUBJECT, issuer=ISSUER)
    signers = (
        Signer("ci", identity(), BUILDER),
        Signer("other", identity(subject="other@mvmnix.test", domain=THEIRS.domain), BUILDER),
    )
    trust = Trust(signers, {OURS.domain: OURS.trusted_root, THEIRS.domain: THEIRS.trusted_root})
    found = refusal_codes(authenticate, theirs, trust=trust, role=Role.BUILDER, what="the claim")
    assert set(found) == {ReasonCode.SIGNER_UNKNOWN}


def test_of_two_domains_only_the_one_concerned_tells_what_is_wrong() -> None:
    data = OURS.attest(PAYLOAD, at=NOW, subject=SUBJECT, issuer=ISSUER, hooks=Hooks(promise=flip))
    signers = (Signer("ci", identity(), BUILDER), Signer("other", identity(domain=THEIRS.domain), BUILDER))
    trust = Trust(signers, {OURS.domain: OURS.trusted_root, THEIRS.domain: THEIRS.trusted_root})
    found = refusal_codes(authenticate, data, trust=trust, role=Role.BUILDER, what="the claim")
    assert found == (ReasonCode.LOG_INCLUSION,)


def test_a_revoked_bundle() -> None:
    it = Case()
    data = it.bundle()
    revoked = replace(it, revocations=Revocations(digests=frozenset({Digest.of(data)})))
    assert refused(revoked, data) == {ReasonCode.BUNDLE_REVOKED}
    assert check(it, data).digest == Digest.of(data)


def test_one_identity_in_two_roles_is_the_signer_with_the_role() -> None:
    signers = (Signer("plans", identity(), frozenset({Role.PLANNER})), Signer("builds", identity(), BUILDER))
    assert check(Case(signers=signers)).signer.name == "builds"


def test_a_user_name_of_fulcio_s_own_kind() -> None:
    """As Fulcio certifies who has neither address nor URI (oid-info.md)."""
    who = "somebody!realm.example"
    user_name = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), der.utf8(who))
    it = Case(
        hooks=Hooks(leaf=lambda it: replace(it, names=(user_name,))),
        signers=(Signer("ci", identity(subject=who), BUILDER),),
    )
    assert check(it).identity == (who, ISSUER)


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"roots": {}}, {ReasonCode.ROOT_MISMATCH}),
        ({"at_home": replace(OURS, log=THEIRS.log)}, {ReasonCode.LOG_INCLUSION}),
        ({"options": {"log": False}}, {ReasonCode.LOG_ENTRIES}),
    ],
    ids=["no root", "another log", "no entry"],
)
def test_a_key_s_signature_of_which_no_log_says_when(changes: dict[str, Any], codes: set[ReasonCode]) -> None:
    assert refused(Case(True, hooks=Hooks(entry=edited(untimed)), **changes)) == codes


def test_a_certificate_without_a_time_and_a_log_that_was_trusted_till_then() -> None:
    """Nothing says when: whether the log was trusted then is no question."""
    its = replace(OURS, log=replace(OURS.log, valid_for=EARLIER))
    signers = (Signer("ci", identity(domain=its.domain), BUILDER),)
    it = Case(at_home=its, roots={its.domain: its.trusted_root}, signers=signers, hooks=Hooks(entry=edited(untimed)))
    assert refused(it) == {ReasonCode.SIGNING_TIME}


def test_the_names_of_a_certificate_that_does_not_hold_are_not_told() -> None:
    two = (name(SUBJECT), name("other@mvmnix.test"))
    hooks = Hooks(leaf=lambda it: replace(it, names=two), scts=lambda _: ())
    assert refused(Case(hooks=hooks)) == {ReasonCode.CERTIFICATE_INVALID}


@pytest.mark.parametrize("milliseconds", [0, 1, 999])
def test_an_sct_s_time_is_in_milliseconds(milliseconds: int) -> None:
    at = NOW + timedelta(milliseconds=milliseconds)
    hooks = Hooks(leaf=lambda it: replace(it, not_before=NOW, not_after=NOW + HOUR))
    data = OURS.attest(PAYLOAD, at=at, subject=SUBJECT, issuer=ISSUER, hooks=hooks)
    assert check(Case(), data).time == NOW


def test_neither_a_root_nor_an_entry() -> None:
    assert refused(Case(roots={}, options={"log": False})) == {
        *(ReasonCode.ROOT_MISMATCH, ReasonCode.LOG_ENTRIES, ReasonCode.SIGNING_TIME)
    }


@pytest.mark.parametrize(
    ("it", "who"),
    [
        (Case(subject="other@mvmnix.test"), f"identity 'other@mvmnix.test' of the issuer '{ISSUER}'"),
        (Case(signers=(Signer("x", STRANGER.public, BUILDER),)), "the certified identity"),
        (
            Case(keyed=True, signers=(Signer("x", STRANGER.public, BUILDER),)),
            f"the key with the hint {KEY.public.hint} (sha256 {KEY.public.fingerprint.hex})",
        ),
    ],
    ids=["an identity", "no identities", "a key"],
)
def test_a_signer_that_is_not_trusted_is_named(it: Case, who: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check(it)
    assert [reason.why for reason in caught.value.reasons] == [f"{who} is not a trusted signer"]


@pytest.mark.parametrize(
    ("it", "words"),
    [
        (Case(keyed=True, roots={}), f"the trust root {OURS.domain}, which"),
        (Case(keyed=True, signers=(Signer("key", KEY.public, BUILDER),), roots={}), "(looked into: none)"),
        (
            Case(keyed=True, signers=(Signer("key", KEY.public, BUILDER),), at_home=THEIRS),
            f"(looked into: {OURS.domain})",
        ),
    ],
    ids=["the one that is needed", "none", "those that there are"],
)
def test_a_root_that_is_missing_is_named(it: Case, words: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(words)):
        check(it)


def test_a_key_that_needs_no_log_may_bring_an_entry() -> None:
    free = (Signer("key", KEY.public, BUILDER),)
    assert check(Case(keyed=True, signers=free)).time == NOW
    assert check(Case(keyed=True, signers=free, options={"log": False})).time is None
    assert refused(Case(keyed=True, signers=free, roots={})) == {ReasonCode.LOG_ENTRIES}
    assert refused(Case(keyed=True, signers=free, hooks=Hooks(promise=flip))) == {ReasonCode.LOG_INCLUSION}
    assert refused(Case(keyed=True, signers=free, hooks=Hooks(bundle=edited(twice)))) == {ReasonCode.LOG_ENTRIES}


ALONE = {"log": False, "tsa": True}


@pytest.mark.parametrize("options", [TSA, ALONE], ids=["entry and timestamp", "timestamp alone"])
def test_a_key_that_needs_no_log_may_bring_a_timestamp(options: dict[str, Any]) -> None:
    """It is looked at all the same: one that does not hold is a refusal, beside a good entry or alone."""
    it = Case(keyed=True, signers=(Signer("key", KEY.public, BUILDER),), options=options)
    found = check(it)
    assert (found.time, found.inclusion) == (NOW, Inclusion.NONE if options is ALONE else Inclusion.PROVED)
    for broken in (flip, lambda _: b"no", lambda _: THEIRS.tsa.token(b"x", NOW), lambda _: OURS.tsa.token(b"x", NOW)):
        assert refused(replace(it, hooks=Hooks(token=broken))) == {ReasonCode.SIGNING_TIME}
    assert refused(replace(it, hooks=Hooks(bundle=edited(stamped_twice)))) == {ReasonCode.SIGNING_TIME}
    late = replace(OURS, tsa=replace(OURS.tsa, valid_for=EARLIER))
    assert refused(replace(it, roots={late.domain: late.trusted_root})) == {ReasonCode.AUTHORITY_WINDOW}
    codes = {ReasonCode.SIGNING_TIME if options is ALONE else ReasonCode.LOG_ENTRIES}
    assert refused(replace(it, roots={})) == refused(replace(it, roots={THEIRS.domain: THEIRS.trusted_root})) == codes


def test_one_root_vouches_for_all_that_a_key_brings() -> None:
    """Of several with the same log, the one that knows the authority too; never one for the log, one for the time."""
    roots = [replace(OURS, tsa=THEIRS.tsa), replace(OURS, tsa=replace(OURS.tsa, valid_for=EARLIER))]
    foreign = replace(THEIRS, tsa=OURS.tsa)
    apart = {each.domain: each.trusted_root for each in (*roots, foreign)}
    free = (Signer("key", KEY.public, BUILDER),)
    it = Case(keyed=True, signers=free, options=TSA, roots=apart | {OURS.domain: OURS.trusted_root})
    assert check(it).time == NOW
    assert refused(replace(it, roots=apart)) <= {ReasonCode.SIGNING_TIME, ReasonCode.AUTHORITY_WINDOW}
    # a timestamp alone says of no log whose it is: any root whose authority made it
    assert check(replace(it, roots=apart, options=ALONE)).time == NOW


@pytest.mark.parametrize("options", [{"log": False}, ALONE], ids=["neither", "a timestamp"])
def test_a_key_s_log_is_not_replaced_by_a_timestamp(options: dict[str, Any]) -> None:
    assert refused(Case(keyed=True, options=options)) == {ReasonCode.LOG_ENTRIES}


def test_a_broken_trust_root() -> None:
    data = OURS.trusted_root[:-1]
    signers = (Signer("ci", identity(domain=Digest.of(data)), BUILDER),)
    assert refused(Case(signers=signers, roots={Digest.of(data): data})) == {ReasonCode.ROOT_MALFORMED}


@pytest.mark.parametrize(
    ("module", "name"),
    [(verification.PolicyBuilder, "build_client_verifier"), (timestamps, "_verifier")],
)
def test_whatever_a_library_raises_is_a_refusal(module: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("surprise")

    it = Case(options=TSA)
    data = it.bundle()
    monkeypatch.setattr(module, name, broken)
    with pytest.raises(RefusedError, match="surprise") as caught:
        check(it, data)
    assert caught.value.codes == (ReasonCode.UNEXPECTED,)


def test_keys_do_not_need_the_library() -> None:
    program = f"""
import base64
from mvmnix.keys import PublicKey, Role
from mvmnix.digest import Digest
from mvmnix.provenance.verify.authentication import authenticate
from mvmnix.provenance.identity.trust import Signer, Trust
key = PublicKey.from_base64({base64.b64encode(KEY.public.spki).decode()!r})
root = base64.b64decode({base64.b64encode(OURS.trusted_root).decode()!r})
trust = Trust((Signer("key", key, frozenset({{Role.BUILDER}}), Digest.of(root)),), {{Digest.of(root): root}})
bundle = base64.b64decode({base64.b64encode(Case(keyed=True).bundle()).decode()!r})
print(authenticate(bundle, trust=trust, role=Role.BUILDER, what="it").signer.name)
import sys
heavy = ("sigstore", "pydantic", "requests", "rfc3161_client")
print([name for name in sys.modules if name.partition(".")[0] in heavy])
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, check=True, cwd="/")
    assert done.stdout.decode().splitlines() == ["key", "[]"]


# How a certificate names somebody: a UTF8String in DER, with the one length that DER allows


@pytest.mark.parametrize("count", [0, 1, 5, 126, 127, 128, 129, 255, 256, 257, 4096, 65_535])
def test_a_name_of_any_length(count: int) -> None:
    head = b"" if count < 0x80 else b"\x81" if count < 0x100 else b"\x82"
    der = b"\x0c" + head + count.to_bytes(2 if head == b"\x82" else 1) + b"a" * count
    assert utf8(der) == "a" * count
    for wrong in (der + b"a", der[:-1], b"\x13" + der[1:]):
        with pytest.raises(ValueError, match="UTF-8"):
            utf8(wrong)


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x0c",
        b"\x0c\x81",
        b"\x0c\x82",
        b"\x0c\x82\x00",
        b"\x0c\x06hello",
        b"\x0c\x04hello",
        b"\x0c\x81\x05hello",
        b"\x0c\x82\x00\x05hello",
        b"\x0c\x83\x00\x00\x05hello",
        b"\x0c\x80hello\x00\x00",
        b"\x0c\x81\x81" + b"a" * 128,
        b"\x0c\x81\x7f" + b"a" * 127,
        b"\x0c\x82\x00\xff" + b"a" * 255,
        b"\x0c\x82\x01\x01" + b"a" * 256,
        b"\x0c\x83\x01\x00\x00" + b"a" * 65_536,
        b"\x0c\x82\x00\x00" + b"a" * 65_536,
        b"\x0c\x02\xc3\x28",
        b"\x16\x05hello",
    ],
    ids=lambda der: der[:8].hex() or "empty",
)
def test_what_is_no_such_name(der: bytes) -> None:
    """Cut off, too long, too short, in longer lengths than needed, of indefinite length, not UTF-8, of another type."""
    with pytest.raises(ValueError, match="another form than UTF-8"):
        utf8(der)
