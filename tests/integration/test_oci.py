"""Images from a real registry, and from one that does what it likes: by digest, or not at all."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import override
from urllib.parse import parse_qs, urlsplit

import pytest

from mvmnix.api.frontend import SilentProgress
from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.https import Downloader, DownloadError, DownloadLimits
from mvmnix.builder.oci.image import build_request, resolve_image
from mvmnix.builder.oci.reference import OciRef
from mvmnix.builder.oci.registry import Registries
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.errors import ReasonCode as Code
from mvmnix.model import Source
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store
from tests.conftest import Home
from tests.descriptors import open_below
from tests.integration.misbehaving import Asked, Server
from tests.patience import EVENT_PATIENCE, PATIENCE
from tests.registry import DockerRegistry
from tests.unit.builder.oci.images import MANIFEST, Pushed, descriptor, name_of, pushed

pytestmark = pytest.mark.integration

LIMITS = DownloadLimits(size=1 << 30, seconds=PATIENCE, stall=EVENT_PATIENCE, connect=EVENT_PATIENCE, attempts=2)
IMAGE = pushed(b"one", b"two" * 100_000, Cmd=["/bin/app"])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path_factory.mktemp("registry") / "it") as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Directory.create(str(tmp_path / "store")))


@contextmanager
def registries(store: Store, *origins: str) -> Iterator[Registries]:
    allowed = Allowlist(frozenset(), frozenset(origins))
    with Downloader(allowed, LIMITS, environment={}, sleep=lambda _: None) as downloader:
        yield Registries(downloader, store)


# Debian's docker-registry


def test_an_image_comes_by_digest(registry: DockerRegistry, store: Store) -> None:
    wanted = registry.push(IMAGE)
    with registries(store, registry.origin) as them:
        found = resolve_image(wanted, them)
        sources = [wanted.sibling(layer.digest).source for layer in found.layers]
        assert not any(store.has(source.digest) for source in sources)
        them.fetch([*sources, *(document.source for document in found.documents)], SilentProgress())
    assert [store.read(source.digest, limit=1 << 20) for source in sources] == [
        IMAGE.blobs[str(source.digest)] for source in sources
    ]


def test_of_an_index_one_image_comes(registry: DockerRegistry, store: Store) -> None:
    other = pushed(b"for another machine")
    registry.push(other, "team/many")
    arm = descriptor(other.document, MANIFEST, platform={"os": "linux", "architecture": "arm64"})
    wanted = registry.push(IMAGE, "team/many", index=IMAGE.index(arm))
    with registries(store, registry.origin) as them:
        found = resolve_image(wanted, them)
    assert found.documents[1].digest == Digest.of(IMAGE.document)
    assert not store.has(Digest.of(other.document))


def test_what_came_is_not_asked_for_again(registry: DockerRegistry, store: Store) -> None:
    wanted = registry.push(IMAGE, "team/again")
    with registries(store, registry.origin) as them:
        first = build_request(wanted, them)
    with registries(store) as nobody:  # whom it may not ask
        assert build_request(wanted, nobody).flake.nar == first.flake.nar
    assert registry.visits() > 0


def test_a_registry_that_is_not_listed_is_not_asked(registry: DockerRegistry, store: Store) -> None:
    wanted = registry.push(IMAGE, "team/unlisted")
    before = registry.visits()
    with registries(store) as them, pytest.raises(RefusedError) as caught:
        resolve_image(wanted, them)
    assert caught.value.codes == (Code.FETCH_NOT_ALLOWED,)
    assert registry.visits() == before
    assert f'"{registry.origin}"' in caught.value.reasons[0].hint, "what to list, as it stands in config.toml"


def test_bytes_that_rotted_in_the_registry(registry: DockerRegistry, store: Store, tmp_path: Path) -> None:
    image = pushed(b"to be changed")
    wanted = registry.push(image, "team/rotten")
    layer = wanted.sibling(Digest(image.manifest["layers"][0]["digest"].removeprefix("sha256:")))
    kept = registry.stored(layer.digest)
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(data)
    with registries(store, registry.origin) as them, pytest.raises(RefusedError) as caught:
        them.fetch([layer.source], SilentProgress())
    assert caught.value.codes == (Code.SOURCE_MISMATCH,)
    assert not store.has(layer.digest)
    assert list(Path(store._directory.path).iterdir()) == []
    assert open_below(tmp_path) == {store._directory.path}


def test_what_a_registry_does_not_have(registry: DockerRegistry, store: Store) -> None:
    absent = OciRef(registry.host, "team/app", Digest("0" * 64))
    with registries(store, registry.origin) as them:
        with pytest.raises(DownloadError) as caught:
            resolve_image(absent, them)
        assert caught.value.status == 404
        with pytest.raises(DownloadError):
            them.fetch([absent.source], SilentProgress())


@pytest.mark.parametrize(
    "reference", ["{host}/team/app", "{host}/team/app:latest", "{host}/team/app:1@" + name_of(b"")]
)
@pytest.mark.parametrize("command", [("image", "pull"), ("run",), ("build",), ("plan", "create")])
def test_a_tag_is_refused_before_any_connection(
    command: tuple[str, ...], reference: str, registry: DockerRegistry, home: Home
) -> None:
    registry.push(IMAGE, "team/tagged")
    home.list_server(registry.origin)
    before = registry.visits()
    done = home.mvm(*command, f"oci://{reference.format(host=registry.host)}")
    assert done.returncode == 126, done.stderr.decode()
    assert b"[oci-unpinned]" in done.stderr
    assert registry.visits() == before


def test_no_flag_makes_it_less_strict(home: Home) -> None:
    said = home.mvm("image", "pull", "--help").stdout.decode()
    assert set(re.findall(r"--[a-z-]+", said)) == {"--again", "--out", "--json", "--help"}


# A registry that does what a test tells it


class Stage:
    """A server that plays a registry, and what may be asked of it."""

    def __init__(self, server: Server, image: Pushed) -> None:
        self.server, self.image = server, image
        self.wanted = OciRef(server.origin.partition("//")[2], "team/app", Digest.of(image.document))
        self.serve("manifests", image.document)
        for data in image.blobs.values():
            self.serve("blobs", data)

    def path(self, kind: str, data: bytes) -> str:
        return f"/v2/team/app/{kind}/{name_of(data)}"

    def serve(self, kind: str, data: bytes) -> None:
        self.server.routes[self.path(kind, data)] = lambda it: it.answer(data)

    def demand(self, challenge: str, token: str) -> None:
        """Ask everybody for a token from now on."""
        for path, handler in list(self.server.routes.items()):

            def guarded(it: Asked, handler: object = handler) -> None:
                if it.headers.get("authorization") == f"Bearer {token}":
                    assert callable(handler)
                    handler(it)
                else:
                    it.answer(b"{}", f"WWW-Authenticate: {challenge}", status="401 Unauthorized")

            self.server.routes[path] = guarded


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Server(name="127.0.0.1") as server:
        yield Stage(server, pushed(b"one", Cmd=["/bin/app"]))


def test_a_token_for_anybody(stage: Stage, store: Store) -> None:
    with Server(name="127.0.0.1") as service:
        service.routes["/token"] = lambda it: it.answer(b'{"token": "abc", "expires_in": 60}')
        stage.demand(f'Bearer realm="{service.origin}/token",service="it, really",scope="repository:other:push"', "abc")
        with registries(store, stage.server.origin, service.origin) as them:
            found = resolve_image(stage.wanted, them)
            them.fetch([stage.wanted.sibling(layer.digest).source for layer in found.layers], SilentProgress())
        (asked,) = service.paths()
        assert parse_qs(urlsplit(asked).query) == {"scope": ["repository:team/app:pull"], "service": ["it, really"]}
        assert not any("authorization" in headers for _, headers in service.asked)


@pytest.mark.parametrize(
    ("challenge", "error", "said"),
    [
        ('Basic realm="x"', MvmnixError, "a login that mvm does not know"),
        ("Bearer", MvmnixError, "a login that mvm does not know"),
        ('Bearer service="x"', MvmnixError, "a login that mvm does not know"),
        ('Bearer realm="https://elsewhere.example/token"', RefusedError, "fetch-not-allowed"),
        ('Bearer realm="http://169.254.169.254/token"', RefusedError, "fetch-not-allowed"),
        ('Bearer realm="file:///etc/passwd"', RefusedError, "fetch-not-allowed"),
        ('Bearer realm="{origin}/none"', DownloadError, "404"),
        ('Bearer realm="{origin}/odd"', MvmnixError, "gives no token"),
        ('Bearer realm="{origin}/wrong"', DownloadError, "401"),
    ],
)
def test_other_demands(challenge: str, error: type[MvmnixError], said: str, stage: Stage, store: Store) -> None:
    stage.demand(challenge.format(origin=stage.server.origin), "abc")
    stage.server.routes["/odd"] = lambda it: it.answer(b'{"token": "a\\nb"}')
    stage.server.routes["/wrong"] = lambda it: it.answer(b'{"access_token": "xyz"}')
    with registries(store, stage.server.origin) as them, pytest.raises(error, match=re.escape(said)):
        resolve_image(stage.wanted, them)


def test_a_layer_that_may_not_be_had_is_not_asked_for_as_a_manifest(stage: Stage, store: Store) -> None:
    layer = stage.wanted.sibling(Digest(stage.image.manifest["layers"][0]["digest"].removeprefix("sha256:")))
    data = stage.image.blobs[str(layer.digest)]
    login = f'WWW-Authenticate: Bearer realm="{stage.server.origin}/token"'
    stage.server.routes[stage.path("blobs", data)] = lambda it: it.answer(b"no", login, status="403 Forbidden")
    stage.serve("manifests", data)
    with registries(store, stage.server.origin) as them, pytest.raises(DownloadError) as caught:
        them.fetch([layer.source], SilentProgress())
    assert caught.value.status == 403
    assert stage.server.paths() == [stage.path("blobs", data)]


def test_a_document_is_asked_for_as_a_manifest_where_it_is_no_blob(stage: Stage, store: Store) -> None:
    with registries(store, stage.server.origin) as them:
        them.fetch([stage.wanted.source], SilentProgress())
    document = stage.image.document
    assert stage.server.paths() == [stage.path("blobs", document), stage.path("manifests", document)]
    assert store.has(stage.wanted.digest)


def test_a_token_that_is_no_good_is_not_asked_for_again(stage: Stage, store: Store) -> None:
    stage.demand(f'Bearer realm="{stage.server.origin}/wrong"', "abc")
    stage.server.routes["/wrong"] = lambda it: it.answer(b'{"token": "xyz"}')
    with registries(store, stage.server.origin) as them:
        for _ in range(2):
            with pytest.raises(DownloadError) as caught:
                resolve_image(stage.wanted, them)
            assert caught.value.status == 401
    asked = [path.partition("?")[0] for path in stage.server.paths()]
    assert asked.count("/wrong") == 1
    assert len(asked) == 4


@pytest.mark.parametrize("size", [1 << 16, (1 << 16) + 1])
def test_how_large_the_answer_of_a_token_service_may_be(size: int, stage: Stage, store: Store) -> None:
    stage.demand(f'Bearer realm="{stage.server.origin}/token"', "abc")
    stage.server.routes["/token"] = lambda it: it.answer(b'{"token": "abc"}'.ljust(size))
    with registries(store, stage.server.origin) as them:
        if size == 1 << 16:
            assert them.document(stage.wanted) == stage.image.document
            return
        with pytest.raises(RefusedError) as caught:
            them.document(stage.wanted)
    assert caught.value.codes == (Code.FETCH_LIMIT,)


def test_what_came_is_on_the_disk_before_it_has_its_name(
    stage: Stage, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[bool] = []
    real, wanted = os.fsync, stage.wanted.digest.hex

    def fsync(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").is_file():
            named.append((Path(store._directory.path) / wanted).exists())
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with registries(store, stage.server.origin) as them:
        them.document(stage.wanted)
    assert named == [False]


def test_progress_says_how_many_come_and_which(stage: Stage, store: Store) -> None:
    told: list[object] = []

    class Told:
        def total(self, count: int) -> None:
            told.append(count)

        def advance(self, name: str, size: int) -> None:
            told.append((name, size))

    sources = [stage.wanted.sibling(Digest.of(data)).source for data in stage.image.blobs.values()]
    with registries(store, stage.server.origin) as them:
        for _ in range(2):
            them.fetch([*sources, sources[0]], Told())
    sizes = [len(data) for data in stage.image.blobs.values()]
    assert told == [len(sources), *((it.name, size) for it, size in zip(sources, sizes, strict=True))]


def test_bytes_that_two_repositories_have_come_once(stage: Stage, store: Store) -> None:
    sizes: list[int] = []

    class Told(SilentProgress):
        @override
        def advance(self, name: str, size: int) -> None:
            sizes.append(size)

    data = next(iter(stage.image.blobs.values()))
    here = stage.wanted.sibling(Digest.of(data))
    with registries(store, stage.server.origin) as them:
        them.fetch([here.source, OciRef(here.host, "team/other", here.digest).source], Told())
    assert sizes == [len(data), 0]
    assert stage.server.paths() == [stage.path("blobs", data)]


def test_other_bytes(stage: Stage, store: Store) -> None:
    evil = stage.image.document.replace(b"team", b"evil") + b" "
    stage.server.routes[stage.path("manifests", stage.image.document)] = lambda it: it.answer(evil)
    with registries(store, stage.server.origin) as them, pytest.raises(RefusedError) as caught:
        resolve_image(stage.wanted, them)
    assert caught.value.codes == (Code.SOURCE_MISMATCH,)


def test_a_manifest_without_end(stage: Stage, store: Store) -> None:
    size = 5 << 20
    stage.server.routes[stage.path("manifests", stage.image.document)] = lambda it: it.answer(b" " * size)
    with registries(store, stage.server.origin) as them, pytest.raises(RefusedError) as caught:
        resolve_image(stage.wanted, them)
    assert caught.value.codes == (Code.FETCH_LIMIT,)


def test_layers_may_lie_where_the_list_says(stage: Stage, store: Store) -> None:
    layer = stage.wanted.sibling(Digest(stage.image.manifest["layers"][0]["digest"].removeprefix("sha256:")))
    data = stage.image.blobs[str(layer.digest)]
    with Server(name="127.0.0.1") as storage:
        storage.routes["/there"] = lambda it: it.answer(data)
        stage.server.routes[stage.path("blobs", data)] = lambda it: it.redirect(f"{storage.origin}/there")
        with registries(store, stage.server.origin) as them, pytest.raises(RefusedError) as caught:
            them.fetch([layer.source], SilentProgress())
        assert caught.value.codes == (Code.FETCH_NOT_ALLOWED,)
        assert storage.asked == []
        with registries(store, stage.server.origin, storage.origin) as them:
            them.fetch([layer.source], SilentProgress())
    assert store.has(layer.digest)


@pytest.mark.parametrize("size", [4 << 20, (4 << 20) + 1])
def test_how_large_a_manifest_may_be(size: int, stage: Stage, store: Store) -> None:
    data = stage.image.document.ljust(size)
    stage.serve("manifests", data)
    with registries(store, stage.server.origin) as them:
        if size == 4 << 20:
            assert them.document(stage.wanted.sibling(Digest.of(data))) == data
            return
        with pytest.raises(RefusedError) as caught:
            them.document(stage.wanted.sibling(Digest.of(data)))
    assert caught.value.codes == (Code.FETCH_LIMIT,)


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("oci://127.0.0.1/team/app:1", Code.SOURCE_UNKNOWN),
        ("oci://127.0.0.1/", Code.SOURCE_UNKNOWN),
        (f"oci://127.0.0.1/team/app@{name_of(b'other')}", Code.SOURCE_MISMATCH),
    ],
)
def test_a_pin_names_what_it_pins(uri: str, code: Code, store: Store) -> None:
    with registries(store) as them, pytest.raises(RefusedError) as caught:
        them.fetch([Source(uri, "layer", Digest.of(b"this"))], SilentProgress())
    assert caught.value.codes == (code,)
