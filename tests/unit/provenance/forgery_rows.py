"""The table of forgeries, by the step of authentication.py and transparency.py that has to notice each."""

import base64
from dataclasses import replace

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mvmnix.errors import ReasonCode as Code
from mvmnix.keys import Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.envelope import MEDIA_TYPE
from mvmnix.provenance.identity.trust import Identity, Pattern, Revocations, Signer
from tests.private_sigstore import Hooks, Json, Window, name
from tests.private_sigstore.bodies import dsse_2_body, hashedrekord_2_body
from tests.private_sigstore.der import utf8
from tests.unit.provenance.forgeries import (
    BUILDER,
    EARLIER,
    HOUR,
    ISSUER,
    KEY,
    KEYED,
    KEYLESS,
    LATER,
    NOW,
    OURS,
    PAYLOAD,
    SPAN,
    STRANGER,
    SUBJECT,
    THEIRS,
    TSA,
    Row,
    blob_entry,
    by_sha384,
    case,
    drop,
    edited,
    encoded,
    fields,
    flip,
    foreign_entry,
    home,
    hooks,
    hooks_and,
    identity,
    in_a_chain,
    leaf,
    of_a_stranger,
    of_another,
    of_no_version,
    other_hashes,
    other_scts,
    other_signature,
    put,
    resigned_checkpoint,
    sct,
    signatures,
    spaced_body,
    stamped_over,
    stamped_twice,
    twice,
    unpromised,
    untimed,
    window,
    within,
)

MALFORMED, TIME, LOG = {Code.BUNDLE_MALFORMED}, {Code.SIGNING_TIME}, {Code.LOG_INCLUSION}
BODY, WINDOW, FORGED = {Code.LOG_ENTRY_MISMATCH}, {Code.AUTHORITY_WINDOW}, {Code.SIGNATURE_INVALID}
CERTIFICATE, NAMES, UNKNOWN = {Code.CERTIFICATE_INVALID}, {Code.IDENTITY_MALFORMED}, {Code.SIGNER_UNKNOWN}

HOST = frozenset({Role.HOST})
#: A name as a certificate of Windows has it, not as Fulcio does.
OTHER_NAME = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), utf8(SUBJECT))
#: Of the text that is trusted, and of another kind.
URI = x509.UniformResourceIdentifier(SUBJECT)
USER_NAME = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), utf8(SUBJECT))
LONG = x509.UniformResourceIdentifier(f"urn:{'a' * 1021}")
#: Another certificate that the same instance gave the same subject.
OTHERS = envelope.parse_bundle(OURS.attest(PAYLOAD, at=NOW, subject=SUBJECT, issuer=ISSUER)).material.certificate


def promise_of(entry: Json) -> bytes:
    return base64.b64decode(entry["inclusionPromise"]["signedEntryTimestamp"])


def checkpoint_of(entry: Json) -> str:
    found: str = entry["inclusionProof"]["checkpoint"]["envelope"]
    return found


READING = (
    Row("0", MALFORMED, hooks(content=signatures(2)), "a second signature"),
    Row("0", {Code.UNSIGNED}, hooks(bundle=put([], "dsseEnvelope", "signatures")), "no signature"),
    Row("0", MALFORMED, hooks(bundle=put(1, "more")), "an unknown field"),
    Row("0", MALFORMED, hooks(bundle=put(1, *SPAN, "more")), "an unknown field of the entry"),
    Row("0", MALFORMED, hooks(bundle=put(1, *SPAN, "logIndex")), "an index that is a number"),
    Row("0", MALFORMED, hooks(bundle=put("01", *SPAN, "logIndex")), "an index with a zero before it"),
    Row("0", MALFORMED, hooks(bundle=put(str(2**63), *SPAN, "integratedTime")), "a time beyond 64 bits"),
    Row("0", MALFORMED, hooks(bundle=put("AQJ=", *SPAN, "logId", "keyId")), "another base64 of the same bytes"),
    Row("0", MALFORMED, hooks(bundle=drop("verificationMaterial", "tlogEntries", 0, "inclusionProof")), "no proof"),
    Row(
        "0",
        MALFORMED,
        hooks(bundle=put({"hint": KEY.public.hint}, "verificationMaterial", "publicKey")),
        "key too",
        KEYLESS,
    ),
    Row("0", MALFORMED, hooks(data=lambda it: it.replace(b"{", b'{"mediaType":"x",', 1)), "a field twice"),
    Row("0", MALFORMED, hooks(bundle=put(MEDIA_TYPE.replace("v0.3", "v0.2"), "mediaType")), "an older media type"),
    Row("1", {Code.BUNDLE_NOT_CANONICAL}, hooks(bundle=edited(in_a_chain)), "a chain that brings its root", KEYLESS),
    Row("1", {Code.BUNDLE_NOT_CANONICAL}, hooks(data=lambda it: it + b"\n"), "a newline"),
    Row("1", {Code.BUNDLE_NOT_CANONICAL}, hooks(data=lambda it: it.replace(b":", b": ", 1)), "a space"),
    Row(
        "1",
        {Code.BUNDLE_NOT_CANONICAL},
        hooks(bundle=put({}, "verificationMaterial", "timestampVerificationData")),
        "empty",
    ),
)
WHO = (
    Row("2", UNKNOWN, case(subject="other@mvmnix.test"), "another subject", KEYLESS),
    Row("2", UNKNOWN, case(subject=f"{SUBJECT}x"), "a longer subject", KEYLESS),
    Row("2", UNKNOWN, case(subject=f"{SUBJECT}\0.other.test"), "a subject with a NUL in it", KEYLESS),
    Row("2", UNKNOWN, case(issuer="https://other.test"), "another issuer", KEYLESS),
    Row(
        "2",
        UNKNOWN,
        case(signers=(Signer("x", Identity(Pattern("ci@", regexp=True), Pattern(ISSUER), OURS.domain), BUILDER),)),
        "an expression that matches a part",
        KEYLESS,
    ),
    Row("2", UNKNOWN, case(signers=(Signer("x", STRANGER.public, BUILDER),)), "a policy without identities", KEYLESS),
    Row("2", UNKNOWN, case(signers=(Signer("x", STRANGER.public, BUILDER, OURS.domain),)), "a stranger's key", KEYED),
    Row(
        "2",
        {Code.SIGNER_REVOKED},
        case(revocations=Revocations(keys=frozenset({KEY.public.fingerprint}))),
        "key",
        KEYED,
    ),
    Row(
        "2",
        {Code.SIGNER_REVOKED},
        case(revocations=Revocations(identities=((Pattern(".*@mvmnix[.]test", regexp=True), Pattern(ISSUER)),))),
        "a revoked identity",
        KEYLESS,
    ),
    Row("3", FORGED, hooks(content=put(encoded(PAYLOAD + b" "), "payload")), "another payload"),
    Row("3", FORGED, hooks(signature=flip), "a flipped signature"),
    Row("3", FORGED, hooks(signing_key=lambda _: STRANGER), "another key's signature"),
    Row("3", FORGED, hooks(certificate=lambda _: OTHERS), "another certificate", KEYLESS),
    Row("3", {*FORGED, *MALFORMED}, hooks(content=put("a/b", "payloadType")), "another payload type around it"),
    Row("4", {Code.SIGNER_ROLE}, case(signers=(Signer("ci", identity(), HOST),)), "another role", KEYLESS),
    Row("4", {Code.SIGNER_ROLE}, case(signers=(Signer("key", KEY.public, HOST, OURS.domain),)), "another role", KEYED),
    Row("5", MALFORMED, case(options={"payload_type": "application/json"}), "another payload type"),
)
WITNESSES = (
    Row("3.1", {Code.ROOT_MISMATCH}, case(roots={}), "no trust root"),
    Row("3.1", {Code.ROOT_MISMATCH}, case(roots={OURS.domain: THEIRS.trusted_root}), "another trust root in its place"),
    Row("3.2", {Code.LOG_ENTRIES}, case(options={"log": False, "tsa": True}), "a timestamp and no entry", KEYLESS),
    Row("3.2", {Code.LOG_ENTRIES}, case(options={"log": False}), "no entry", KEYED),
    Row("3.2", {Code.LOG_ENTRIES}, hooks(bundle=edited(twice)), "two entries"),
    Row("3.3", LOG, hooks(promise=flip), "a flipped SET"),
    Row("3.3", LOG, hooks(promise=lambda _: THEIRS.log.key.sign(b"x")), "another log's SET"),
    Row("3.3", LOG, hooks(promise=lambda _: of_another(promise_of)), "the SET of another entry"),
    Row("3.3", LOG, hooks(checkpoint=lambda _: of_another(checkpoint_of)), "a checkpoint of another day"),
    Row("3.3", LOG, hooks(entry=put(str(int((NOW + HOUR / 10).timestamp())), "integratedTime")), "another time"),
    Row("3.3", LOG, hooks(entry=put("7", "logIndex")), "another index"),
    Row("3.3", LOG, hooks(proof=other_hashes), "a flipped path"),
    Row("3.3", LOG, hooks(proof=lambda it: replace(it, hashes=it.hashes[1:])), "a shorter path"),
    Row("3.3", LOG, hooks(proof=lambda it: replace(it, hashes=(*it.hashes, bytes(32)))), "a longer path"),
    Row("3.3", LOG, hooks(proof=lambda it: replace(it, root=flip(it.root))), "another root, with a checkpoint"),
    Row("3.3", LOG, hooks(proof=lambda _: OURS.log.proof(0)), "another leaf's proof"),
    Row("3.3", LOG, hooks(entry=put(encoded(bytes(32)), "inclusionProof", "rootHash")), "another root"),
    Row("3.3", LOG, hooks(checkpoint_text=lambda it: it.replace("\n", "\n1", 1)), "a checkpoint of another size"),
    Row("3.3", LOG, hooks(checkpoint_text=lambda it: "x" + it, checkpoint=lambda it: it[1:]), "another origin"),
    Row("3.3", LOG, hooks(checkpoint=resigned_checkpoint), "another log's checkpoint"),
    Row(
        "3.3",
        LOG,
        hooks(checkpoint=lambda it: it.replace("\u2014 rekor", "\u2014 rek0r")),
        "a signature by another name",
    ),
    Row("3.3", LOG, hooks(checkpoint=lambda it: it + "x"), "a line that is no signature"),
    Row("3.3", LOG, hooks(checkpoint=lambda it: it.replace("rekor", "rek0r", 1)), "a changed checkpoint"),
    Row("3.3", LOG, hooks(entry=put(encoded(THEIRS.log.key.log_id), "logId", "keyId")), "another log's name"),
    Row("3.3", LOG, hooks(entry=spaced_body), "the body in another formatting than the tree holds"),
    Row("3.3", LOG, hooks(checkpoint=other_signature), "a flipped signature of the checkpoint"),
    Row("3.3", LOG, home(log=THEIRS.log), "a foreign log"),
    Row("3.3", LOG, hooks_and(TSA, entry=edited(unpromised)), "a time that nobody promised"),
    Row("3.4", BODY, hooks(body=put("0" * 64, "spec", "payloadHash", "value")), "an entry about another payload"),
    Row("3.4", BODY, hooks(body=put(encoded(b"x"), "spec", "signatures", 0, "signature")), "about another signature"),
    Row("3.4", BODY, hooks(body=of_a_stranger), "about another key"),
    Row("3.4", BODY, hooks(entry=foreign_entry), "the entry of another bundle"),
    Row("3.4", BODY, hooks(body=blob_entry), "an entry about a file"),
    Row("3.4", BODY, hooks(body=put("rfc3161", "kind")), "an entry of an unknown kind"),
    Row("3.5", TIME, hooks(integrated_time=lambda it: it + HOUR), "logged after the certificate", KEYLESS),
    Row("3.5", TIME, hooks(integrated_time=lambda it: it - HOUR), "logged before the certificate", KEYLESS),
    Row("3.5", TIME, leaf(not_before=NOW - 2 * HOUR, not_after=NOW - HOUR), "an expired certificate", KEYLESS),
    Row("3.5", TIME, hooks(entry=edited(untimed)), "no time", KEYLESS),
    Row("3.5", TIME, hooks_and(TSA, token=flip), "a broken timestamp beside a good SET"),
    Row("3.5", TIME, hooks_and(TSA, token=of_no_version), "a timestamp with a certificate of no version"),
    Row("3.5", TIME, hooks_and(TSA, token=lambda _: b"no"), "no timestamp beside a good SET"),
    Row("3.5", TIME, hooks_and(TSA, token=lambda _: THEIRS.tsa.token(b"x", NOW)), "a foreign authority's"),
    Row("3.5", TIME, hooks_and(TSA, token=lambda _: OURS.tsa.token(b"x", NOW)), "of another signature"),
    Row("3.5", TIME, hooks_and(TSA, token_time=lambda it: it + HOUR), "a timestamp after the certificate", KEYLESS),
    Row("3.5", TIME, hooks_and(TSA, bundle=edited(stamped_twice)), "a foreign authority's beside a good one"),
    Row("3.5", TIME, hooks_and(TSA, token=flip, entry=edited(untimed)), "a broken one alone"),
    Row("3.5", TIME, hooks_and(TSA, token=within), "a flipped byte of what the authority signed"),
    Row("3.5", TIME, hooks_and(TSA, bundle=edited(stamped_over("payload"))), "a timestamp over the payload"),
    Row("3.5", TIME, case(options={"kind": dsse_2_body}), "a time of a log that promises none"),
    Row("3.5", TIME, case(options={"kind": hashedrekord_2_body, **TSA}), "the same beside a timestamp"),
    Row("3.6", WINDOW, window(ca=replace(OURS.ca, valid_for=EARLIER)), "a CA that was trusted till then", KEYLESS),
    Row("3.6", WINDOW, window(ca=replace(OURS.ca, valid_for=LATER)), "a CA that is trusted since", KEYLESS),
    Row(
        "3.6",
        WINDOW,
        lambda it: replace(
            window(ca=replace(OURS.ca, valid_for=Window(end=NOW - HOUR / 60)))(it),
            hooks=Hooks(leaf=lambda it: replace(it, not_before=NOW - HOUR / 30)),
        ),
        "a CA that was trusted when the certificate began",
        KEYLESS,
    ),
    Row("3.6", WINDOW, window(ct=replace(OURS.ct, valid_for=EARLIER)), "a CT log till then", KEYLESS),
    Row("3.6", WINDOW, window(log=replace(OURS.log, valid_for=EARLIER)), "a log till then"),
    Row("3.6", WINDOW, window(log=replace(OURS.log, valid_for=LATER)), "a log since"),
    Row(
        "3.6",
        WINDOW,
        lambda it: replace(window(log=replace(OURS.log, valid_for=EARLIER))(it), hooks=Hooks(entry=edited(untimed))),
        "a log till then that promised no time",
        KEYED,
    ),
    Row(
        "3.6",
        WINDOW,
        lambda it: replace(window(tsa=replace(OURS.tsa, valid_for=EARLIER))(it), options=TSA),
        "a timestamp authority till then",
    ),
    Row(
        "3.6",
        WINDOW,
        lambda it: replace(window(tsa=replace(OURS.tsa, valid_for=LATER))(it), options=TSA),
        "a timestamp authority since",
    ),
    Row(
        "3.6",
        WINDOW,
        lambda it: replace(
            window(log=replace(OURS.log, valid_for=EARLIER))(it), options=TSA, hooks=Hooks(entry=edited(untimed))
        ),
        "a log till then, by a timestamp alone",
    ),
    Row(
        "3.6",
        WINDOW,
        lambda it: replace(
            window(log=replace(OURS.log, valid_for=Window(end=NOW)))(it),
            options=TSA,
            hooks=Hooks(token_time=lambda it: it + HOUR / 10),
        ),
        "a log till the time that it promised, and a later timestamp",
    ),
    Row("3.7", CERTIFICATE, home(ca=THEIRS.ca), "a foreign CA", KEYLESS),
    Row("3.7", CERTIFICATE, home(ct=THEIRS.ct), "a foreign CT log", KEYLESS),
    Row("3.7", CERTIFICATE, hooks(certificate=flip), "a flipped certificate", KEYLESS),
    Row("3.7", CERTIFICATE, hooks(scts=lambda _: ()), "no SCT", KEYLESS),
    Row("3.7", CERTIFICATE, hooks(scts=lambda it: it * 2), "two SCTs", KEYLESS),
    Row("3.7", CERTIFICATE, hooks(scts=other_scts), "the SCT of another certificate", KEYLESS),
    Row("3.7", CERTIFICATE, sct(lambda it: replace(it, signature=flip(it.signature))), "a flipped SCT", KEYLESS),
    Row("3.7", CERTIFICATE, sct(lambda it: replace(it, time=it.time + 1)), "an SCT of another time", KEYLESS),
    Row("3.7", CERTIFICATE, hooks(scts=by_sha384), "an SCT that says SHA-384", KEYLESS),
    Row("3.7", CERTIFICATE, leaf(usages=(ExtendedKeyUsageOID.SERVER_AUTH,)), "not for signing code", KEYLESS),
    Row("3.7", CERTIFICATE, leaf(signs=False), "not for signing", KEYLESS),
    Row("3.7", CERTIFICATE, leaf(is_ca=True), "a CA's own certificate", KEYLESS),
    Row("3.7", CERTIFICATE, leaf(names=()), "no subject at all", KEYLESS),
    Row("3.8", NAMES, leaf(names=(name(SUBJECT), name("other@mvmnix.test"))), "two subjects", KEYLESS),
    Row("3.8", NAMES, leaf(names=(x509.DNSName("mvmnix.test"),)), "a subject of an unknown kind", KEYLESS),
    Row("3.8", NAMES, leaf(names=(OTHER_NAME,)), "another name than Fulcio's", KEYLESS),
    Row("3.8", NAMES, leaf(names=(URI,)), "a URI with the text of an address", KEYLESS),
    Row("3.8", NAMES, leaf(names=(USER_NAME,)), "a user name with the text of an address", KEYLESS),
    Row("3.8", NAMES, leaf(names=(LONG,)), "a name of more than 1,024 characters", KEYLESS),
    Row("3.8", NAMES, fields(v1=None, v2=None), "no issuer", KEYLESS),
    Row("3.8", NAMES, fields(v1=b"https://other.test"), "two issuers", KEYLESS),
    Row("3.8", NAMES, fields(v2=b"\x0c\x7fshort"), "an issuer in broken DER", KEYLESS),
    Row("3.8", NAMES, fields(v2=ISSUER.encode()), "an issuer that is no UTF8String", KEYLESS),
)
ROWS = (*READING, *WHO, *WITNESSES)
