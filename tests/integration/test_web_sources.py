"""Fixed outputs from addresses of the web: flat ones, and those whose hash is that of a NAR, through a real server."""

import bz2
import io
import lzma
import secrets
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.https import Downloader, DownloadLimits
from mvmnix.builder.pins.sources import fetch_sources
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.formats.nar import Dir, File, Node, Symlink, nar_hash, nar_of_tree
from mvmnix.model import HashMode, Source
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Cache, Store
from tests.integration.misbehaving import Asked, Server
from tests.patience import EVENT_PATIENCE, PATIENCE
from tests.support.frontends import Recorder

pytestmark = pytest.mark.integration

#: A name that no other file of this machine has.
ESCAPED = f"escaped-{secrets.token_hex(8)}"
DATA = b"#!/bin/sh\necho hello\n"
TREE = Dir(
    {
        b"run": File.of(DATA, executable=True),
        b"sub": Dir({b"empty": Dir({}), b"text": File.of(b"text\n")}),
        b"link": Symlink(b"sub/text"),
    }
)


@dataclass
class World:
    """A server of this machine that is listed, and an empty store."""

    server: Server
    store: Store
    told: Recorder = field(default_factory=Recorder)

    def serve(self, path: str, body: bytes) -> str:
        self.server.routes[path] = lambda it: it.answer(body)
        return self.server.origin + path

    def fetch(self, *sources: Source) -> None:
        allowed = Allowlist(frozenset(), frozenset({self.server.origin}))
        limits = DownloadLimits(size=1 << 20, seconds=PATIENCE, stall=EVENT_PATIENCE, attempts=2, parallel=3)
        with Downloader(allowed, limits, environment={}) as downloader:
            fetch_sources(sources, self.store, self.told, registries=[], downloader=downloader)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Directory.create(str(tmp_path / "sources")) as directory, Server() as server:
        yield World(server, Cache(directory))


def nar(tree: Node) -> bytes:
    return b"".join(nar_of_tree(tree))


def flat(uri: str, data: bytes) -> Source:
    return Source(uri, uri.rpartition("/")[2] or "x", Digest.of(data))


def recursive(uri: str, tree: Node) -> Source:
    return Source(uri, "source", nar_hash(nar_of_tree(tree))[0], HashMode.NAR)


def tar(tree: Dir, top: str = "", *, how: str = "gz") -> bytes:
    """A tree as GNU tar would pack it, below the directory `top`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{how}") as archive:  # type: ignore[call-overload]
        if top:
            add(archive, top, Dir({}))
        for name, node in tree.entries.items():
            add(archive, f"{top}/{name.decode()}".lstrip("/"), node)
    return out.getvalue()


def add(archive: tarfile.TarFile, name: str, node: Node) -> None:
    info = tarfile.TarInfo(name)
    match node:
        case File():
            data = b"".join(node.open())
            info.size, info.mode = len(data), 0o755 if node.executable else 0o644
            archive.addfile(info, io.BytesIO(data))
        case Symlink():
            info.type, info.linkname = tarfile.SYMTYPE, node.target.decode()
            archive.addfile(info)
        case Dir():
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
            for inner, child in node.entries.items():
                add(archive, f"{name}/{inner.decode()}", child)


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("project-1/text", "text\n")
    return out.getvalue()


#: What is served, under which name, and the tree whose NAR it is to be.
TREES: dict[str, tuple[str, Callable[[], bytes], Node]] = {
    "a plain file": ("/file", lambda: DATA, File.of(DATA)),
    "an executable": ("/busybox", lambda: DATA, File.of(DATA, executable=True)),
    "one directory, stripped": ("/v1.tar.gz", lambda: tar(TREE, "project-1"), TREE),
    "one directory, without a telling name": ("/tarball/v1", lambda: tar(TREE, "project-1"), TREE),
    "several files": ("/v1.tar.xz", lambda: tar(TREE, how="xz"), TREE),
    "bzip2": ("/v1.tar.bz2", lambda: tar(TREE, "project-1", how="bz2"), TREE),
    "a zip file": ("/v1.zip", zipped, Dir({b"text": File.of(b"text\n")})),
    "an archive as it is": ("/v1.tar", lambda: b"not unpacked", File.of(b"not unpacked")),
    "a packed NAR": ("/tools.nar.xz", lambda: lzma.compress(nar(TREE)), TREE),
    "a NAR in bzip2": ("/tools.nar.bz2", lambda: bz2.compress(nar(TREE)), TREE),
    "a NAR": ("/tools.nar", lambda: nar(TREE), TREE),
}


@pytest.mark.parametrize("case", TREES)
def test_a_nar_hash_fits_what_it_is_meant_for(world: World, case: str) -> None:
    path, body, tree = TREES[case]
    source = recursive(world.serve(path, body()), tree)
    world.fetch(source)
    assert world.store.read(source.digest, limit=1 << 20) == nar(tree)
    assert world.store.digests() == (source.digest,)


def test_many_files_come_at_once_and_each_only_once(world: World) -> None:
    sources = [flat(world.serve(f"/file{number}", b"x" * number), b"x" * number) for number in range(1, 20)]
    world.fetch(*sources, sources[0])
    assert world.told == Recorder(19, {f"file{number}": number for number in range(1, 20)})
    assert all(world.store.read(one.digest, limit=100) == b"x" * number for number, one in enumerate(sources, 1))
    assert len(world.server.asked) == 19
    assert world.server.connections <= 3
    world.fetch(*sources)
    assert len(world.server.asked) == 19


def escaping() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        add(archive, "top/link", Symlink(b"/tmp"))
        add(archive, f"top/link/{ESCAPED}", File.of(b"out"))
        add(archive, f"../../{ESCAPED}", File.of(b"out"))
    return out.getvalue()


#: What is served and does not fit the hash of a tree, whatever it is taken for.
UNFIT: dict[str, bytes] = {
    "nothing": b"",
    "another file": b"other",
    "another tree": tar(Dir({b"other": File.of(b"other")}), "project-1"),
    "an archive that is cut off": tar(TREE, "project-1")[:-30],
    "an archive that leaves its place": escaping(),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_does_not_fit_gets_no_name(world: World, case: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        world.fetch(recursive(world.serve("/v1.tar.gz", UNFIT[case]), TREE))
    assert refusal.value.codes == (ReasonCode.SOURCE_MISMATCH,)
    assert world.store.digests() == ()
    assert not Path("/tmp", ESCAPED).exists()


def test_a_packed_nar_that_unpacks_without_end(world: World) -> None:
    with pytest.raises(RefusedError, match="more bytes than it may") as refusal:
        world.fetch(recursive(world.serve("/tools.nar.xz", lzma.compress(bytes(1 << 24))), TREE))
    assert refusal.value.codes == (ReasonCode.SOURCE_MISMATCH,)


def test_wrong_bytes_are_refused_and_everything_that_went_wrong_is_named(world: World) -> None:
    good = flat(world.serve("/good", b"good"), b"good")
    wrong = [flat(world.serve(f"/wrong{number}", b"wrong"), b"right") for number in range(2)]
    gone = flat(world.server.origin + "/gone", b"gone")
    large = flat(world.serve("/large", bytes(1 << 21)), bytes(1 << 21))
    with pytest.raises(RefusedError) as refusal:
        world.fetch(good, *wrong, gone, large)
    assert sorted(reason.code for reason in refusal.value.reasons) == [
        ReasonCode.FETCH_LIMIT,
        *[ReasonCode.SOURCE_MISMATCH] * 2,
    ]
    assert {reason.what for reason in refusal.value.reasons} == {wrong[0].uri, wrong[1].uri, large.uri}
    assert world.store.digests() == (good.digest,)
    lost = flat(world.server.origin + "/lost", b"lost")
    with pytest.raises(MvmnixError) as error:
        world.fetch(gone, lost)
    assert not isinstance(error.value, RefusedError)
    assert all(f"{one.uri} could not be fetched: the server answers 404" in str(error.value) for one in (gone, lost))


def test_addresses_that_are_not_listed_are_refused_before_anything_is_asked(world: World) -> None:
    good = flat(world.serve("/good", b"good"), b"good")
    far = flat("https://sources.example/x", b"x")
    private = flat("http://169.254.169.254/x", b"y")
    file = flat("file:///etc/passwd", b"z")
    with pytest.raises(RefusedError) as refusal:
        world.fetch(good, far, private, file)
    assert [(reason.code, reason.what) for reason in refusal.value.reasons] == [
        (ReasonCode.SOURCE_UNKNOWN, file.uri),
        (ReasonCode.FETCH_NOT_ALLOWED, far.uri),
        (ReasonCode.FETCH_NOT_ALLOWED, private.uri),
    ]
    assert not world.server.asked


@pytest.mark.parametrize("mode", HashMode)
def test_a_file_that_changed_in_the_middle_is_fetched_anew(world: World, mode: HashMode) -> None:
    def changing(it: Asked) -> None:
        if it.nth == 1:
            it.answer(b"the old file"[:8], length=12)
            it.hang_up()
        else:
            it.answer(b"the new file")

    world.server.routes["/file"] = changing
    uri = world.server.origin + "/file"
    source = flat(uri, b"the new file") if mode is HashMode.FLAT else recursive(uri, File.of(b"the new file"))
    world.fetch(source)
    assert world.store.digests() == (source.digest,)
    assert len(world.server.asked) == 3
