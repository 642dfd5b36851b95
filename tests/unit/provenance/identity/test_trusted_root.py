"""Trust roots as they are served: what may be left out, what makes one entry unusable, what is no root at all."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.formats import strict
from mvmnix.provenance.identity import trusted_root
from mvmnix.provenance.identity.trust import Signer
from tests.private_sigstore import Window
from tests.private_sigstore.hooks import Json
from tests.private_sigstore.window import ALWAYS
from tests.support.refusals import refusal_codes
from tests.unit.provenance.forgeries import (
    BUILDER,
    KEY,
    NOW,
    OURS,
    THEIRS,
    TSA,
    Case,
    drop,
    edited,
    encoded,
    identity,
    put,
)
from tests.unit.provenance.versions import check, refused

LISTS = ("tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities")


def under(change: Callable[[Json], Any], keyed: bool = False, root: bytes = OURS.trusted_root, **more: Any) -> Case:
    """A good bundle of certificate and timestamp, or of a key, before a root that is changed."""
    data = strict.canonical(edited(change)(json.loads(root)))
    domain = Digest.of(data)
    signers = (Signer("ci", identity(domain=domain), BUILDER), Signer("key", KEY.public, BUILDER, domain))
    options = {} if keyed else TSA
    return Case(keyed, options=options, signers=signers, roots={domain: data}, **more)


def each(*path: str | int, to: Any = None, gone: bool = False) -> Callable[[Json], None]:
    """That field of every entry of the lists that have it."""

    def change(it: Json) -> None:
        for name in LISTS:
            for entry in it[name]:
                here = entry
                for step in path[:-1]:
                    here = here.get(step, {})
                if path[-1] in here:
                    if gone:
                        del here[path[-1]]
                    else:
                        here[path[-1]] = to

    return change


#: What Protobuf leaves out where it is empty, and `null`, which stands for the same.
ABSENT = [
    ("baseUrl",),
    ("hashAlgorithm",),
    ("logId",),
    ("subject",),
    ("subject", "organization"),
    ("subject", "commonName"),
    ("uri",),
]


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("path", ABSENT, ids=".".join)
def test_what_may_be_left_out(path: tuple[str, ...], keyed: bool) -> None:
    for change in (each(*path, gone=True), each(*path, to=None)):
        assert check(under(change, keyed)).time == NOW


@pytest.mark.parametrize("path", [("baseUrl",), ("uri",), ("subject",)])
def test_what_may_be_empty(path: tuple[str, ...]) -> None:
    empty: Any = "" if path[-1] in {"baseUrl", "uri"} else {}
    assert check(under(each(*path, to=empty))).time == NOW


def test_what_may_be_added() -> None:
    assert check(under(each("operator", to="x"))).time == NOW

    def more(it: Json) -> None:
        it["tlogs"][0] |= {"operator": "somebody", "checkpointKeyId": {"keyId": encoded(bytes(4))}}

    assert check(under(more)).time == NOW


#: How an entry of each list can be one that vouches for nothing.
UNUSABLE: dict[str, list[Callable[[Json], Any]]] = {
    "tlogs": [
        put("PKIX_ML_DSA_65", "publicKey", "keyDetails"),
        put("PKIX_ED25519", "publicKey", "keyDetails"),
        put("SHA3_512", "hashAlgorithm"),
        put(encoded(b"no key"), "publicKey", "rawBytes"),
        drop("publicKey", "keyDetails"),
        drop("publicKey", "rawBytes"),
        put({"validFor": ALWAYS.to_json()}, "publicKey"),
    ],
    "certificateAuthorities": [
        put(encoded(b"no certificate"), "certChain", "certificates", 0, "rawBytes"),
        put([], "certChain", "certificates"),
        put({}, "certChain"),
        drop("certChain"),
    ],
}
UNUSABLE["ctlogs"] = UNUSABLE["tlogs"]
UNUSABLE["timestampAuthorities"] = UNUSABLE["certificateAuthorities"]
CODES = {
    "tlogs": {Code.LOG_INCLUSION},
    "certificateAuthorities": {Code.CERTIFICATE_INVALID},
    "ctlogs": {Code.CERTIFICATE_INVALID},
    "timestampAuthorities": {Code.SIGNING_TIME},
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("number", range(7))
def test_an_unusable_entry_takes_nothing_from_the_others(name: str, number: int) -> None:
    """Alone it vouches for nothing; beside a good one it does no harm, in either order."""
    if number >= len(UNUSABLE[name]):
        return
    change = UNUSABLE[name][number]

    def alone(it: Json) -> None:
        it[name][0] = change(it[name][0])

    def before(it: Json) -> None:
        it[name].insert(0, change(json.loads(THEIRS.trusted_root)[name][0]))

    def behind(it: Json) -> None:
        it[name].append(change(json.loads(THEIRS.trusted_root)[name][0]))

    assert refused(under(alone)) == CODES[name]
    for beside in (before, behind):
        assert check(under(beside)).time == NOW


@pytest.mark.parametrize("bounds", [None, {}, {"start": None}, {"end": "2100-01-01T00:00:00Z"}, {"start": ""}], ids=str)
@pytest.mark.parametrize("name", LISTS)
def test_each_entry_says_since_when_it_is_trusted(name: str, bounds: Json | None) -> None:
    """No start is not "always": not in the entry that vouches, nor in one beside it that nobody asks."""
    where = ("publicKey", "validFor") if name.endswith("logs") else ("validFor",)

    def unbounded(it: Json) -> Json:
        entry: Json = (drop(*where) if bounds is None else put(bounds, *where))(it[name][0])
        return entry

    def instead(it: Json) -> None:
        it[name][0] = unbounded(it)

    def beside(it: Json) -> None:
        it[name].append(unbounded(json.loads(THEIRS.trusted_root)))

    for change in (instead, beside):
        for keyed in (False, True):
            assert refused(under(change, keyed)) == {Code.ROOT_MALFORMED}


def test_the_lists_of_a_root_are_these() -> None:
    """A list that the format gains, and whose entries say from when to when, belongs into the tests above."""
    root = trusted_root.parse(OURS.trusted_root)
    windows = [each for each in dataclasses.fields(root) if hasattr(getattr(root, each.name)[0], "window")]
    assert len(windows) == len(dataclasses.fields(root)) == len(LISTS)


@pytest.mark.parametrize(
    "change",
    [
        put("application/x", "mediaType"),
        drop("mediaType"),
        put(1, "more"),
        put(1, "tlogs", 0, "more"),
        put(1, "certificateAuthorities", 0, "more"),
        put(1, "tlogs", 0, "checkpointKeyId"),
        put({"keyId": ""}, "tlogs", 0, "checkpointKeyId"),
        put({"more": 1}, "certificateAuthorities", 0, "subject"),
        put({"commonName": 1}, "timestampAuthorities", 0, "subject"),
        put({}, "tlogs"),
        put([1], "tlogs"),
        put("x", "tlogs", 0, "publicKey", "rawBytes"),
        put("", "tlogs", 0, "logId", "keyId"),
        put(1, "tlogs", 0, "hashAlgorithm"),
        drop("tlogs", 0, "publicKey"),
        drop("ctlogs", 0, "publicKey"),
        put("yesterday", "tlogs", 0, "publicKey", "validFor", "start"),
        put("2021-01-01T00:00:00+01:00", "certificateAuthorities", 0, "validFor", "start"),
        put([{}] * 65, "ctlogs"),
        put([{}] * 17, "certificateAuthorities", 0, "certChain", "certificates"),
    ],
)
def test_what_is_no_root(change: Callable[[Json], Json]) -> None:
    data = strict.canonical(change(json.loads(OURS.trusted_root)))
    assert set(refusal_codes(trusted_root.parse, data)) == {Code.ROOT_MALFORMED}


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("part", ["log", "ca", "ct", "tsa"])
@pytest.mark.parametrize(
    ("window", "good"),
    [
        (Window(NOW, NOW), True),
        (Window(NOW, None), True),
        (Window(end=NOW), True),
        (Window(NOW + SECOND, None), False),
        (Window(end=NOW - SECOND), False),
    ],
)
def test_a_window_includes_its_ends(part: str, window: Window, good: bool) -> None:
    parts: dict[str, Any] = {part: replace(getattr(OURS, part), valid_for=window)}
    it = under(lambda _: None, root=replace(OURS, **parts).trusted_root)
    assert check(it).time == NOW if good else refused(it) == {Code.AUTHORITY_WINDOW}


def test_a_timestamp_authority_of_one_certificate() -> None:
    """Its leaf would be its own root."""

    def first_alone(it: Json) -> None:
        chain = it["timestampAuthorities"][0]["certChain"]
        chain["certificates"] = chain["certificates"][:1]

    with pytest.raises(RefusedError, match="the authority has one certificate instead of a chain") as caught:
        check(under(first_alone))
    assert set(caught.value.codes) == {Code.SIGNING_TIME}
