"""`mvm verify oci://…`: what cosign attaches to an image in Debian's docker-registry, in each of its layouts."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mvmnix.builder.oci.reference import OciRef
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from tests.conftest import Home
from tests.integration.interop import Bench, Who
from tests.private_sigstore import Sigstore
from tests.private_sigstore.server import Served, served
from tests.registry import DockerRegistry
from tests.unit.builder.oci.images import MANIFEST, Document, descriptor, name_of, pushed, text

pytestmark = pytest.mark.integration

SUBJECT = "https://ci.test/owner/repository/.ci/release.yml@refs/tags/v1"
TYPE = "https://mvmnix.test/predicate/v1"
ATTEST = ("attest", "--predicate", "predicate.json", "--type", TYPE)
KEYED, UNLOGGED = ("--key", "cosign.key"), ("--key", "cosign.key", "--tlog-upload=false")
STAMPED = ("--timestamp-server-url", "{tsa}")
NEW, REFERRING = "--new-bundle-format", ("--registry-referrers-mode", "oci-1-1")


@dataclass(frozen=True, slots=True)
class Case:
    """What cosign is called with, and what `mvm verify` says of how the log shows it."""

    argv: tuple[str, ...]
    said: str

    @property
    def keyed(self) -> bool:
        return "--key" in self.argv

    @property
    def signs(self) -> bool:
        return self.argv[0] == "sign"


PROMISED, NO_LOG = "promised by the log, no proof", "no log, no trusted time"
CASES = {
    "attest": Case(ATTEST, PROMISED),
    "attest, timestamped": Case((*ATTEST, *STAMPED), PROMISED),
    "attest --key": Case((*ATTEST, *KEYED), PROMISED),
    "attest --key, no log": Case((*ATTEST, *UNLOGGED), NO_LOG),
    "attest, new bundle": Case((*ATTEST, NEW), "signed "),
    "attest, new bundle, timestamped": Case((*ATTEST, NEW, *STAMPED), "signed "),
    "attest --key, new bundle": Case((*ATTEST, NEW, *KEYED), "signed "),
    "sign": Case(("sign",), PROMISED),
    "sign, timestamped": Case(("sign", *STAMPED), PROMISED),
    "sign --key": Case(("sign", *KEYED), PROMISED),
    "sign --key, no log": Case(("sign", *UNLOGGED), NO_LOG),
    "sign, as a referrer": Case(("sign", *REFERRING), PROMISED),
}


type Done = subprocess.CompletedProcess[bytes]


@dataclass(frozen=True, slots=True)
class Shop:
    """A registry, what cosign signs with, a user's home, and an image of each case, with its own evidence alone."""

    bench: Bench
    served: Served
    registry: DockerRegistry
    home: Home
    images: dict[str, OciRef]

    def who(self, case: str) -> Who:
        return Who("cosign.pub") if CASES[case].keyed else Who(subject=SUBJECT, issuer=self.served.issuer_url)

    def verify(self, image: OciRef | str, who: Who, *more: str, root: str | None = "root.json") -> Done:
        """As a user who has a config.toml, and neither keys nor a policy."""
        trusted = () if root is None else ("--trusted-root", root)
        return self.home.mvm("verify", *who.for_cosign, *trusted, *more, str(image), cwd=self.bench.path)

    def signs(self, case: Case, image: OciRef) -> None:
        self.bench.cosign_attaches(image, self.served, SUBJECT, *case.argv)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    path = tmp_path_factory.mktemp("images")
    bench, home = Bench(path), Home(tmp_path_factory.mktemp("home"))
    bench.put(predicate_json=b'{"made": "by hand"}', foreign_json=Sigstore().trusted_root)
    bench.generate_keys()
    with DockerRegistry(path / "registry") as registry, served(Sigstore()) as services:
        bench.trust(services.private)
        home.list_server(registry.origin)
        it = Shop(bench, services, registry, home, {})
        for number, (name, case) in enumerate(CASES.items()):
            it.images[name] = registry.push(pushed(name.encode()), f"team/app-{number}")
            it.signs(case, it.images[name])
        yield it


def root_of(case: str) -> str | None:
    return None if CASES[case].said == NO_LOG else "root.json"


def refuses_with(done: Done, *codes: Code) -> None:
    said = done.stderr.decode()
    assert done.returncode == 1, (done.stdout + done.stderr).decode()
    assert set(re.findall(r"refused \[([a-z-]+)\]", said)) == set(codes), said


def could_not(done: Done, word: str) -> None:
    said = done.stderr.decode()
    assert done.returncode == 2, (done.stdout + done.stderr).decode()
    assert word in said


@pytest.mark.parametrize("case", CASES)
def test_accepted(shop: Shop, case: str) -> None:
    done = shop.verify(shop.images[case], shop.who(case), root=root_of(case))
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert CASES[case].said in done.stdout.decode()


@pytest.mark.parametrize("case", CASES)
def test_another_signer(shop: Shop, case: str) -> None:
    keyed, image, root = CASES[case].keyed, shop.images[case], root_of(case)
    nameless = keyed and root is None and NEW not in CASES[case].argv  # then it can only be the key that is trusted
    unknown = Code.SIGNATURE_INVALID if nameless else Code.SIGNER_UNKNOWN
    refuses_with(shop.verify(image, Who("another.pub"), root=root), unknown)
    if not keyed:
        for other in (replace(shop.who(case), subject="x"), replace(shop.who(case), issuer="https://x.test")):
            refuses_with(shop.verify(image, other), Code.SIGNER_UNKNOWN)
        done = shop.verify(image, shop.who(case), root="foreign.json")
        assert done.returncode == 1
        assert f"[{Code.CERTIFICATE_INVALID}]" in done.stderr.decode()


@pytest.mark.parametrize("case", CASES)
def test_evidence_of_another_image(shop: Shop, case: str) -> None:
    """A registry that answers with another image's evidence, however it is attached."""
    of, name = shop.images[case], f"{shop.images[case].name}-copy"
    other = shop.registry.push(pushed(b"another"), name)
    moved = 0
    for suffix in ("", ".att", ".sig"):
        try:
            document = shop.registry.document(of.name, f"sha256-{of.digest.hex}{suffix}")
        except ValueError:
            continue
        moved += 1
        copied(shop.registry, name, json.loads(document), of.digest, other.digest, f"sha256-{other.digest.hex}{suffix}")
    assert moved == 1
    refuses_with(shop.verify(other, shop.who(case), root=root_of(case)), Code.SUBJECT_MISMATCH)


def copied(registry: DockerRegistry, name: str, document: Document, of: Digest, to: Digest, tag: str) -> None:
    """Store a manifest or list and what it names in another repository; as referring to another image."""
    for each in document.get("manifests", []):
        inner = json.loads(registry.stored(Digest(each["digest"].removeprefix("sha256:"))).read_bytes())
        assert inner["subject"]["digest"] == str(of)
        del inner["subject"]
        each.update(descriptor(text(inner), MANIFEST))
        copied(registry, name, inner, of, to, name_of(text(inner)))
    parts = [document["config"], *document["layers"]] if "layers" in document else []
    blobs = [registry.stored(Digest(each["digest"].removeprefix("sha256:"))).read_bytes() for each in parts]
    registry.attach(name, tag, text(document), *blobs, media_type=document["mediaType"])


@pytest.mark.parametrize("case", ["attest", "attest, new bundle", "sign"])
def test_what_it_has_to_say(shop: Shop, case: str) -> None:
    done = shop.verify(shop.images[case], shop.who(case), "--type", TYPE)
    if CASES[case].signs:
        refuses_with(done, Code.PREDICATE_TYPE)
    else:
        assert done.returncode == 0, done.stderr.decode()
    refuses_with(shop.verify(shop.images[case], shop.who(case), "--type", "spdxjson"), Code.PREDICATE_TYPE)


def test_bytes_that_rotted_in_the_registry(shop: Shop) -> None:
    """Each of the layers is left out by name; the others count."""
    image = shop.registry.push(pushed(b"to rot"), "team/rotten")
    for case in ("attest, new bundle", "attest"):
        shop.signs(CASES[case], image)
    who = shop.who("attest")
    layer = json.loads(shop.registry.document(image.name, f"sha256-{image.digest.hex}.att"))["layers"][0]
    kept = shop.registry.stored(Digest(layer["digest"].removeprefix("sha256:")))
    kept.write_bytes(kept.read_bytes().replace(b"payload", b"Payload"))
    done = shop.verify(image, who, "--json")
    assert done.returncode == 0, done.stderr.decode()
    (verdict,) = json.loads(done.stdout)["result"]["artifacts"]
    assert len(verdict["statements"]) == 1
    assert [reason["code"] for reason in verdict["others"]] == [Code.BUNDLE_MALFORMED]
    assert "hashes to" in verdict["others"][0]["why"]


def test_nothing_is_attached(shop: Shop) -> None:
    image = shop.registry.push(pushed(b"bare"), "team/bare")
    refuses_with(shop.verify(image, shop.who("attest")), Code.ATTESTATION_MISSING)
    absent = OciRef(image.host, "team/absent", image.digest)
    refuses_with(shop.verify(absent, shop.who("attest")), Code.ATTESTATION_MISSING)


def test_what_is_asked(shop: Shop, tmp_path: Path) -> None:
    """A tag is refused before any connection, as is a registry that is not listed; nothing is written."""
    image, who = shop.images["attest"], shop.who("attest")
    before, asked = sorted(shop.home.path.rglob("*")), shop.registry.visits()
    could_not(shop.verify(f"oci://{image.host}/{image.name}:latest", who), "oci-unpinned")
    could_not(shop.verify(f"oci://{image.host}/{image.name}@sha256:1", who), "oci://HOST")
    could_not(shop.verify(f"oci://127.0.0.1:1/{image.name}@{image.digest}", who), "fetch-not-allowed")
    stranger = replace(shop, home=Home(tmp_path))
    could_not(stranger.verify(image, who), "fetch-not-allowed")
    assert [it for it in tmp_path.rglob("*") if not it.is_dir()] == []
    assert shop.registry.visits() == asked
    assert shop.verify(image, who).returncode == 0
    assert sorted(shop.home.path.rglob("*")) == before


def test_with_a_bundle_nothing_is_asked(shop: Shop, tmp_path: Path) -> None:
    image, who = shop.images["attest, new bundle"], shop.who("attest")
    (listed,) = json.loads(shop.registry.document(image.name, f"sha256-{image.digest.hex}"))["manifests"]
    manifest = json.loads(shop.registry.stored(Digest(listed["digest"].removeprefix("sha256:"))).read_bytes())
    data = shop.registry.stored(Digest(manifest["layers"][0]["digest"].removeprefix("sha256:"))).read_bytes()
    (tmp_path / "bundle.json").write_bytes(data)
    asked = shop.registry.visits()
    done = shop.verify(image, who, "--bundle", str(tmp_path / "bundle.json"))
    assert done.returncode == 0, done.stderr.decode()
    assert shop.registry.visits() == asked


def test_cosign_says_the_same(shop: Shop) -> None:
    """Of the layouts that Debian's cosign verifies offline: with a key."""
    for case in ("attest --key", "sign --key"):
        image, argv = shop.images[case], ("--private-infrastructure=false", "--key", "cosign.pub")
        verb = "verify" if CASES[case].signs else "verify-attestation"
        kind = () if CASES[case].signs else ("--type", TYPE)
        named = f"{image.host}/{image.name}@{image.digest}"
        for key, good in (("cosign.pub", True), ("another.pub", False)):
            done = shop.bench.run(
                "cosign", verb, *argv[:1], "--key", key, *kind, "--rekor-url", "http://127.0.0.1:1", named
            )
            assert (done.status == 0) is good, done.stderr.decode()
