"""Each kind of log entry, of certificates and of keys: what the log vouches for, and every field of it changed."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.provenance.bundle.verification_material import Inclusion
from tests.private_sigstore import Hooks, Json, entry_of
from tests.private_sigstore.bodies import (
    Body,
    dsse_2_body,
    dsse_body,
    hashedrekord_2_body,
    intoto_1_body,
    intoto_2_body,
)
from tests.unit.provenance.forgeries import (
    KEY,
    MODES,
    NOW,
    PAYLOAD,
    STRANGER,
    Case,
    edited,
    encoded,
    flip,
    put,
    untimed,
)
from tests.unit.provenance.versions import check, refused

KINDS: dict[str, Body] = {
    "dsse 0.0.1": dsse_body,
    "dsse 0.0.2": dsse_2_body,
    "intoto 0.0.1": intoto_1_body,
    "intoto 0.0.2": intoto_2_body,
    "hashedrekord 0.0.2": hashedrekord_2_body,
}
#: Kinds of Rekor's second version: their entries have neither promise nor time, so that a timestamp tells it.
SECOND = {"dsse 0.0.2", "hashedrekord 0.0.2"}
#: What a log's client can't recompute, and what means nothing: hashes over the signer's own formatting, a key's kind.
#: A change of it passes; docs/reference/verify.md says so.
UNCHECKED = {
    "dsse 0.0.1": {"spec.envelopeHash.value"},
    "intoto 0.0.2": {"spec.content.hash.value"},
    "dsse 0.0.2": {"spec.dsseV002.signatures.0.verifier.keyDetails"},
    "hashedrekord 0.0.2": {"spec.hashedRekordV002.signature.verifier.keyDetails"},
}


def made(kind: str, keyed: bool, **hooks: Any) -> Case:
    second = kind in SECOND
    entry = {"entry": edited(untimed)} if second else {}
    options = {"kind": KINDS[kind], "tsa": second and not keyed}
    return Case(keyed, hooks=Hooks(**entry | hooks), options=options)


def body_of(kind: str, keyed: bool) -> Json:
    body: Json = json.loads(base64.b64decode(entry_of(made(kind, keyed).bundle())["canonicalizedBody"]))
    return body


def leaves(value: Any, here: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the texts of a JSON value stand."""
    if isinstance(value, str):
        yield here
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from leaves(each, (*here, key))


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def changes(text: str) -> Iterator[str]:
    """Other texts of the same form, where it has one, and none."""
    if text.startswith("PKIX"):
        yield "PKIX_ED25519"
        return
    yield text[:-1] + ("0" if text[-1] != "0" else "1")
    yield text + "x"
    yield ""
    if len(text) == 64 and not text.endswith("="):
        yield "0" * 64
        return
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return
    # in the middle: the newline at the end of a PEM is not part of the key
    yield encoded(flip(raw[: len(raw) // 2]) + raw[len(raw) // 2 :])


@pytest.mark.parametrize("keyed", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_good_passes(kind: str, keyed: bool) -> None:
    found = check(made(kind, keyed))
    assert found.signer.name == ("key" if keyed else "ci")
    assert found.inclusion is Inclusion.PROVED
    assert found.time == (None if keyed and kind in SECOND else NOW)


@pytest.mark.parametrize("keyed", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_body_is_looked_at(kind: str, keyed: bool) -> None:
    """Body, promise, proof and checkpoint are made anew each time: the log holds the changed entry."""
    body = body_of(kind, keyed)
    passed = set()
    for path in leaves(body):
        for text in changes(at(body, path)):
            it = made(kind, keyed, body=put(text, *path))
            try:
                check(it)
            except RefusedError as error:
                assert set(error.codes) <= {ReasonCode.LOG_ENTRY_MISMATCH, ReasonCode.BUNDLE_MALFORMED}, (path, text)
            else:
                passed.add(".".join(map(str, path)))
    assert passed == UNCHECKED.get(kind, set())


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_has_no_other_fields_and_all_of_its_own(kind: str) -> None:
    body = body_of(kind, True)
    optional = {"intoto 0.0.1": {("spec", "content", "payloadHash")}, "intoto 0.0.2": {("spec", "content", "hash")}}
    for path in {each[:depth] for each in leaves(body) for depth in range(1, len(each) + 1)}:
        if isinstance(at(body, path), dict):
            assert refused(made(kind, True, body=put(1, *path, "more"))) == {ReasonCode.LOG_ENTRY_MISMATCH}
        if path in optional.get(kind, set()):
            check(made(kind, True, body=without(path)))
        elif isinstance(path[-1], str):
            # without a time: a body that names no kind is taken in as another one, which may have none
            it = made(kind, True, body=without(path), entry=edited(untimed))
            assert refused(it) == {ReasonCode.LOG_ENTRY_MISMATCH}, path


def without(path: tuple[str | int, ...]) -> Callable[[Json], Json]:
    def change(it: Json) -> None:
        del at(it, path[:-1])[path[-1]]

    return edited(change)


@pytest.mark.parametrize("keyed", MODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "other",
    [
        lambda content, verifier: (content | {"payload": encoded(PAYLOAD + b" ")}, verifier),
        lambda content, verifier: (content | {"signatures": [{"keyid": "", "sig": encoded(b"another")}]}, verifier),
        lambda content, _: (content, STRANGER.public.pem.encode()),
        lambda content, verifier: (content | {"signatures": content["signatures"] * 2}, verifier),
    ],
    ids=["payload", "signature", "key", "two signatures"],
)
def test_an_entry_about_something_else(kind: str, keyed: bool, other: Any) -> None:
    if kind == "hashedrekord 0.0.2" and other({"signatures": [1]}, b"")[0]["signatures"] == [1, 1]:
        return  # it has room for one signature only
    it = made(kind, keyed)
    options = {**it.options, "kind": lambda content, verifier: KINDS[kind](*other(content, verifier))}
    assert refused(Case(keyed, hooks=it.hooks, options=options)) == {ReasonCode.LOG_ENTRY_MISMATCH}


@pytest.mark.parametrize("keyed", MODES)
def test_the_payload_type_of_an_intoto_entry(keyed: bool) -> None:
    """The signature is over the type in the envelope; the entry has to say the same."""
    it = made("intoto 0.0.2", keyed, body=put("application/json", "spec", "content", "envelope", "payloadType"))
    assert refused(it) == {ReasonCode.LOG_ENTRY_MISMATCH}


@pytest.mark.parametrize("keyed", MODES)
@pytest.mark.parametrize("key_id", ["", "some name", 'a "quoted" one'])
def test_the_forms_of_an_envelope_that_only_its_hash_names(keyed: bool, key_id: str) -> None:
    """Kind intoto 0.0.1: in Go's order with any key ID, or sorted; in another formatting it names nothing known."""

    def named(it: Json) -> None:
        it["signatures"][0]["keyid"] = key_id

    def sorted_keys(content: Json, verifier: bytes) -> Json:
        body = intoto_1_body(content, verifier)
        form = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        return put(Digest.of(form).hex, "spec", "content", "hash", "value")(body)

    def spaced(content: Json, verifier: bytes) -> Json:
        form = json.dumps(content).encode()
        return put(Digest.of(form).hex, "spec", "content", "hash", "value")(intoto_1_body(content, verifier))

    for kind, codes in ((intoto_1_body, set()), (sorted_keys, set()), (spaced, {ReasonCode.LOG_ENTRY_MISMATCH})):
        it = Case(keyed, hooks=Hooks(content=edited(named)), options={"kind": kind})
        assert check(it).inclusion is Inclusion.PROVED if not codes else refused(it) == codes


def test_an_envelope_hash_alone_names_no_key() -> None:
    """Kind intoto 0.0.1 has the key beside the hash: it has to be the one that signed."""
    stranger = encoded(STRANGER.public.pem.encode())
    assert refused(made("intoto 0.0.1", True, body=put(stranger, "spec", "publicKey"))) == {
        ReasonCode.LOG_ENTRY_MISMATCH
    }
    assert KEY.public != STRANGER.public


@pytest.mark.parametrize("keyed", MODES)
@pytest.mark.parametrize("kind", sorted(SECOND))
def test_entries_of_the_second_version_have_no_time(kind: str, keyed: bool) -> None:
    """Rekor's second version promises none; an entry that brings one is refused, with a timestamp beside it or not."""
    for tsa in (False, True):
        it = Case(keyed, options={"kind": KINDS[kind], "tsa": tsa})
        assert refused(it) == {ReasonCode.SIGNING_TIME}
    it = Case(keyed, hooks=Hooks(entry=edited(untimed)), options={"kind": KINDS[kind]})
    if keyed:
        assert check(it).time is None
    else:
        assert refused(it) == {ReasonCode.SIGNING_TIME}
    assert check(replace(it, options={**it.options, "tsa": True})).time == NOW
