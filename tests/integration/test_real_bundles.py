"""Bundles that other tools signed with public services, as Debian's sources of sigstore-go ship them: every field.

Their program decides beside ours. What we sign ourselves repeats our own reading; these don't.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from mvmnix.digest import Digest
from mvmnix.errors import RefusedError
from mvmnix.keys import Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.bundle.verification_material import Inclusion
from mvmnix.provenance.identity.certificate_names import names
from mvmnix.provenance.identity.trust import Identity, Pattern, Signer, Trust
from mvmnix.provenance.verify.authentication import Attested, authenticate, authenticate_foreign, read_foreign
from mvmnix.provenance.verify.requirements import certified_build
from mvmnix.system.process import Completed
from tests.conftest import Home
from tests.integration.interop import Bench, Who, accepts, refuses
from tests.repository import ROOT

pytestmark = pytest.mark.integration

SOURCES = ROOT / ".venv/debian/golang-github-sigstore-sigstore-go-dev"
DATA = SOURCES / "usr/share/gocode/src/github.com/sigstore/sigstore-go/pkg/testing/data"


@dataclass(frozen=True, slots=True)
class Real:
    """A bundle, whose trust root it needs, which artifact it is about, what shows its inclusion."""

    name: str
    root: str
    artifact: str
    inclusion: Inclusion

    @property
    def bundle(self) -> bytes:
        return (DATA / "bundles" / f"{self.name}.sigstore.json").read_bytes()

    @property
    def who(self) -> Who:
        """Whom its certificate names: both programs have to read the same there."""
        certificate = envelope.parse_foreign(self.bundle).material.certificate
        subject, issuer = names(x509.load_der_x509_certificate(certificate))
        return Who(subject=subject, issuer=issuer)

    @property
    def trusted_root(self) -> bytes:
        return (DATA / "trusted-roots" / f"{self.root}.json").read_bytes()

    def check(self, data: bytes) -> Attested:
        domain = Digest.of(self.trusted_root)
        identity = Identity(Pattern(self.who.subject), Pattern(self.who.issuer), domain)
        trust = Trust((Signer("it", identity, frozenset(Role)),), {domain: self.trusted_root})
        algorithm, _, digest = self.artifact.partition(":")
        blob = Blob(Digest(digest)) if algorithm == "sha256" else None
        return authenticate_foreign(read_foreign(data, "it"), trust=trust, what="it", blob=blob)


REAL = {
    # an npm package of 2023: version 0.1, intoto 0.0.2 with proof and promise, a chain of certificates, SHA-512
    "npm": Real(
        "sigstore.js@2.0.0-provenance",
        "public-good",
        "sha512:46d4e2f74c4877316640000a6fdf8a8b59f1e0847667973e9859f774dd31b8f1"
        "e0937813b777fb66a2ac67d50540fe34640966eee9fc2ccca387082b4c85cd3c",
        Inclusion.PROVED,
    ),
    # of 2022: version 0.1, intoto 0.0.2 with a promise and no proof
    "promised": Real(
        "dsse",
        "public-good",
        "sha512:bbfd372fc9beeb777fe35d05bb10c0c70a9733d366a75fed7dd18866c7391de3"
        "ee7e88ba74dd47abf3e15c845e547fcf0e5c3da80854c751554224d3a6d4e55f",
        Inclusion.PROMISED,
    ),
    # a message signature of a private instance, whose CA has an RSA key, for a SAN that is an otherName
    "otherName": Real(
        "othername",
        "scaffolding",
        "sha256:bc103b4a84971ef6459b294a2b98568a2bfb72cded09d4acd1e16366a401f95b",
        Inclusion.PROVED,
    ),
}
#: What nothing depends on, besides certificates above the leaf: the trust root has its own.
FREE = {"keyid"}


@pytest.fixture(scope="module", params=REAL)
def it(request: pytest.FixtureRequest) -> Real:
    assert DATA.is_dir(), "run ./setup"
    return REAL[request.param]


@pytest.fixture
def bench(it: Real, tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.put(bundle_json=it.bundle, root_json=it.trusted_root)
    return made


def sigstore_go(bench: Bench, it: Real, who: Who, artifact: str, data: bytes | None = None) -> Completed:
    algorithm, _, digest = artifact.partition(":")
    told = ("-artifact-digest", digest, "-artifact-digest-algorithm", algorithm, "-trustedrootJSONpath", "root.json")
    bench.put(asked_json=it.bundle if data is None else data)
    return bench.run("sigstore-go-verification", *told, *who.for_sigstore_go, "asked.json")


def test_both_accept_it(it: Real, bench: Bench) -> None:
    accepts(bench.mvm("bundle.json", it.artifact, it.who), "verified")
    accepts(sigstore_go(bench, it, it.who, it.artifact), "mediaType")
    found = it.check(it.bundle)
    assert (found.identity, found.inclusion) == ((it.who.subject, it.who.issuer), it.inclusion)
    said = bench.mvm("bundle.json", it.artifact, it.who).stdout.decode()
    assert ("promised by the log, no proof" in said) == (it.inclusion is Inclusion.PROMISED)


@pytest.mark.parametrize("what", ["artifact", "subject", "issuer"])
def test_both_refuse_what_is_not_meant(it: Real, bench: Bench, what: str) -> None:
    algorithm, _, digest = it.artifact.partition(":")
    artifact = f"{algorithm}:{'0' * len(digest)}" if what == "artifact" else it.artifact
    subject = f"{it.who.subject}x" if what == "subject" else it.who.subject
    issuer = f"{it.who.issuer}x" if what == "issuer" else it.who.issuer
    who = Who(subject=subject, issuer=issuer)
    refuses(bench.mvm("bundle.json", artifact, who), "refused [")
    refuses(sigstore_go(bench, it, who, artifact), ["failed", "no match", "not match", "does not"])


def test_it_launches_nothing(it: Real) -> None:
    domain = Digest.of(it.trusted_root)
    identity = Identity(Pattern(it.who.subject), Pattern(it.who.issuer), domain)
    trust = Trust((Signer("it", identity, frozenset(Role)),), {domain: it.trusted_root})
    with pytest.raises(RefusedError):
        authenticate(it.bundle, trust=trust, role=Role.BUILDER, what="it")


def test_two_signatures() -> None:
    """Of one envelope, both good: which one counts would be a choice. sigstore-go refuses it too."""
    assert DATA.is_dir(), "run ./setup"
    data = (DATA / "bundles/dsse-2sigs.sigstore.json").read_bytes()
    with pytest.raises(RefusedError, match="more than one signature"):
        REAL["promised"].check(data)


def leaves(value: Any, here: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    yield from (here,) if isinstance(value, str) else ()
    for key, each in inner:
        yield from leaves(each, (*here, key))


def others(text: str) -> Iterator[str]:
    """Other values of the same form: one bit further, a number more, another letter."""
    if text.isdigit():
        yield str(int(text) + 1)
        return
    try:
        raw = bytearray(base64.b64decode(text, validate=True))
    except ValueError:
        yield text.replace("0", "1", 1) if "0" in text else text + "x"
        return
    for position in {0, len(raw) // 3, len(raw) // 2, len(raw) - 1} if raw else ():
        changed = bytearray(raw)
        changed[position] ^= 1
        yield base64.b64encode(changed).decode()


def mutated(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The bundle with each text in it changed, and without each of its fields."""
    for path in leaves(json.loads(data)):
        where = ".".join(map(str, path))
        for text in others(_at(json.loads(data), path)):
            value = json.loads(data)
            _at(value, path[:-1])[path[-1]] = text
            yield where, json.dumps(value).encode()


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def test_every_field_changed(it: Real, bench: Bench) -> None:
    """We refuse each change but those of what nothing depends on, and take nothing that sigstore-go refuses."""
    taken = set()
    for where, data in mutated(it.bundle):
        try:
            it.check(data)
        except RefusedError:
            continue
        taken.add(where)
        accepts(sigstore_go(bench, it, it.who, it.artifact, data), "mediaType")
    leaf = "verificationMaterial.x509CertificateChain.certificates.0."
    assert all(where.rsplit(".", 1)[-1] in FREE or (".certificates." in where and leaf not in where) for where in taken)


def test_every_field_left_out(it: Real, bench: Bench) -> None:
    """What may be missing is said by the version; a 0.1 bundle without its proof is promised, and no more."""
    for path in {each[:depth] for each in leaves(json.loads(it.bundle)) for depth in range(1, len(each) + 1)}:
        value = json.loads(it.bundle)
        del _at(value, path[:-1])[path[-1]]
        data = json.dumps(value).encode()
        try:
            found = it.check(data)
        except RefusedError:
            continue
        where = ".".join(map(str, path))
        if path[-1] != "messageDigest":  # which may be left out (sigstore_bundle.proto); sigstore-go needs it
            accepts(sigstore_go(bench, it, it.who, it.artifact, data), "mediaType")
        if where.endswith("inclusionProof"):
            assert found.inclusion is Inclusion.PROMISED
        else:
            assert found.inclusion is it.inclusion
            assert ".certificates." in where or where.endswith(("keyid", "messageDigest", "inclusionPromise")), where


def test_where_a_real_build_came_from(tmp_path: Path) -> None:
    """npm's provenance and the certificate under it name the same source, which is the one that may be asked for."""
    npm = REAL["npm"]
    assert DATA.is_dir(), "run ./setup"
    bench = Bench(tmp_path)
    bench.put(bundle_json=npm.bundle, root_json=npm.trusted_root)
    said = certified_build(envelope.parse_foreign(npm.bundle).material.certificate)
    for repository, commit, good in (
        (said["repository"], said["commit"], True),
        (f"{said['repository']}2", said["commit"], False),
        (said["repository"], "0" * 40, False),
    ):
        asked = ("--source-uri", repository, "--source-digest", commit, "--trusted-root", "root.json")
        options = (*npm.who.for_cosign, *asked, "--bundle", "bundle.json", npm.artifact)
        done = bench.run(*map(str, Home.argv("verify", *options)))
        if good:
            accepts(done, "verified")
        else:
            refuses(done, "refused [source-mismatch]")


@pytest.mark.parametrize(
    ("package", "good"),
    [
        ("pkg:npm/sigstore@2.0.0", True),
        ("pkg:npm/sig%73tore@2%2E0.0", True),
        ("pkg:npm/sigstore", True),
        ("pkg:npm/sigstore@2.0.1", False),
        ("pkg:npm/%40sigstore/sigstore@2.0.0", False),
        ("pkg:npm/Sigstore@2.0.0", False),
        ("pkg:pypi/sigstore@2.0.0", False),
    ],
)
def test_which_package_a_real_build_is(tmp_path: Path, package: str, *, good: bool) -> None:
    npm = REAL["npm"]
    assert DATA.is_dir(), "run ./setup"
    bench = Bench(tmp_path)
    bench.put(bundle_json=npm.bundle, root_json=npm.trusted_root)
    asked = ("--package", package, "--trusted-root", "root.json", "--bundle", "bundle.json")
    done = bench.run(*map(str, Home.argv("verify", *npm.who.for_cosign, *asked, npm.artifact)))
    if good:
        accepts(done, "package pkg:npm/sigstore@2.0.0")
    else:
        refuses(done, f"refused [subject-mismatch]: expected {package}, statement 1 of 1 says pkg:npm/sigstore@2.0.0")
