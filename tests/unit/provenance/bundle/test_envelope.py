"""Bundles and statements: written in one way only, read strictly."""

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats import strict
from mvmnix.keys import Algorithm, PrivateKey
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.bundle.statement import Statement, Subject
from mvmnix.provenance.bundle.verification_material import LogEntry, Material, Proof
from tests.support.refusals import refusal_codes
from tests.unit.provenance.world import Change, put

KEY = PrivateKey.generate()
STATEMENT = Statement((Subject("a", Digest.of(b"a")), Subject("b", Digest.of(b"b"))), "urn:x", {"k": [1, None, "é"]})
SIGNED = envelope.sign(STATEMENT.to_bytes(), KEY).to_bytes()


@pytest.mark.parametrize("algorithm", Algorithm)
def test_sign_and_read_back(algorithm: Algorithm) -> None:
    key = PrivateKey.generate(algorithm)
    bundle = envelope.sign(STATEMENT.to_bytes(), key)
    again = envelope.parse_bundle(bundle.to_bytes())
    assert again == bundle
    assert again.material.hint == key.public.hint == base64.b64encode(key.public.fingerprint.raw).decode()
    assert key.public.verified(again.signed_bytes, again.signature) == again.signed_bytes
    assert statement.parse(again.payload) == STATEMENT
    assert bundle.digest == Digest.of(bundle.to_bytes())


def test_the_exact_bytes() -> None:
    bundle = envelope.Bundle(b"{}", "application/vnd.in-toto+json", b"\1\2\3", Material("h"))
    assert bundle.to_bytes() == (
        b'{"dsseEnvelope":{"payload":"e30=","payloadType":"application/vnd.in-toto+json",'
        b'"signatures":[{"keyid":"","sig":"AQID"}]},"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",'
        b'"verificationMaterial":{"publicKey":{"hint":"h"}}}'
    )


def changed(change: Change) -> bytes:
    value: Any = strict.parse_json(SIGNED)
    change(value)
    return strict.canonical(value)


def twice(it: Any) -> None:
    it["dsseEnvelope"]["signatures"] *= 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (put("application/vnd.dev.sigstore.bundle.v0.2+json", "mediaType"), ReasonCode.BUNDLE_MALFORMED),
        (put("application/vnd.dev.sigstore.bundle.v0.3Xjson", "mediaType"), ReasonCode.BUNDLE_MALFORMED),
        (put(1, "more"), ReasonCode.BUNDLE_MALFORMED),
        (put({}, "verificationMaterial"), ReasonCode.BUNDLE_MALFORMED),
        (put({"rawBytes": "AAAA"}, "verificationMaterial", "certificate"), ReasonCode.BUNDLE_MALFORMED),
        (put([{}], "verificationMaterial", "tlogEntries"), ReasonCode.BUNDLE_MALFORMED),
        (put("short", "verificationMaterial", "publicKey", "hint"), ReasonCode.BUNDLE_MALFORMED),
        (put("a key", "dsseEnvelope", "signatures", 0, "keyid"), ReasonCode.BUNDLE_MALFORMED),
        (put("AQI=\n", "dsseEnvelope", "signatures", 0, "sig"), ReasonCode.BUNDLE_MALFORMED),
        (put("AQJ=", "dsseEnvelope", "signatures", 0, "sig"), ReasonCode.BUNDLE_MALFORMED),
        (put("!", "dsseEnvelope", "payload"), ReasonCode.BUNDLE_MALFORMED),
        (twice, ReasonCode.BUNDLE_MALFORMED),
        (put([], "dsseEnvelope", "signatures"), ReasonCode.UNSIGNED),
        (put("", "dsseEnvelope", "signatures", 0, "sig"), ReasonCode.UNSIGNED),
    ],
)
def test_refused(change: Change, code: ReasonCode) -> None:
    assert set(refusal_codes(envelope.parse_bundle, changed(change))) == {code}


@pytest.mark.parametrize("change", [put([], "verificationMaterial", "tlogEntries"), lambda it: None])
def test_foreign_spellings_that_mean_the_same_are_read(change: Change) -> None:
    assert envelope.parse_bundle(changed(change) + b"\n").payload == STATEMENT.to_bytes()


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "BUNDLE_LIMIT", 10)
    with pytest.raises(RefusedError, match="larger than 10 bytes"):
        envelope.parse_bundle(b" " * 11)


def test_how_many_subjects_a_statement_has() -> None:
    subjects = tuple(Subject(f"file-{number}", Digest.of(b"it")) for number in range(1025))
    most = Statement(subjects[:1024], "urn:x", {})
    assert statement.parse(most.to_bytes()) == most
    with pytest.raises(RefusedError, match="subject: not an array of at most 1024 values"):
        statement.parse(Statement(subjects, "urn:x", {}).to_bytes())


def test_a_large_payload_passes() -> None:
    bundle = envelope.sign(b"x" * 2**20, KEY)
    assert envelope.parse_bundle(bundle.to_bytes()) == bundle


@given(changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 2), st.binary(max_size=2)), max_size=3))
@example(changes=[])
def test_what_is_cut_out_to_read_it_faster_is_read_alike(changes: list[tuple[int, int, bytes]]) -> None:
    data = SIGNED
    for place, gone, more in changes:
        at = place % (len(data) + 1)
        data = data[:at] + more + data[at + gone :]
    # a space before it makes it nobody's canonical bytes, which are read as a whole
    assert outcome(envelope.read, data) == outcome(envelope.read, b" " + data)
    assert outcome(envelope.read_foreign, data) == outcome(envelope.read_foreign, b" " + data)


@pytest.mark.parametrize(
    "payload",
    [
        "=",
        "====",
        "e30",
        "e31=",
        "e3 0=",
        "e30=\\n",
        "\\u0065",
        "é",
        "\\",
        '","payload":"',
        "[" * 99,
        "e30=\x00",
        "e30-",
    ],
)
def test_a_payload_with_other_characters_than_its_base64_is_refused(payload: str) -> None:
    canonical = envelope.Bundle(b"", "application/vnd.in-toto+json", b"\1", Material("h" * 43 + "=")).to_bytes()
    data = canonical.replace(b'"payload":""', b'"payload":"%s"' % payload.encode())
    with pytest.raises(RefusedError):
        envelope.parse_bundle(data)
    assert outcome(envelope.read, data) == outcome(envelope.read, b" " + data)


def outcome(read: Callable[[bytes], tuple[object, bytes]], data: bytes) -> object:
    try:
        return read(data)
    except RefusedError as error:
        # the space moves what JSON complains of by one
        return [(reason.code, re.sub("[0-9]+", "N", reason.why)) for reason in error.reasons]


def test_canonical_bytes_are_taken_as_they_are() -> None:
    assert envelope.read(SIGNED)[1] is SIGNED
    for other in (SIGNED + b"\n", SIGNED.replace(b'"keyid":"",', b""), SIGNED.replace(b'":', b'": ')):
        assert envelope.read(other)[1] == SIGNED


def test_a_statement_has_canonical_bytes() -> None:
    assert STATEMENT.to_bytes().startswith(
        b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"k":[1,null,"\\u00e9"]}'
    )
    assert statement.parse(STATEMENT.to_bytes()).to_bytes() == STATEMENT.to_bytes()


@pytest.mark.parametrize("predicate", [None, [], "x", 1])
def test_a_predicate_is_an_object(predicate: object) -> None:
    value = strict.parse_json(STATEMENT.to_bytes())
    assert isinstance(value, dict)
    value["predicate"] = predicate
    assert set(refusal_codes(statement.parse, strict.canonical(value))) == {ReasonCode.STATEMENT_MALFORMED}


ENTRY = LogEntry(
    7, b"log", "dsse", "0.0.1", 1_700_000_000, b"promise", Proof(3, 9, b"root", (b"h", b"i"), "log\n\u2014 x\n"), b"b"
)
KEYLESS = envelope.Bundle(b"{}", "x/y", b"\1\2\3", Material(certificate=b"DER", entries=(ENTRY,)))
#: What may stand in the place of any value of a bundle.
ODD: tuple[object, ...] = (
    *(None, True, 0, 7, 1.5, {}, [], [None], {"a": 1}, "\0", "\ud800", "\udcff", "a b", "é", "z" * 33, "!" * 256),
    *("", "A", "AA", "AA==", "AB==", "-_-_", "AAAA\n", "AAAA", "AAAA" * 20_000, "n" * 16_385, "0.0.1"),
    *("0", "01", "-1", "+1", "1.0", "\u0661", "9" * 19, str(2**63 - 1), str(2**63)),
    *(["AAAA"] * 63, ["AAAA"] * 64, [""], [{"keyid": "", "sig": "AQID"}] * 2),
)  # fmt: skip


def places(value: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """The way to each value in a value of JSON."""
    if path:
        yield path
    for step in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[step], *path, step)


def altered() -> Iterator[bytes]:
    """The keyless bundle with one value changed, added or gone, and in other spellings of the same."""
    whole = KEYLESS.to_bytes()
    yield from (
        whole,
        whole + b" ",
        b" " + whole,
        b"\xef\xbb\xbf" + whole,
        whole[:-1],
        whole.replace(b"\\u2014", "\u2014".encode()),
    )
    yield whole.replace(b'"mediaType"', b'"mediaType":"x","mediaType"')
    yield whole.replace(b'"payloadType"', b'"payload":"","payloadType"')
    for path in [*places(strict.parse_json(whole))]:
        for odd in ODD:
            value: Any = strict.parse_json(whole)
            put(odd, *path)(value)
            yield strict.canonical(value)
        for spare in ("timestampVerificationData", "x509CertificateChain", "publicKey", "a", "zz"):
            value = strict.parse_json(whole)
            put({}, *path[:-1], spare if isinstance(path[-1], str) else path[-1])(value)
            yield strict.canonical(value)


def test_what_is_read_at_once_is_read_as_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyless bundle as mvm writes it is read without naming problems, which takes nothing that is refused else."""
    assert outcome(envelope.read, KEYLESS.to_bytes()) == (KEYLESS, KEYLESS.to_bytes())
    found = {data: outcome(envelope.read, data) for data in altered()}
    monkeypatch.setattr(envelope, "_quick", lambda _payload, _rest: None)
    assert {data: outcome(envelope.read, data) for data in found} == found


def test_how_large_a_bundle_may_be() -> None:
    """24 MiB; what stands around the JSON counts."""
    assert envelope.read_foreign(SIGNED + b" " * ((24 << 20) - len(SIGNED)))
    found = refusal_codes(envelope.read_foreign, SIGNED + b" " * ((24 << 20) - len(SIGNED) + 1))
    assert found == (ReasonCode.BUNDLE_MALFORMED,)
