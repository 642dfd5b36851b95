"""Bundles and statements: written in one way only, read strictly."""

import base64
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mvmnix import strict
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.keys import Algorithm, PrivateKey
from mvmnix.model import Digest
from mvmnix.provenance import envelope, statement
from mvmnix.provenance.material import Material
from mvmnix.provenance.statement import Statement, Subject

KEY = PrivateKey.generate()
STATEMENT = Statement((Subject("a", Digest.of(b"a")), Subject("b", Digest.of(b"b"))), "urn:x", {"k": [1, None, "é"]})
SIGNED = envelope.sign(STATEMENT.to_bytes(), KEY).to_bytes()
type Change = Callable[[Any], object]


@pytest.mark.parametrize("algorithm", Algorithm)
def test_sign_and_read_back(algorithm: Algorithm) -> None:
    key = PrivateKey.generate(algorithm)
    bundle = envelope.sign(STATEMENT.to_bytes(), key)
    again = envelope.parse(bundle.to_bytes())
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
    value = strict.parse_json(envelope.sign(STATEMENT.to_bytes(), KEY).to_bytes())
    change(value)
    return strict.canonical(value)


def put(value: object, *path: str | int) -> Change:
    def change(it: Any) -> None:
        for step in path[:-1]:
            it = it[step]
        it[path[-1]] = value

    return change


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
    with pytest.raises(RefusedError) as caught:
        envelope.parse(changed(change))
    assert set(caught.value.codes) == {code}


@pytest.mark.parametrize("change", [put([], "verificationMaterial", "tlogEntries"), lambda it: None])
def test_foreign_spellings_that_mean_the_same_are_read(change: Change) -> None:
    assert envelope.parse(changed(change) + b"\n").payload == STATEMENT.to_bytes()


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "LIMIT", 10)
    with pytest.raises(RefusedError, match="larger than 10 bytes"):
        envelope.parse(b" " * 11)


def test_a_large_payload_passes() -> None:
    bundle = envelope.sign(b"x" * 2**20, KEY)
    assert envelope.parse(bundle.to_bytes()) == bundle


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
        envelope.parse(data)
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
    with pytest.raises(RefusedError) as caught:
        statement.parse(strict.canonical(value))
    assert set(caught.value.codes) == {ReasonCode.STATEMENT_MALFORMED}
