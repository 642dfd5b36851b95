"""`pypi-attestations` and mvm on attestations of a distribution (PEP 740) that either of them signed: one verdict.

Its program knows public instances alone, and with `--offline` takes their trusted root from the cache, unverified. So
the private instance's root is there, in a home directory of its own, and the program is what its users have.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files

import pytest
from pypi_attestations import Attestation, AttestationBundle, Distribution, GitHubPublisher, Provenance
from sigstore.models import ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext

from mvmnix.api import signing
from mvmnix.config import SecretRef, SigningRule
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.keys import Algorithm, PrivateKey
from mvmnix.model import Artifact
from mvmnix.provenance.slsa import predicate
from mvmnix.system.process import Completed
from tests.integration.interop import Bench, Who, accepts, refuses
from tests.private_sigstore import Hooks, Sigstore
from tests.private_sigstore.server import Served, served
from tests.unit.provenance import world as worlds

pytestmark = pytest.mark.integration

SUBJECT = "release@mvmnix.test"
WHEEL = "app_tool-1.0-py3-none-any.whl"
ARTIFACT, OTHER = b"the wheel", b"another wheel"
PRIVATE, FOREIGN = Sigstore(), Sigstore()
#: Home directories, and which instance a program trusts there.
HOMES = {".": PRIVATE, "foreign": FOREIGN}


@dataclass(frozen=True, slots=True)
class Exchange:
    """A wheel, another one of the same name in `other`, statements of mvm's, and the services to sign with."""

    bench: Bench
    served: Served
    provenance: bytes
    several: bytes

    @property
    def signer(self) -> Who:
        return Who(subject=SUBJECT, issuer=self.served.issuer_url)

    def attest(self, attestation: bytes, kind: str) -> None:
        """Put an attestation beside both wheels, by the name that the program looks for."""
        for directory in (self.bench.path, self.bench.path / "other"):
            for old in directory.glob("*.attestation"):
                old.unlink()
            (directory / f"{WHEEL}.{kind}.attestation").write_bytes(attestation)

    def theirs(self, *arguments: str, home: str = ".") -> Completed:
        home = str(self.bench.path / home)
        return self.bench.run(sys.executable, "-I", "-m", "pypi_attestations", *arguments, HOME=home)

    def theirs_verifies(self, artifact: str, who: Who, home: str = ".") -> Completed:
        """It asks for the identity, and for no issuer."""
        return self.theirs("verify", "attestation", "--offline", "--identity", who.subject, artifact, home=home)

    def convert(self, bundle: bytes) -> bytes:
        """The attestation that their program makes of a bundle."""
        made = self.bench.path / "converted"
        made.unlink(missing_ok=True)
        self.bench.put(bundle_json=bundle)
        accepts(self.theirs("convert", "bundle.json", "--output-file", made.name), "Converted Sigstore bundle")
        return made.read_bytes()


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    bench = Bench(tmp_path_factory.mktemp("pypi"))
    (bench.path / WHEEL).write_bytes(ARTIFACT)
    (bench.path / "other").mkdir()
    (bench.path / "other" / WHEEL).write_bytes(OTHER)
    bench.trust(PRIVATE)
    bench.put(foreign_json=FOREIGN.trusted_root)
    # the directories in the cache have the names of those that the installed library ships
    shipped = [it.name for it in (files("sigstore") / "_store").iterdir() if (it / "trusted_root.json").is_file()]
    for home, private, name in ((home, private, name) for home, private in HOMES.items() for name in shipped):
        cache = bench.path / home / ".cache/sigstore-python/tuf" / name
        cache.mkdir(parents=True)
        (cache / "trusted_root.json").write_bytes(private.trusted_root)
    world = worlds.new_world(tmp_path_factory.mktemp("world"))
    artifact = Artifact(WHEEL, Digest.of(ARTIFACT), len(ARTIFACT))
    one, several = (
        predicate.provenance_statement(world.provenance(), artifacts).to_bytes()
        for artifacts in ([artifact], [artifact, *world.image.artifacts])
    )
    with served(PRIVATE) as services:
        yield Exchange(bench, services, one, several)


def signed_by_mvm(it: Exchange, statement: bytes) -> bytes:
    """As `mvm` signs keyless, whatever the statement; its commands sign those of images and plans."""
    token = it.bench.path / "token"
    token.touch(mode=0o600)
    token.write_text(it.served.token(SUBJECT))
    it.bench.put(config_json=it.served.config(tsa=True))
    rule = SigningRule(sigstore=str(it.bench.path / "config.json"), token=SecretRef.parse(f"file:{token}"))
    return signing.sign_keyless(statement, rule, interactive=False)


def signed_by_them(it: Exchange) -> Attestation:
    config = ClientTrustConfig.from_json(it.served.config(tsa=True).decode())
    with SigningContext.from_trust_config(config).signer(IdentityToken(it.served.token(SUBJECT))) as signer:
        return Attestation.sign(signer, Distribution.from_file(it.bench.path / WHEEL))


def both_decide(it: Exchange, attestation: str, packed: str) -> None:
    """Both take it for the wheel and its signer, and for no other signer, wheel or instance; mvm as `packed`, too."""
    other = replace(it.signer, subject=f"x{SUBJECT}")
    accepts(it.theirs_verifies(WHEEL, it.signer), f"OK: {attestation}")
    refuses(it.theirs_verifies(WHEEL, other), "Certificate's SANs do not match")
    refuses(it.theirs_verifies(f"other/{WHEEL}", it.signer), "subject does not match distribution digest")
    refuses(it.theirs_verifies(WHEEL, it.signer, home="foreign"), "failed to build timestamp certificate chain")
    accepts(it.bench.mvm(packed, WHEEL, it.signer), f"{WHEEL}: verified")
    accepts(it.bench.mvm(attestation, WHEEL, it.signer), f"{WHEEL}: verified")
    refuses(it.bench.mvm(attestation, WHEEL, other), f"refused [{ReasonCode.SIGNER_UNKNOWN}]")
    refuses(it.bench.mvm(attestation, f"other/{WHEEL}", it.signer), f"refused [{ReasonCode.SUBJECT_MISMATCH}]")
    refuses(it.bench.mvm(attestation, WHEEL, it.signer, root="foreign.json"), f"[{ReasonCode.LOG_INCLUSION}]")


def test_signed_by_mvm(exchange: Exchange) -> None:
    """A provenance of mvm's about one distribution, made an attestation by their program."""
    exchange.attest(exchange.convert(signed_by_mvm(exchange, exchange.provenance)), "slsa")
    both_decide(exchange, f"{WHEEL}.slsa.attestation", "bundle.json")


def test_signed_by_them(exchange: Exchange) -> None:
    """A publish attestation, alone and as PyPI answers with it."""
    made = signed_by_them(exchange)
    publisher = GitHubPublisher(repository="org/app", workflow="release.yml")
    answer = Provenance(attestation_bundles=[AttestationBundle(publisher=publisher, attestations=[made])])
    exchange.bench.put(provenance_json=answer.model_dump_json().encode())
    exchange.attest(made.model_dump_json().encode(), "publish")
    both_decide(exchange, f"{WHEEL}.publish.attestation", "provenance.json")


def test_another_key(exchange: Exchange) -> None:
    """The signature is by another key than the certificate's."""
    who = Who(subject=SUBJECT, issuer="https://issuer.test")
    hooks = Hooks(signing_key=lambda _: PrivateKey.generate(Algorithm.ECDSA_P256))
    bundle = PRIVATE.attest(exchange.provenance, at=worlds.NOW, subject=who.subject, issuer=who.issuer, hooks=hooks)
    exchange.attest(exchange.convert(bundle), "slsa")
    refuses(exchange.theirs_verifies(WHEEL, who), "DSSE: invalid signature")
    for file in ("bundle.json", f"{WHEEL}.slsa.attestation"):
        refuses(exchange.bench.mvm(file, WHEEL, who), f"refused [{ReasonCode.SIGNATURE_INVALID}]")


def test_more_subjects_than_one(exchange: Exchange) -> None:
    """As mvm's statements about images have; an attestation has one, and a bundle as many as there are."""
    exchange.attest(exchange.convert(signed_by_mvm(exchange, exchange.several)), "slsa")
    refuses(exchange.theirs_verifies(WHEEL, exchange.signer), "too many subjects in statement")
    said = exchange.bench.mvm(f"{WHEEL}.slsa.attestation", WHEEL, exchange.signer)
    refuses(said, f"refused [{ReasonCode.SUBJECT_MISMATCH}]: expected one subject")
    accepts(exchange.bench.mvm("bundle.json", WHEEL, exchange.signer), f"{WHEEL}: verified")
