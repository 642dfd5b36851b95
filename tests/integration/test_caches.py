"""Binary caches made by `nix copy`, behind nginx with TLS, as they are and tampered with."""

import base64
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix.builder.fetch import narinfo
from mvmnix.builder.fetch.caches import Caches
from mvmnix.builder.fetch.https import DownloadLimits
from mvmnix.builder.fetch.worker import documents
from mvmnix.config import CacheKey, CacheRule
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.formats.nar import nar_hash
from mvmnix.model import StorePath
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Cache, Store
from tests.integration.misbehaving import Authority, Server
from tests.integration.webserver import serving
from tests.patience import EVENT_PATIENCE, PATIENCE

pytestmark = pytest.mark.integration

LIMITS = DownloadLimits(size=1 << 24, seconds=PATIENCE, stall=EVENT_PATIENCE, connect=EVENT_PATIENCE, attempts=2)
NIX = (
    *("nix", "--extra-experimental-features", "nix-command flakes"),
    *("--option", "build-users-group", "", "--option", "substitute", "false"),
)


def nix(*arguments: str | Path, home: Path, stdin: bytes = b"") -> str:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run([*NIX, *arguments], env=environment, input=stdin, capture_output=True, check=True)
    return done.stdout.decode().strip()


@dataclass
class World:
    """A store with two paths, one of which needs the other, and the caches made of it."""

    base: Path
    authority: Authority
    origin: str
    needed: StorePath
    needing: StorePath
    keys: dict[str, CacheKey]

    def directory(self, name: str) -> Path:
        return self.base / "www" / name

    def copy(self, name: str, *options: str) -> None:
        """Let Nix make a cache of that name."""
        target = f"file://{self.directory(name)}?{'&'.join(options)}"
        nix("--store", self.base / "store", "copy", "--to", target, str(self.needing), home=self.base)

    def secret(self, key: str) -> str:
        return f"secret-key={self.base / key}.sec"

    def caches(self, *names: str, keys: tuple[str, ...] = ("ours-1",), limits: DownloadLimits = LIMITS) -> Caches:
        trusted = tuple(self.keys[key] for key in keys)
        rules = [CacheRule(name if "://" in name else f"{self.origin}/{name}", trusted) for name in names]
        return Caches(rules, limits, environment={"SSL_CERT_FILE": str(self.authority.bundle)})

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        """Change the narinfo of the path that needs another."""
        path = self.directory(name) / f"{self.needing.hash}.narinfo"
        path.write_text(change(path.read_text()))

    def archive(self, name: str) -> Path:
        """The file that the narinfo of that path points at."""
        text = (self.directory(name) / f"{self.needing.hash}.narinfo").read_bytes()
        return self.directory(name) / narinfo.parse_narinfo(documents.narinfo(text)).url


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    base = tmp_path_factory.mktemp("caches")
    authority = Authority.create(base)
    (base / "www").mkdir()
    keys = {}
    for name in ("ours-1", "theirs-1"):
        secret = nix("key", "generate-secret", "--key-name", name, home=base)
        (base / f"{name}.sec").write_text(secret)
        keys[name] = CacheKey.parse(nix("key", "convert-secret-to-public", home=base, stdin=secret.encode()))
    needed, needing = store_paths(base)
    with serving(base / "www", base, authority) as origin:
        world = World(base, authority, origin, needed, needing, keys)
        world.copy("good", "compression=xz", world.secret("ours-1"))
        for compression in ("bzip2", "gzip", "zstd"):
            world.copy(compression, f"compression={compression}", world.secret("ours-1"))
        world.copy("plain", "compression=none", world.secret("ours-1"))
        world.copy("unsigned", "compression=xz")
        world.copy("theirs", "compression=xz", world.secret("theirs-1"))
        yield world


def store_paths(base: Path) -> tuple[StorePath, StorePath]:
    """Two paths, built so that one has a reference to the other and none is addressed by its content."""
    (base / "default.nix").write_text(
        """
        let
          sh = args: derivation (args // { system = "x86_64-linux"; builder = "/bin/sh"; });
          needed = sh { name = "needed"; args = [ "-c" "echo needed > $out" ]; };
        in
        sh { name = "needing"; args = [ "-c" "echo ${needed} > $out" ]; }
        """
    )
    argv = ("--store", base / "store", "build", "--no-link", "--print-out-paths", "--option", "sandbox", "true")
    needing = StorePath.parse(nix(*argv, "--file", base / "default.nix", home=base))
    query = ("--store", base / "store", "path-info", "--recursive", str(needing))
    paths = [StorePath.parse(line) for line in nix(*query, home=base).splitlines()]
    (needed,) = (path for path in paths if path != needing)
    return needed, needing


@pytest.fixture
def world(made: World) -> World:
    """Without what the test before tampered with."""
    shutil.rmtree(made.directory("bad"), ignore_errors=True)
    shutil.copytree(made.directory("good"), made.directory("bad"))
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Directory.create(str(tmp_path / "sources")) as directory:
        yield Cache(directory)


@pytest.mark.parametrize("name", ["good", "plain", "bzip2", "gzip"])
def test_a_signed_path_is_found_and_brought(world: World, store: Store, name: str) -> None:
    with world.caches(name) as caches:
        found = caches.find(world.needing.hash)
        assert found is not None
        caches.bring(found, store)
    assert (found.path, found.references, found.key) == (world.needing, (world.needed,), world.keys["ours-1"].text)
    archive = subprocess.run(
        ["nix-store", "--dump", f"{world.base}/store{world.needing}"], check=True, capture_output=True
    ).stdout
    assert nar_hash([archive]) == (found.nar, found.size)
    assert store.read(found.nar, limit=1 << 20) == archive


def test_a_miss_is_final(world: World) -> None:
    with Server(world.authority.context("localhost")) as server, world.caches(server.origin, "plain") as caches:
        assert caches.find("0" * 32) is None
        assert caches.find("0" * 32) is None
    assert len(server.asked) == 1


def test_the_next_cache_is_asked_when_one_does_not_count(world: World, store: Store) -> None:
    doubts = list[MvmnixError]()
    with world.caches("unsigned", "theirs", "good") as caches:
        found = caches.find(world.needing.hash, doubts.append)
        assert found is not None
        caches.bring(found, store)
    assert found.cache == f"{world.origin}/good"
    assert [error.codes for error in doubts if isinstance(error, RefusedError)] == [(ReasonCode.CACHE_SIGNATURE,)] * 2


def test_either_of_two_keys_will_do(world: World) -> None:
    with world.caches("theirs", keys=("ours-1", "theirs-1")) as caches:
        found = caches.find(world.needing.hash)
    assert found is not None
    assert found.key == world.keys["theirs-1"].text


def replaced(old: str, new: str) -> Callable[[World], None]:
    def change(text: str) -> str:
        changed = "\n".join(new if line.startswith(old + ":") else line for line in text.splitlines()) + "\n"
        assert changed != text
        return changed

    return lambda world: world.edit("bad", change)


def only_content_addressed(world: World) -> None:
    """No signature, and a CA field that even fits."""

    def change(text: str) -> str:
        info = narinfo.parse_narinfo(documents.narinfo(text.encode()))
        unsigned = [line for line in text.splitlines() if not line.startswith("Sig:")]
        return "\n".join([*unsigned, f"CA: fixed:r:sha256:{info.nar.nix32}", ""])

    world.edit("bad", change)


def another_path(world: World) -> None:
    """The signed answer for one path, where another was asked for."""
    theirs = world.directory("bad") / f"{world.needed.hash}.narinfo"
    shutil.copy(theirs, world.directory("bad") / f"{world.needing.hash}.narinfo")


def forged_signature(world: World) -> None:
    replaced("Sig", f"Sig: ours-1:{base64.b64encode(bytes(64)).decode()}")(world)


NAR_HASH = "NarHash: sha256:" + "0" * 52
#: How an answer is spoilt, and what is said of it.
SPOILT: dict[str, tuple[Callable[[World], None], ReasonCode]] = {
    "unsigned": (lambda world: world.edit("bad", without("Sig")), ReasonCode.CACHE_SIGNATURE),
    "forged": (forged_signature, ReasonCode.CACHE_SIGNATURE),
    "a CA field only": (only_content_addressed, ReasonCode.CACHE_SIGNATURE),
    "a lying size": (replaced("NarSize", "NarSize: 1000"), ReasonCode.CACHE_SIGNATURE),
    "too long": (
        lambda world: world.edit("bad", lambda text: text + f"X: {'x' * (1 << 20)}\n"),
        ReasonCode.FETCH_LIMIT,
    ),
    "a huge size": (replaced("NarSize", f"NarSize: {1 << 40}"), ReasonCode.FETCH_LIMIT),
    "a lying hash": (replaced("NarHash", NAR_HASH), ReasonCode.CACHE_SIGNATURE),
    "fewer references": (replaced("References", "References: "), ReasonCode.CACHE_SIGNATURE),
    "another path's": (another_path, ReasonCode.CACHE_MALFORMED),
    "an address elsewhere": (replaced("URL", "URL: https://other.example/x.nar"), ReasonCode.CACHE_MALFORMED),
    "an address above": (replaced("URL", "URL: ../good/x.nar"), ReasonCode.CACHE_MALFORMED),
    "packed in another way": (replaced("Compression", "Compression: br"), ReasonCode.CACHE_MALFORMED),
    "not an answer": (lambda world: world.edit("bad", lambda _: "<html>\n"), ReasonCode.CACHE_MALFORMED),
}


def without(field: str) -> Callable[[str], str]:
    return lambda text: "".join(line + "\n" for line in text.splitlines() if not line.startswith(field + ":"))


@pytest.mark.parametrize("case", SPOILT)
def test_an_answer_that_does_not_count(world: World, case: str) -> None:
    spoil, code = SPOILT[case]
    spoil(world)
    with world.caches("bad") as caches:
        for _ in range(2):  # the second time without another question
            with pytest.raises(RefusedError) as refusal:
                caches.find(world.needing.hash)
            assert set(refusal.value.codes) == {code}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("unsigned", ReasonCode.CACHE_SIGNATURE),
        ("theirs", ReasonCode.CACHE_SIGNATURE),
        ("zstd", ReasonCode.CACHE_MALFORMED),
    ],
)
def test_a_cache_as_nix_makes_it_that_does_not_count(world: World, name: str, code: ReasonCode) -> None:
    with world.caches(name) as caches, pytest.raises(RefusedError) as refusal:
        caches.find(world.needing.hash)
    assert refusal.value.codes == (code,)


def swapped(world: World) -> None:
    """The archive of the other path."""
    text = (world.directory("bad") / f"{world.needed.hash}.narinfo").read_bytes()
    shutil.copy(world.directory("bad") / narinfo.parse_narinfo(documents.narinfo(text)).url, world.archive("bad"))


def another_packing(world: World) -> None:
    """The right archive, packed as something else: the field is not signed."""
    shutil.copy(world.archive("plain"), world.archive("bad"))


def bomb(world: World) -> None:
    packed = subprocess.run(["xz", "-c"], input=bytes(1 << 24), capture_output=True, check=True).stdout
    world.archive("bad").write_bytes(packed)


def cut_off(world: World) -> None:
    path = world.archive("bad")
    path.write_bytes(path.read_bytes()[:-8])


def followed(world: World) -> None:
    path = world.archive("bad")
    path.write_bytes(path.read_bytes() + b"more")


@pytest.mark.parametrize("spoil", [swapped, another_packing, bomb, cut_off, followed])
def test_an_archive_that_is_not_the_signed_one(world: World, store: Store, spoil: Callable[[World], None]) -> None:
    with world.caches("bad") as caches:
        found = caches.find(world.needing.hash)
        assert found is not None
        spoil(world)
        with pytest.raises(RefusedError) as refusal:
            caches.bring(found, store)
    assert refusal.value.codes == (ReasonCode.SOURCE_MISMATCH,)
    assert (store.digests(), store.has(found.nar)) == ((), False)


def test_an_archive_that_is_gone(world: World, store: Store) -> None:
    with world.caches("bad") as caches:
        found = caches.find(world.needing.hash)
        assert found is not None
        world.archive("bad").unlink()
        with pytest.raises(MvmnixError, match="answers 404"):
            caches.bring(found, store)


def test_a_question_carries_a_hash_and_nothing_else(world: World) -> None:
    with Server(world.authority.context("localhost")) as server, world.caches(server.origin) as caches:
        assert caches.find("0" * 32) is None
        with pytest.raises(ValueError, match="not a store path"):
            caches.find("../../secret")
    ((path, headers),) = server.asked
    assert path == f"/{'0' * 32}.narinfo"
    assert set(headers) == {"host", "accept-encoding", "user-agent"}


def test_a_redirect_off_the_cache_is_refused(world: World) -> None:
    with Server(world.authority.context("localhost")) as server, world.caches(server.origin) as caches:
        path = f"/{world.needing.hash}.narinfo"
        server.routes[path] = lambda it: it.redirect(f"{world.origin}/good{path}")
        with pytest.raises(RefusedError) as refusal:
            caches.find(world.needing.hash)
    assert refusal.value.codes == (ReasonCode.FETCH_NOT_ALLOWED,)


def test_a_cache_that_is_down_is_not_asked_again_and_again(world: World) -> None:
    with Server(world.authority.context("localhost")) as server:
        quick = DownloadLimits(attempts=1)
        server.routes["/" + "0" * 32 + ".narinfo"] = lambda it: it.answer(b"", status="503 Service Unavailable")
        with world.caches(server.origin, "good", limits=quick) as caches:
            with pytest.raises(MvmnixError, match="answers 503"):
                caches.find("0" * 32)
            found = caches.find(world.needing.hash)
        assert found is not None
        assert len(server.asked) == 1
