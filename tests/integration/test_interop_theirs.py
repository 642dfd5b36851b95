"""`mvm verify` accepts what cosign and the libraries sign, and refuses it for another signer or another file."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from sigstore.dsse import StatementBuilder, Subject
from sigstore.models import ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.provenance.bundle import statement
from mvmnix.system.process import Completed
from tests.integration.interop import Bench, Who, accepts, refuses
from tests.private_sigstore import Sigstore
from tests.private_sigstore.server import Served, served

pytestmark = pytest.mark.integration

SUBJECT = "https://ci.test/owner/repository/.ci/release.yml@refs/tags/v1"
ARTIFACT, OTHER = b"the artifact", b"another artifact"
TYPE = "https://mvmnix.test/predicate/v1"
PREDICATE = {"made": "by hand"}


@dataclass(frozen=True, slots=True)
class Theirs:
    """Files that others signed, and the services that they signed with."""

    bench: Bench
    served: Served

    @property
    def identity(self) -> Who:
        """Whom a keyless bundle is from."""
        return Who(subject=SUBJECT, issuer=self.served.issuer_url)


def library_attests(it: Theirs) -> str:
    subject = Subject.model_validate({"name": "artifact", "digest": {"sha256": Digest.of(ARTIFACT).hex}})
    statement = StatementBuilder([subject], predicate_type=TYPE, predicate=PREDICATE).build()
    config = ClientTrustConfig.from_json(it.served.trust_config.decode())
    with SigningContext.from_trust_config(config).signer(IdentityToken(it.served.token(SUBJECT))) as signer:
        return signer.sign_dsse(statement).to_json()


def library_signs(it: Theirs) -> str:
    config = ClientTrustConfig.from_json(it.served.trust_config.decode())
    with SigningContext.from_trust_config(config).signer(IdentityToken(it.served.token(SUBJECT))) as signer:
        return signer.sign_artifact(ARTIFACT).to_json()


def npm_attests(it: Theirs) -> str:
    subject = statement.Subject("artifact", Digest.of(ARTIFACT))
    it.bench.put(statement_json=statement.Statement((subject,), TYPE, PREDICATE).to_bytes())
    return it.bench.npm_signs("attest", "statement.json", it.served, SUBJECT)


def npm_signs(it: Theirs) -> str:
    return it.bench.npm_signs("sign", "artifact", it.served, SUBJECT)


def cosign(*options: str) -> Callable[[Theirs], str]:
    """A signer: cosign, with a token if there is no key in the options; `{tsa}` is the URL of the TSA."""

    def sign(it: Theirs) -> str:
        token = () if "--key" in options else ("--identity-token", it.served.token(SUBJECT))
        verb, *rest = (option.replace("{tsa}", it.served.tsa_url) for option in options)
        it.bench.cosign_signs(verb, "made.json", "artifact", it.served, *rest, *token)
        return (it.bench.path / "made.json").read_text()

    return sign


ATTEST = ("attest-blob", "--predicate", "predicate.json", "--type", TYPE)
KEYED = ("--key", "cosign.key")
STAMPED = ("--timestamp-server-url", "{tsa}", "--rfc3161-timestamp-bundle", "stamp.json")
UNLOGGED = (*KEYED, "--tlog-upload=false")

#: How a bundle is made, whether with a key, whether with a log entry.
MADE: dict[str, tuple[Callable[[Theirs], str], bool, bool]] = {
    "cosign attest-blob": (cosign(*ATTEST), False, True),
    "cosign attest-blob, timestamped": (cosign(*ATTEST, *STAMPED), False, True),
    "cosign sign-blob": (cosign("sign-blob"), False, True),
    "cosign attest-blob --key": (cosign(*ATTEST, *KEYED), True, True),
    "cosign sign-blob --key": (cosign("sign-blob", *KEYED), True, True),
    "cosign sign-blob --key, timestamped": (cosign("sign-blob", *KEYED, "--timestamp-server-url", "{tsa}"), True, True),
    "cosign attest-blob --key, no log": (cosign(*ATTEST, *UNLOGGED), True, False),
    "cosign sign-blob --key, no log": (cosign("sign-blob", *UNLOGGED), True, False),
    "sigstore-python sign_dsse": (library_attests, False, True),
    "sigstore-python sign_artifact": (library_signs, False, True),
    "npm's sigstore attest": (npm_attests, False, True),
    "npm's sigstore sign": (npm_signs, False, True),
}
KEYLESS = [name for name in MADE if not MADE[name][1]]
#: Bundles around a statement, which names its artifact; the others are signatures over the artifact itself.
ATTESTATIONS = [name for name in MADE if "attest" in name or "dsse" in name]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theirs]:
    """Two artifacts, two keys, and a bundle of each kind for the first artifact: `<number>.json`."""
    bench = Bench(tmp_path_factory.mktemp("theirs"))
    (bench.path / "artifact").write_bytes(ARTIFACT)
    (bench.path / "other").write_bytes(OTHER)
    bench.put(predicate_json=json.dumps(PREDICATE).encode(), foreign_json=Sigstore().trusted_root)
    bench.generate_keys()
    with served(Sigstore()) as services:
        bench.trust(services.private)
        it = Theirs(bench, services)
        for number, (sign, _, _) in enumerate(MADE.values()):
            (bench.path / f"{number}.json").write_text(sign(it))
        yield it


def verify(it: Theirs, case: str, who: Who, *, artifact: str = "artifact", root: str | None = None) -> Completed:
    """Hold a bundle before `mvm verify`, with the right trust root if there is a log entry."""
    bundle = f"{list(MADE).index(case)}.json"
    return it.bench.mvm(bundle, artifact, who, root=root or ("root.json" if MADE[case][2] else None))


def refuses_with(done: Completed, code: ReasonCode) -> None:
    assert done.status == 1
    refuses(done, f"refused [{code}]")


def signer_of(it: Theirs, case: str) -> Who:
    """Whoever made a bundle."""
    return Who("cosign.pub") if MADE[case][1] else it.identity


@pytest.mark.parametrize("case", MADE)
def test_accepted(theirs: Theirs, case: str) -> None:
    accepts(verify(theirs, case, signer_of(theirs, case)), "artifact: verified")


@pytest.mark.parametrize("case", MADE)
def test_another_artifact(theirs: Theirs, case: str) -> None:
    said = verify(theirs, case, signer_of(theirs, case), artifact="other")
    code = ReasonCode.SUBJECT_MISMATCH if case in ATTESTATIONS else ReasonCode.SIGNATURE_INVALID
    refuses_with(said, code)


@pytest.mark.parametrize("case", [name for name in MADE if name not in KEYLESS])
def test_another_key(theirs: Theirs, case: str) -> None:
    refuses_with(verify(theirs, case, Who("another.pub")), ReasonCode.SIGNER_UNKNOWN)


@pytest.mark.parametrize("case", KEYLESS)
@pytest.mark.parametrize("change", [{"subject": "other@mvmnix.test"}, {"issuer": "https://other.test"}])
def test_another_identity(theirs: Theirs, case: str, change: dict[str, str]) -> None:
    refuses_with(verify(theirs, case, replace(theirs.identity, **change)), ReasonCode.SIGNER_UNKNOWN)


@pytest.mark.parametrize("case", [name for name in MADE if not MADE[name][2]])
def test_no_log_entry(theirs: Theirs, case: str) -> None:
    """A key alone says so; whoever names a root asks for its log."""
    accepts(verify(theirs, case, signer_of(theirs, case)), "no log, no trusted time")
    refuses_with(verify(theirs, case, signer_of(theirs, case), root="root.json"), ReasonCode.LOG_ENTRIES)


@pytest.mark.parametrize("case", [name for name in MADE if MADE[name][2]])
def test_another_root(theirs: Theirs, case: str) -> None:
    refuses_with(verify(theirs, case, signer_of(theirs, case), root="foreign.json"), ReasonCode.LOG_INCLUSION)


@pytest.mark.parametrize("case", MADE)
def test_a_changed_signature(theirs: Theirs, case: str) -> None:
    path = theirs.bench.path / f"{list(MADE).index(case)}.json"
    before = path.read_text()
    bundle = json.loads(before)
    holder, name = (
        (bundle["dsseEnvelope"]["signatures"][0], "sig")
        if case in ATTESTATIONS
        else (bundle["messageSignature"], "signature")
    )
    raw = bytearray(base64.b64decode(holder[name]))
    raw[-1] ^= 1
    holder[name] = base64.b64encode(raw).decode()
    path.write_text(json.dumps(bundle))
    said = verify(theirs, case, signer_of(theirs, case))
    path.write_text(before)
    refuses_with(said, ReasonCode.SIGNATURE_INVALID)


def test_a_key_in_place_of_an_identity(theirs: Theirs) -> None:
    """A bundle with a certificate is none of a key, and the other way round."""
    for case, who in (("cosign attest-blob", Who("cosign.pub")), ("cosign attest-blob --key", theirs.identity)):
        refuses_with(verify(theirs, case, who), ReasonCode.SIGNER_UNKNOWN)


def test_the_older_bundle_of_cosign(theirs: Theirs) -> None:
    """What cosign calls a bundle without `--new-bundle-format` is none of Sigstore's."""
    theirs.bench.run("cosign", "sign-blob", *UNLOGGED, "--yes", "--bundle", "old.json", "artifact")
    assert "base64Signature" in json.loads((theirs.bench.path / "old.json").read_text())
    refuses_with(theirs.bench.mvm("old.json", "artifact", Who("cosign.pub"), root=None), ReasonCode.BUNDLE_MALFORMED)
