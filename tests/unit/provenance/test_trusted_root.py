"""A trusted_root.json is read whole, or refused with what is wrong in it; and when each part of it is trusted."""

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.keys import Algorithm, PrivateKey
from mvmnix.provenance import trusted_root
from mvmnix.provenance.log_key import LogKey
from mvmnix.provenance.trusted_root import Authority, Log, TrustedRoot, Window
from tests.unit.provenance.forgeries import encoded
from tests.unit.provenance.spoiling import spoiled

KEY = PrivateKey.generate(Algorithm.ECDSA_P256)
START, END = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2027, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)
WINDOW = {"start": "2026-01-02T03:04:05Z", "end": "2027-01-02T03:04:05.5Z"}


def a_log(number: int) -> Any:
    return {
        "baseUrl": "https://log.test",
        "hashAlgorithm": "SHA2_256",
        "operator": "somebody",
        "logId": {"keyId": encoded(b"id %d" % number)},
        "checkpointKeyId": {"keyId": encoded(b"other")},
        "publicKey": {
            "rawBytes": encoded(KEY.public.spki),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": WINDOW,
        },
    }


def an_authority(number: int) -> Any:
    return {
        "subject": {"organization": "somebody", "commonName": "it"},
        "uri": "https://authority.test",
        "operator": "somebody",
        "certChain": {"certificates": [{"rawBytes": encoded(b"certificate %d" % number)}]},
        "validFor": WINDOW,
    }


ROOT: Any = {
    "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "tlogs": [a_log(1)],
    "certificateAuthorities": [an_authority(1)],
    "ctlogs": [a_log(2)],
    "timestampAuthorities": [an_authority(2)],
}
OPTIONAL = {
    *("tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities", "s.0", "operator", "checkpointKeyId"),
    *("validFor", "start", "end", "subject", "organization", "commonName", "uri"),
}


def read(value: Any) -> TrustedRoot:
    return trusted_root.parse(json.dumps(value).encode())


def test_what_is_read() -> None:
    window, key = Window(START, END), LogKey(KEY.public.spki, "PKIX_ECDSA_P256_SHA_256")
    logs = [Log(b"id %d" % number, key, window) for number in (1, 2)]
    authorities = [Authority((b"certificate %d" % number,), window) for number in (1, 2)]
    found = read(ROOT)
    assert found == TrustedRoot((logs[0],), (authorities[0],), (logs[1],), (authorities[1],))
    assert (found.log(b"id 1"), found.log(b"id 2"), found.newest) == (logs[0], None, START)


def test_what_may_be_missing() -> None:
    bare = copy.deepcopy(ROOT)
    for it in (*bare["tlogs"], *bare["ctlogs"]):
        del it["operator"], it["checkpointKeyId"], it["publicKey"]["validFor"]
    for it in (*bare["certificateAuthorities"], *bare["timestampAuthorities"]):
        del it["subject"], it["uri"], it["operator"], it["validFor"]
    found = read(bare)
    assert {
        one.window for each in (found.logs, found.authorities, found.ct_logs, found.timestamping) for one in each
    } == {Window()}
    assert found.newest is None
    assert read({"mediaType": ROOT["mediaType"]}) == TrustedRoot((), (), (), ())


SPOILED = dict(spoiled(ROOT, optional=OPTIONAL)) | {
    "no certificate": ROOT | {"timestampAuthorities": [an_authority(1) | {"certChain": {"certificates": []}}]},
    "another media type": ROOT | {"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.2"},
    "another hash": ROOT | {"tlogs": [a_log(1) | {"hashAlgorithm": "SHA2_512"}]},
    "a time elsewhere": ROOT
    | {
        "ctlogs": [
            a_log(1) | {"publicKey": {**a_log(1)["publicKey"], "validFor": {"start": "2026-01-02T03:04:05+01:00"}}}
        ]
    },
    "a time without a zone": ROOT
    | {"certificateAuthorities": [an_authority(1) | {"validFor": {"end": "2026-01-02T03:04:05"}}]},
}


@pytest.mark.parametrize("value", SPOILED.values(), ids=SPOILED)
def test_nothing_else_in_any_place(value: Any) -> None:
    with pytest.raises(RefusedError) as refused:
        read(value)
    assert set(refused.value.codes) == {ReasonCode.ROOT_MALFORMED}


def test_when_it_is_trusted() -> None:
    """From its start to its end, both included."""
    moment = timedelta(microseconds=1)
    for when, holds in ((START - moment, False), (START, True), (END, True), (END + moment, False)):
        assert read(ROOT).at(when) == ((holds,),) * 4
        assert Window(START, None).holds(when) is (when >= START)
        assert Window(None, END).holds(when) is (when <= END)
        assert Window().holds(when)


@pytest.mark.parametrize(
    ("algorithm", "details"),
    [(Algorithm.ECDSA_P256, "PKIX_ECDSA_P256_SHA_256"), (Algorithm.ED25519, "PKIX_ED25519")],
)
def test_a_log_s_key(algorithm: Algorithm, details: str) -> None:
    key = PrivateKey.generate(algorithm)
    signature = key.sign(b"it")
    it = LogKey(key.public.spki, details)
    assert it.verified(b"it", signature) == b"it"
    with pytest.raises(ValueError, match="did not make the signature"):
        it.verified(b"other", signature)
    others = {"PKIX_ECDSA_P256_SHA_256", "PKIX_ECDSA_P384_SHA_384", "PKIX_ED25519", "PKIX_RSA_PSS"} - {details}
    for other in others:
        with pytest.raises(ValueError, match="is not one of the kind"):
            LogKey(key.public.spki, other).verified(b"it", signature)
    with pytest.raises(ValueError):
        LogKey(b"no key", details).verified(b"it", signature)


def test_a_log_s_key_of_another_curve() -> None:
    """prime192v2 (RFC 5480), which the library doesn't have."""
    spki = KEY.public.spki.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030102"))
    with pytest.raises(ValueError, match="of a kind that nobody here knows"):
        LogKey(spki, "PKIX_ECDSA_P256_SHA_256").verified(b"it", KEY.sign(b"it"))
