"""Debian's cosign and sigstore-go and npm's sigstore accept what mvm signs, and refuse each forgery for its reason."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from types import MappingProxyType

import pytest

from mvmnix.errors import ReasonCode
from mvmnix.keys import Algorithm, PrivateKey
from mvmnix.plan import plan as plans
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.slsa import predicate
from mvmnix.provenance.verify import vsa, vsa_inputs
from mvmnix.system.process import Completed
from tests.integration.interop import EMPTY_ROOT, Bench, Who, accepts, refuses
from tests.private_sigstore import Hooks, Sigstore, Window, entry_of
from tests.private_sigstore.hooks import UNCHANGED
from tests.private_sigstore.server import Served, served
from tests.unit.provenance import forgeries
from tests.unit.provenance import world as worlds
from tests.unit.provenance.summaries import summary

pytestmark = pytest.mark.integration

FILES = ("kernel", "initrd", "rootfs", "manifest.json")
ATTESTATION = "verify-blob-attestation"
SUBJECT, ISSUER = "builder@mvmnix.test", "https://issuer.test"
US = Who(subject=SUBJECT, issuer=ISSUER)
PRIVATE, FOREIGN = Sigstore(), Sigstore()
OTHERS_ENTRY = entry_of(PRIVATE.attest(b"{}", at=worlds.NOW))
#: How cosign and sigstore-go say it; both have it from the one library.
OTHER_ARTIFACT = ("does not match any digest in statement", "do not match digests in statement")
NOT_SIGNED = "could not verify envelope: accepted signatures do not match threshold"
NOT_LOGGED = "not enough verified log entries from transparency log: 0 < 1"
NOT_STAMPED = "threshold not met for verified signed timestamps: 0 < 1"
#: How npm's sigstore says it; the first is our program's own, for that package leaves subjects to its caller.
NPM_OTHER_ARTIFACT = "no subject has the digest of the artifact"
NPM_NOT_SIGNED = "SIGNATURE_ERROR: signature verification failed"
NPM_OTHER_IDENTITY = "UNTRUSTED_SIGNER_ERROR: certificate identity error"
NPM_OTHER_ROOT = ("CERTIFICATE_ERROR: Failed to verify certificate chain", "TIMESTAMP_ERROR: timestamp could not be")


@dataclass(frozen=True, slots=True)
class Claims:
    """The statements that mvm signs, and a bench with the files that they are about."""

    bench: Bench
    statements: dict[str, bytes]


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> Claims:
    """An image with its files, `other-…` beside each; the statements of its provenance, a plan and a summary."""
    directory = tmp_path_factory.mktemp("ours")
    world = worlds.new_world(directory)
    contents = dict(zip(FILES, (world.kernel, world.initrd, world.rootfs, world.manifest), strict=True))
    for name, data in contents.items():
        (directory / name).write_bytes(data)
        (directory / f"other-{name}").write_bytes(data + b"\0")
    bench = Bench(directory)
    bench.trust(PRIVATE)
    bench.put(empty_json=EMPTY_ROOT, foreign_json=FOREIGN.trusted_root)
    provenance = predicate.provenance_statement(world.provenance(), world.image.artifacts)
    statements = {
        "provenance": provenance.to_bytes(),
        "plan": plans.plan_statement(world.plan()).to_bytes(),
        "summary": vsa.to_statement(summary(world)).to_bytes(),
    }
    assert vsa_inputs.FIELD.encode() in statements["summary"]
    return Claims(bench, statements)


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("claim", ["provenance", "plan", "summary"])
def test_a_key(claims: Claims, claim: str, algorithm: Algorithm) -> None:
    bench, (key, other) = claims.bench, (PrivateKey.generate(algorithm) for _ in range(2))
    bundle = envelope.sign(claims.statements[claim], key).to_bytes()
    bench.put(bundle_json=bundle, key_pub=key.public.pem.encode(), other_pub=other.public.pem.encode())

    def verify(artifact: str, key: str = "key.pub") -> Completed:
        return bench.cosign(ATTESTATION, "bundle.json", artifact, Who(key), root="empty.json", log=False)

    for name in FILES:
        accepts(verify(name), "Verified OK")
    refuses(verify("other-kernel"), OTHER_ARTIFACT)
    refuses(verify("kernel", "other.pub"), NOT_SIGNED)
    bench.put(bundle_json=worlds.flipped_signature(bundle))
    refuses(verify("kernel"), NOT_SIGNED)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_key_before_npm(claims: Claims, algorithm: Algorithm) -> None:
    bench, (key, other) = claims.bench, (PrivateKey.generate(algorithm) for _ in range(2))
    bench.put(key_pub=key.public.pem.encode(), other_pub=other.public.pem.encode())
    for statement in claims.statements.values():
        bench.put(bundle_json=envelope.sign(statement, key).to_bytes())
        accepts(bench.npm("bundle.json", "kernel", Who("key.pub"), log=False), "verified")
    accepts(bench.mvm("bundle.json", "kernel", Who("key.pub"), root=None), "kernel: verified")
    for artifact, key_file, reason, code in (
        ("other-kernel", "key.pub", NPM_OTHER_ARTIFACT, ReasonCode.SUBJECT_MISMATCH),
        ("kernel", "other.pub", NPM_NOT_SIGNED, ReasonCode.SIGNER_UNKNOWN),
    ):
        refuses(bench.npm("bundle.json", artifact, Who(key_file), log=False), reason)
        refuses(bench.mvm("bundle.json", artifact, Who(key_file), root=None), f"refused [{code}]")
    # the package itself, as cosign without an option for it
    refuses(bench.npm("bundle.json", "kernel", Who("key.pub")), "TIMESTAMP_ERROR: expected 1 timestamps, got 0")


def test_cosign_looks_at_no_predicate_type(claims: Claims) -> None:
    """docs/reference/interoperability.md warns of it; when it does, strike the warning."""
    bench, key = claims.bench, PrivateKey.generate()
    bundle = envelope.sign(claims.statements["provenance"], key).to_bytes()
    bench.put(bundle_json=bundle, key_pub=key.public.pem.encode())
    options = ("--new-bundle-format", "--trusted-root", "empty.json", "--insecure-ignore-tlog", "--type", "spdxjson")
    done = bench.run("cosign", ATTESTATION, "--key", "key.pub", *options, "--bundle", "bundle.json", "kernel")
    accepts(done, "Verified OK")


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_logged_key(claims: Claims, algorithm: Algorithm) -> None:
    bench, (key, other) = claims.bench, (PrivateKey.generate(algorithm) for _ in range(2))
    bundle = PRIVATE.attest(claims.statements["provenance"], at=worlds.NOW, key=key)
    bench.put(bundle_json=bundle, key_pub=key.public.pem.encode(), other_pub=other.public.pem.encode())
    accepts(bench.cosign(ATTESTATION, "bundle.json", "kernel", Who("key.pub")), "Verified OK")
    refuses(bench.cosign(ATTESTATION, "bundle.json", "other-kernel", Who("key.pub")), OTHER_ARTIFACT)
    refuses(bench.cosign(ATTESTATION, "bundle.json", "kernel", Who("other.pub")), "log certificate does not match")
    accepts(bench.npm("bundle.json", "kernel", Who("key.pub")), "verified")
    refuses(bench.npm("bundle.json", "other-kernel", Who("key.pub")), NPM_OTHER_ARTIFACT)
    refuses(bench.npm("bundle.json", "kernel", Who("other.pub")), NPM_NOT_SIGNED)
    accepts(bench.mvm("bundle.json", "kernel", Who("key.pub")), "kernel: verified")
    refuses(bench.mvm("bundle.json", "other-kernel", Who("key.pub")), f"refused [{ReasonCode.SUBJECT_MISMATCH}]")
    refuses(bench.mvm("bundle.json", "kernel", Who("other.pub")), f"refused [{ReasonCode.SIGNER_UNKNOWN}]")
    bench.put(bundle_json=PRIVATE.attest(claims.statements["provenance"], at=worlds.NOW, key=key, log=False))
    refuses(bench.cosign(ATTESTATION, "bundle.json", "kernel", Who("key.pub")), NOT_LOGGED)


@pytest.mark.parametrize("bare", [False, True], ids=["attestation", "blob"])
def test_a_logged_key_and_a_timestamp(claims: Claims, bare: bool) -> None:
    """What `cosign` writes of a key; it looks at a timestamp where it is told to, mvm at each that is there."""
    bench, key = claims.bench, PrivateKey.generate(Algorithm.ECDSA_P256)
    kernel, verb = (bench.path / "kernel").read_bytes(), "verify-blob" if bare else ATTESTATION
    parts = replace(PRIVATE, tsa=replace(PRIVATE.tsa, valid_for=Window(end=worlds.NOW - timedelta(hours=1))))
    bench.put(key_pub=key.public.pem.encode(), late_json=parts.trusted_root)

    def put(hooks: Hooks = UNCHANGED) -> None:
        sign = partial(PRIVATE.sign_blob, kernel) if bare else partial(PRIVATE.attest, claims.statements["provenance"])
        bench.put(bundle_json=sign(at=worlds.NOW, key=key, tsa=True, hooks=hooks))

    def cosign(root: str = "root.json", *, tsa: bool = True) -> Completed:
        return bench.cosign(verb, "bundle.json", "kernel", Who("key.pub"), root=root, tsa=tsa)

    put()
    accepts(cosign(), "Verified OK")
    accepts(bench.mvm("bundle.json", "kernel", Who("key.pub")), "kernel: verified")
    refuses(cosign("late.json"), NOT_STAMPED)
    for hooks, reasons in (
        (Hooks(promise=forgeries.flip), NOT_LOGGED),
        (Hooks(checkpoint=forgeries.other_signature), "signature on checkpoint did not verify"),
        (Hooks(proof=forgeries.other_hashes), "calculated root"),
        (Hooks(body=forgeries.of_a_stranger), ("log certificate does not match", "verifying signature: invalid")),
        (Hooks(token=forgeries.flip), NOT_STAMPED),
    ):
        put(hooks)
        refuses(cosign(), reasons)
    accepts(cosign(tsa=False), "Verified OK")
    refuses(bench.mvm("bundle.json", "kernel", Who("key.pub")), f"refused [{ReasonCode.SIGNING_TIME}]")


def test_a_root_whose_log_has_no_start(claims: Claims) -> None:
    bench, key = claims.bench, PrivateKey.generate(Algorithm.ECDSA_P256)
    root = json.loads(PRIVATE.trusted_root)
    del root["tlogs"][0]["publicKey"]["validFor"]["start"]
    bundle = PRIVATE.attest(claims.statements["provenance"], at=worlds.NOW, key=key)
    bench.put(bundle_json=bundle, key_pub=key.public.pem.encode(), unbounded_json=json.dumps(root).encode())
    done = bench.cosign(ATTESTATION, "bundle.json", "kernel", Who("key.pub"), root="unbounded.json")
    refuses(done, "tlog missing public key validity period start time")
    refuses(bench.mvm("bundle.json", "kernel", Who("key.pub"), root="unbounded.json"), "validFor.start: missing")


def test_a_logged_key_before_sigstore_go(claims: Claims) -> None:
    """Its program takes P-256 keys, and wants an identity too: when it misses that alone, all else has held.

    What the library behind it says of keys alone is what cosign says above: cosign verifies these bundles with it.
    """
    bench, (key, other) = claims.bench, (PrivateKey.generate(Algorithm.ECDSA_P256) for _ in range(2))
    bundle = PRIVATE.attest(claims.statements["provenance"], at=worlds.NOW, key=key)
    bench.put(bundle_json=bundle, key_pub=key.public.pem.encode(), other_pub=other.public.pem.encode())
    refuses(bench.sigstore_go("bundle.json", "kernel", Who("key.pub")), "entity was not signed with a certificate")
    refuses(bench.sigstore_go("bundle.json", "other-kernel", Who("key.pub")), OTHER_ARTIFACT)
    refuses(bench.sigstore_go("bundle.json", "kernel", Who("other.pub")), "log certificate does not match")


@pytest.mark.parametrize("claim", ["provenance", "plan"])
@pytest.mark.parametrize("tsa", [False, True])
def test_an_identity(claims: Claims, claim: str, tsa: bool) -> None:
    bench = claims.bench
    bundle = PRIVATE.attest(claims.statements[claim], at=worlds.NOW, subject=SUBJECT, issuer=ISSUER, tsa=tsa)
    bench.put(bundle_json=bundle)
    for name in FILES:
        accepts(bench.cosign(ATTESTATION, "bundle.json", name, US), "Verified OK")
        accepts(bench.sigstore_go("bundle.json", name, US), "Verification successful!")
    accepts(bench.npm("bundle.json", "kernel", US), "verified")
    accepts(bench.mvm("bundle.json", "kernel", US), "kernel: verified")
    refuses(bench.cosign(ATTESTATION, "bundle.json", "kernel", US, root="foreign.json"), NOT_LOGGED)
    refuses(bench.sigstore_go("bundle.json", "kernel", US, root="foreign.json"), NOT_LOGGED)
    refuses(bench.npm("bundle.json", "kernel", US, root="foreign.json"), NPM_OTHER_ROOT)
    refuses(bench.mvm("bundle.json", "kernel", US, root="foreign.json"), f"refused [{ReasonCode.LOG_INCLUSION}]")


@dataclass(frozen=True, slots=True)
class Credential:
    """How `mvm plan sign` comes to a token: options, variables, and whether somebody is at a terminal."""

    options: tuple[str, ...] = ("--keyless",)
    variables: Mapping[str, str] = MappingProxyType({})
    at_terminal: bool = False


def by_file(services: Served, bench: Bench) -> Credential:
    bench.put(token=services.token(SUBJECT).encode())
    (bench.path / "token").chmod(0o600)
    return Credential(("--identity-token", f"file:{bench.path / 'token'}"))


def by_job(services: Served, _bench: Bench) -> Credential:
    return Credential(variables=services.ambient(SUBJECT))


def by_person(_services: Served, _bench: Bench) -> Credential:
    """The browser follows where it is sent, and the issuer knows who it is."""
    return Credential(variables={"BROWSER": "curl --silent --location --output login.html %s"}, at_terminal=True)


@pytest.mark.parametrize("tsa", [False, True])
@pytest.mark.parametrize("credential", [by_file, by_job, by_person])
def test_what_mvm_has_certified(claims: Claims, tsa: bool, credential: Callable[[Served, Bench], Credential]) -> None:
    """`mvm plan sign` with the services on loopback."""
    bench, us, them = claims.bench, US, replace(US, subject="other@mvmnix.test")
    bench.put(statement_json=claims.statements["plan"])
    with served(PRIVATE, person=SUBJECT) as services:
        bench.put(config_json=services.config(tsa=tsa))
        it = credential(services, bench)
        options = ("--trust-config", "config.json", *it.options, "--out", "bundle.json", "statement.json")
        bench.mvm_signs(*options, at_terminal=it.at_terminal, **it.variables)
        us, them = (replace(who, issuer=services.issuer_url) for who in (us, them))
    for name in FILES:
        accepts(bench.cosign(ATTESTATION, "bundle.json", name, us), "Verified OK")
        accepts(bench.sigstore_go("bundle.json", name, us), "Verification successful!")
    accepts(bench.npm("bundle.json", "kernel", us), "verified")
    accepts(bench.mvm("bundle.json", "kernel", us), "kernel: verified")
    for who, artifact, case in ((them, "kernel", "another identity"), (us, "other-kernel", "another artifact")):
        expected = FORGERIES[case]
        refuses(bench.cosign(ATTESTATION, "bundle.json", artifact, who), expected.reason)
        refuses(bench.sigstore_go("bundle.json", artifact, who), expected.reason)
        refuses(bench.npm("bundle.json", artifact, who), expected.npm)
        refuses(bench.mvm("bundle.json", artifact, who), f"{artifact}: refused [{expected.code}]")


def flipped(signature: bytes) -> bytes:
    return signature[:-1] + bytes([signature[-1] ^ 1])


@dataclass(frozen=True, slots=True)
class Forgery:
    """What is not as it should be, and why: in the words of cosign and sigstore-go, of npm, and mvm's reason code."""

    reason: str | tuple[str, ...]
    npm: str
    code: ReasonCode
    hooks: Hooks = UNCHANGED
    artifact: str = "kernel"
    who: Who = US


FORGERIES = {
    "another artifact": Forgery(
        OTHER_ARTIFACT, NPM_OTHER_ARTIFACT, ReasonCode.SUBJECT_MISMATCH, artifact="other-kernel"
    ),
    "another identity": Forgery(
        "expected SAN value",
        NPM_OTHER_IDENTITY,
        ReasonCode.SIGNER_UNKNOWN,
        who=replace(US, subject="other@mvmnix.test"),
    ),
    "another issuer": Forgery(
        "expected issuer value",
        "UNTRUSTED_SIGNER_ERROR: invalid certificate extension - expected issuer=",
        ReasonCode.SIGNER_UNKNOWN,
        who=replace(US, issuer="https://other.test"),
    ),
    "signature": Forgery(NOT_SIGNED, NPM_NOT_SIGNED, ReasonCode.SIGNATURE_INVALID, Hooks(signature=flipped)),
    "payload": Forgery(
        NOT_SIGNED, NPM_NOT_SIGNED, ReasonCode.SIGNATURE_INVALID, Hooks(content=lambda it: it | {"payload": "e30="})
    ),
    "key": Forgery(
        NOT_SIGNED,
        NPM_NOT_SIGNED,
        ReasonCode.SIGNATURE_INVALID,
        Hooks(signing_key=lambda _: PrivateKey.generate(Algorithm.ECDSA_P256)),
    ),
    "SCT": Forgery(
        "failed to verify signed certificate timestamp",
        "CERTIFICATE_ERROR: expected 1 SCTs, got 0",
        ReasonCode.CERTIFICATE_INVALID,
        Hooks(scts=lambda _: ()),
    ),
    "SET": Forgery(NOT_LOGGED, "TLOG_INCLUSION_PROMISE_ERROR", ReasonCode.LOG_INCLUSION, Hooks(promise=flipped)),
    "proof": Forgery(
        "wrong proof size",
        "TLOG_INCLUSION_PROOF_ERROR",
        ReasonCode.LOG_INCLUSION,
        Hooks(proof=lambda it: replace(it, hashes=it.hashes[1:])),
    ),
    "checkpoint": Forgery(
        "signature on checkpoint did not verify",
        "TLOG_INCLUSION_PROOF_ERROR: invalid checkpoint signature",
        ReasonCode.LOG_INCLUSION,
        Hooks(checkpoint=lambda it: f"{it[:-4]}AA=\n"),
    ),
    "time": Forgery(
        "integrated time outside certificate validity",
        "CERTIFICATE_ERROR: Failed to verify certificate chain",
        ReasonCode.SIGNING_TIME,
        Hooks(integrated_time=lambda at: at + timedelta(hours=1)),
    ),
    "entry": Forgery(
        "transparency log signature does not match",
        "TLOG_BODY_ERROR: tlog entry signature mismatch",
        ReasonCode.LOG_ENTRY_MISMATCH,
        Hooks(entry=lambda _: OTHERS_ENTRY),
    ),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_a_forgery(claims: Claims, case: str) -> None:
    """The four verifiers agree that it is one."""
    bench, it, statement = claims.bench, FORGERIES[case], claims.statements["provenance"]
    bench.put(bundle_json=PRIVATE.attest(statement, at=worlds.NOW, subject=SUBJECT, issuer=ISSUER, hooks=it.hooks))
    refuses(bench.cosign(ATTESTATION, "bundle.json", it.artifact, it.who), it.reason)
    refuses(bench.sigstore_go("bundle.json", it.artifact, it.who), it.reason)
    refuses(bench.npm("bundle.json", it.artifact, it.who), it.npm)
    refuses(bench.mvm("bundle.json", it.artifact, it.who), f"{it.artifact}: refused [{it.code}]")
