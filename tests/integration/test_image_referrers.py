"""`mvm verify oci://…` as a process, against a registry that serves the referrers API by TLS, in pages."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mvmnix.builder.oci.attachments import MOST_MANIFESTS
from mvmnix.builder.oci.descriptors import LIMIT
from mvmnix.builder.oci.reference import OciRef
from mvmnix.errors import ReasonCode as Code
from tests.conftest import Home
from tests.integration.interop import Bench, Who
from tests.integration.misbehaving import Authority
from tests.private_sigstore import Sigstore
from tests.private_sigstore.server import Served, served
from tests.referrers_registry import ReferrersRegistry
from tests.unit.builder.oci.images import CONFIG, MANIFEST, Document, descriptor, pushed, text

pytestmark = pytest.mark.integration

SUBJECT = "https://ci.test/owner/repository/.ci/release.yml@refs/tags/v1"
TYPE = "https://mvmnix.test/predicate/v1"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
ATTEST = ("attest", "--predicate", "predicate.json", "--type", TYPE, "--new-bundle-format")
SIGN = ("sign", "--registry-referrers-mode", "oci-1-1")
KEYED = ("--key", "cosign.key", "--tlog-upload=false")


@dataclass
class Shop:
    """A registry, what cosign signs with, and a user's home that lists the registry."""

    bench: Bench
    served: Served
    registry: ReferrersRegistry
    authority: Authority
    home: Home
    images: list[OciRef] = field(default_factory=list)

    def image(self) -> OciRef:
        """An image of its own; what it says is attached to it."""
        data = b"%d" % len(self.images)
        self.images.append(self.registry.push(pushed(data), f"team/app-{len(self.images)}"))
        return self.images[-1]

    def signs(self, image: OciRef, *argv: str) -> None:
        """Have cosign push its evidence, by TLS, as a client of the referrers API."""
        trusted = str(self.authority.bundle)
        self.bench.cosign_attaches(image, self.served, SUBJECT, *argv, SSL_CERT_FILE=trusted)

    def attaches(self, image: OciRef, *blobs: bytes, **changes: object) -> Document:
        """What any party may attach: a manifest with these layers, which says of them what it likes."""
        self.registry.hold(*blobs, b"{}")
        subject = {"mediaType": MANIFEST, "digest": str(image.digest), "size": 1}
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": BUNDLE,
            "config": descriptor(b"{}", CONFIG),
            "layers": [descriptor(data, BUNDLE) for data in blobs],
            "subject": subject,
        } | changes
        self.registry.attach(image.name, text(document))
        return document

    def verify(self, image: OciRef, who: Who, *more: str, trusting: Path | None = None) -> "Verdict":
        root = () if who.key else ("--trusted-root", "root.json")
        self.registry.asked.clear()
        variables = {"SSL_CERT_FILE": trusting or self.authority.bundle}
        argv = ("verify", *who.for_cosign, *root, "--json", *more, str(image))
        return Verdict(self.home.mvm(*argv, cwd=self.bench.path, env=variables))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `mvm verify --json` said of one image."""

    done: subprocess.CompletedProcess[bytes]

    @property
    def others(self) -> list[tuple[str, str]]:
        """Codes of what doesn't count, and why."""
        (verdict,) = json.loads(self.done.stdout)["result"]["artifacts"]
        return [(it["code"], it["why"]) for it in verdict["others"]]

    def accepts(self) -> "Verdict":
        assert self.done.returncode == 0, (self.done.stdout + self.done.stderr).decode()
        return self

    def refuses(self) -> list[tuple[str, str]]:
        assert self.done.returncode == 1, (self.done.stdout + self.done.stderr).decode()
        return [(it["code"], it["why"]) for it in json.loads(self.done.stdout)["result"]["reasons"]]

    def could_not(self, word: str) -> None:
        assert self.done.returncode == 2, (self.done.stdout + self.done.stderr).decode()
        assert word in (self.done.stdout + self.done.stderr).decode()


KEY, ANOTHER = Who("cosign.pub"), Who("another.pub")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    path = tmp_path_factory.mktemp("referrers")
    bench, home = Bench(path), Home(tmp_path_factory.mktemp("home"))
    authority = Authority.create(tmp_path_factory.mktemp("authority"))
    bench.put(predicate_json=b'{"made": "by hand"}')
    bench.generate_keys()
    with ReferrersRegistry(authority.context("127.0.0.1")) as registry, served(Sigstore()) as services:
        bench.trust(services.private)
        home.list_server(registry.origin)
        yield Shop(bench, services, registry, authority, home)


@pytest.fixture(autouse=True)
def fresh(shop: Shop) -> Iterator[None]:
    yield
    shop.registry.page, shop.registry.link = 1, lambda path, query: f"{path}?{query}"


@pytest.mark.parametrize("argv", [ATTEST, SIGN], ids=["attest", "sign"])
def test_what_cosign_attaches_is_found_on_any_page(shop: Shop, argv: tuple[str, ...]) -> None:
    """Whatever else is attached; no tag stands in for the list."""
    image = shop.image()
    shop.signs(image, *argv, "--key", "another.key", "--tlog-upload=false")
    shop.attaches(image, b"no bundle")
    shop.signs(image, *argv)
    for who, page in ((ANOTHER, 1), (Who(subject=SUBJECT, issuer=shop.served.issuer_url), 1), (ANOTHER, 2), (KEY, 3)):
        shop.registry.page = page
        verdict = shop.verify(image, who)
        assert len(shop.registry.pages()) == -(-3 // page)
        assert not [it for it in shop.registry.asked if it.endswith(f"/sha256-{image.digest.hex}")]
        if who is KEY:
            assert {code for code, _ in verdict.refuses()} >= {Code.SIGNER_UNKNOWN, Code.BUNDLE_MALFORMED}
        else:
            assert len(verdict.accepts().others) == 2


@pytest.fixture
def signed(shop: Shop) -> OciRef:
    """An image with one attestation by a key."""
    image = shop.image()
    shop.signs(image, *ATTEST, *KEYED)
    return image


def test_nothing_is_attached(shop: Shop) -> None:
    """An empty list is an answer: no tag stands in for it."""
    image = shop.image()
    ((code, _),) = shop.verify(image, KEY).refuses()
    assert code == Code.ATTESTATION_MISSING
    assert len(shop.registry.pages()) == 1
    assert not [it for it in shop.registry.asked if it.endswith(f"/sha256-{image.digest.hex}")]


def test_a_registry_whose_certificate_is_not_trusted(shop: Shop, signed: OciRef, tmp_path: Path) -> None:
    other = Authority.create(tmp_path)
    shop.verify(signed, KEY, trusting=other.bundle).could_not("its certificate is not good")
    assert shop.registry.asked == []


@pytest.mark.parametrize("where", ["another registry", "another repository", "plain http", "an unlisted host"])
def test_a_page_elsewhere_is_not_asked_for(shop: Shop, signed: OciRef, where: str) -> None:
    """What was on the pages before it counts; the rest is named, and the token goes nowhere else."""
    path = f"/v2/{signed.name}/referrers/{signed.digest}"
    shop.attaches(signed, b"no bundle")
    with ReferrersRegistry(shop.authority.context("127.0.0.1")) as other:
        listed = shop.home.config / "config.toml"
        before = listed.read_text()
        listed.write_text(before.replace("[fetch]\nloopback = [", f'[fetch]\nloopback = ["{other.origin}", '))
        target = {
            "another registry": f"{other.origin}{path}",
            "another repository": f"/v2/team/other/referrers/{signed.digest}",
            "plain http": f"http://{shop.registry.host}{path}",
            "an unlisted host": "https://unlisted.test/" + path[1:],
        }[where]
        shop.registry.link = lambda _, query: f"{target}?{query}"
        try:
            verdict = shop.verify(signed, KEY).accepts()
        finally:
            listed.write_text(before)
        assert other.asked == []
    assert shop.registry.pages() == [path]
    ((code, why),) = verdict.others
    assert code == Code.BUNDLE_MALFORMED
    assert "the list of referrers was not read on" in why


def test_what_is_on_a_page_elsewhere_does_not_count(shop: Shop, signed: OciRef) -> None:
    """The same as a statement that was not handed in."""
    image = shop.image()
    shop.attaches(image, b"no bundle")
    shop.attaches(image, b"no bundle either")
    shop.registry.link = lambda path, query: f"{path.replace(str(image.digest), str(signed.digest))}?{query}"
    refused = shop.verify(image, KEY).refuses()
    assert [code for code, _ in refused] == [Code.BUNDLE_MALFORMED] * 2
    assert len(shop.registry.pages()) == 1


def test_a_page_that_leads_back_is_not_asked_for_again(shop: Shop, signed: OciRef) -> None:
    shop.attaches(signed, b"no bundle")
    shop.registry.link = lambda path, query: path
    ((code, why),) = shop.verify(signed, KEY).accepts().others
    assert code == Code.BUNDLE_MALFORMED
    assert "leads back" in why
    assert len(shop.registry.pages()) == 1


def test_a_layer_that_is_larger_than_it_says_takes_nothing_from_the_others(shop: Shop) -> None:
    """Any party may attach something: it is left out by name, before and behind what counts."""
    image = shop.image()
    for size in (1, 1 << 20):
        if size > 1:
            shop.signs(image, *ATTEST, *KEYED)
        data = b"x" * (size + 1)
        shop.attaches(image, data, layers=[descriptor(data, BUNDLE) | {"size": size}])
    verdict = shop.verify(image, KEY).accepts()
    assert [code for code, _ in verdict.others] == [Code.BUNDLE_MALFORMED] * 2
    assert all("bytes, and may have" in why for _, why in verdict.others)


def test_a_manifest_that_is_too_large_takes_nothing_from_the_others(shop: Shop) -> None:
    image = shop.image()
    shop.attaches(image, padding="x" * LIMIT)
    shop.signs(image, *ATTEST, *KEYED)
    ((code, why),) = shop.verify(image, KEY).accepts().others
    assert code == Code.BUNDLE_MALFORMED
    assert f"is larger than {LIMIT} bytes" in why


def test_more_than_is_read(shop: Shop) -> None:
    """A party that may attach can keep others from being read: then they don't count. It is said."""
    image, shop.registry.page = shop.image(), 1000
    shop.signs(image, *ATTEST, "--key", "another.key", "--tlog-upload=false")
    for number in range(MOST_MANIFESTS - 1):
        shop.attaches(image, annotations={"number": str(number)}, layers=[])
    shop.signs(image, *ATTEST, *KEYED)
    accepted, refused = shop.verify(image, ANOTHER).accepts().others, shop.verify(image, KEY).refuses()
    assert [code for code, _ in accepted] == [Code.BUNDLE_MALFORMED]
    assert [code for code, _ in refused] == [Code.SIGNER_UNKNOWN, Code.BUNDLE_MALFORMED]
    assert all(f"more than {MOST_MANIFESTS} manifests" in said[-1][1] for said in (accepted, refused))
