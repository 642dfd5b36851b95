"""The downloader, against a registry that really copies files and misbehaves on request."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import override

import pytest

from mvmnix.builder.fetch.registries import FILES, Command, Failure, FailureKind
from mvmnix.builder.fetch.routes import ToConfigured
from mvmnix.builder.pins.locks import DebianLock, DebianPin, Seed
from mvmnix.builder.pins.seed import seed_nar
from mvmnix.builder.pins.sources import fetch_sources
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.formats.nar import nar_hash
from mvmnix.model import Source
from mvmnix.sandbox.helper import SH
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Cache, Store
from tests.support.frontends import Recorder
from tests.unit.builder.pins.small_index import deb

SCHEME = "mirror://debian/"
#: Copies what exists of the named files, and complains about the others unless it is told to be silent.
SCRIPT = """
voice=$1 directory=$2; shift 2
[ "$voice" = down ] && { for name; do echo "down $name" >&2; done; exit 1; }
status=0
for name; do
  cp "/served/$name" "$directory/$name" 2>/dev/null || { status=1; [ "$voice" = silent ] || echo "gone $name" >&2; }
done
exit $status
"""


def source(name: str, data: bytes) -> Source:
    return Source(f"{SCHEME}pool/{name}", name, Digest.of(data))


@dataclass(frozen=True)
class FolderMirror:
    """Serves the files of a folder; `voice` is loud, silent (fails without a word) or down."""

    folder: Path
    voice: str = "loud"

    def command(self, batch: Sequence[Source]) -> Command:
        with (self.folder / ".runs").open("a") as file:
            file.write("run\n")
        arguments = ("-c", SCRIPT, "sh", self.voice, FILES, *(source.name for source in batch))
        return Command(SH, arguments, ToConfigured(frozenset()), files={"/served": self.folder})

    def file(self, source: Source) -> str:
        return source.name

    def failures(self, batch: Sequence[Source], stderr: str) -> Mapping[Source, Failure]:
        said = {name: word for word, _, name in (line.partition(" ") for line in stderr.splitlines())}
        troubles = {"gone": FailureKind.GONE, "down": FailureKind.FAILED}
        return {one: Failure(troubles[said[one.name]], said[one.name]) for one in batch if one.name in said}


@dataclass(frozen=True)
class FolderRegistry:
    """Two files a batch, from these mirrors."""

    places: tuple[FolderMirror, ...]
    scheme: str = SCHEME
    batch: int = 2

    def mirrors(self) -> Sequence[FolderMirror]:
        return self.places

    def describe(self, source: Source) -> tuple[str, str]:
        name, _, version = source.name.partition("_")
        return name, version

    def repair(self, sources: Sequence[Source]) -> str:
        return "repair " + " ".join(sorted(source.name for source in sources))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Directory.create(str(tmp_path / "sources")) as directory:
        yield Cache(directory)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


def serve(folder: Path, count: int) -> list[Source]:
    sources = []
    for number in range(count):
        data = f"file {number}".encode() * (number + 1)
        (folder / f"p{number}_1").write_bytes(data)
        sources.append(source(f"p{number}_1", data))
    return sources


def runs(folder: Path) -> int:
    return len((folder / ".runs").read_text().splitlines()) if (folder / ".runs").exists() else 0


def test_everything_is_fetched_once(store: Store, folder: Path) -> None:
    sources, told = serve(folder, 5), Recorder()
    registry = FolderRegistry((FolderMirror(folder),))
    fetch_sources([*sources, sources[0]], store, told, registries=[registry])
    assert all(store.has(one.digest) for one in sources)
    assert told.files == 5
    assert told.arrived == {one.name: (folder / one.name).stat().st_size for one in sources}
    assert runs(folder) == 3
    again = Recorder()
    fetch_sources(sources, store, again, registries=[registry])
    assert (again.files, again.arrived, runs(folder)) == (0, {}, 3)


def test_what_one_mirror_lacks_comes_from_the_next(store: Store, folder: Path, tmp_path: Path) -> None:
    sources = serve(folder, 3)
    other = tmp_path / "other"
    other.mkdir()
    (folder / sources[1].name).rename(other / sources[1].name)
    (other / sources[2].name).write_bytes((folder / sources[2].name).read_bytes())
    (folder / sources[2].name).write_bytes(b"wrong")
    registry = FolderRegistry((FolderMirror(folder), FolderMirror(other)))
    fetch_sources(sources, store, Recorder(), registries=[registry])
    assert all(store.has(one.digest) for one in sources)


def test_all_pins_that_are_gone_are_named_with_one_command(store: Store, folder: Path) -> None:
    sources = serve(folder, 4)
    (folder / "p1_1").unlink()
    (folder / "p3_1").unlink()
    with pytest.raises(MvmnixError) as error:
        fetch_sources(sources, store, Recorder(), registries=[FolderRegistry((FolderMirror(folder),))])
    assert not isinstance(error.value, RefusedError)
    assert "p1 1 is no longer served (mirror://debian/pool/p1_1: gone)" in error.value.message
    assert "p3 1 is no longer served" in error.value.message
    assert error.value.hint == "repair p1_1 p3_1"
    assert [store.has(one.digest) for one in sources] == [True, False, True, False]


def test_a_silent_child_is_asked_again_file_by_file(store: Store, folder: Path) -> None:
    sources = serve(folder, 2)
    (folder / "p1_1").unlink()
    with pytest.raises(MvmnixError, match=r"1 pin could not be fetched: p1 1\. The first: nothing arrived"):
        fetch_sources(sources, store, Recorder(), registries=[FolderRegistry((FolderMirror(folder, "silent"),))])
    assert store.has(sources[0].digest)
    assert runs(folder) == 2


def test_a_mirror_that_is_down_is_not_asked_for_each_batch(store: Store, folder: Path, tmp_path: Path) -> None:
    sources = serve(folder, 40)
    with pytest.raises(MvmnixError) as error:
        fetch_sources(sources, store, Recorder(), registries=[FolderRegistry((FolderMirror(folder, "down"),))])
    assert "40 pins could not be fetched: p0 1, p10 1, p11 1" in error.value.message
    assert error.value.hint.startswith("mvm pin fetch")
    asked = runs(folder)
    assert asked < 20
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    registry = FolderRegistry((FolderMirror(nowhere, "down"), FolderMirror(folder)))
    fetch_sources(sources, store, Recorder(), registries=[registry])
    assert (runs(nowhere) < 20, runs(folder)) == (True, asked + 20)


def test_wrong_bytes_are_refused_and_not_kept(store: Store, folder: Path, tmp_path: Path) -> None:
    sources = serve(folder, 3)
    (folder / "p0_1").write_bytes(b"other bytes")
    (folder / "p2_1").unlink()
    with pytest.raises(RefusedError) as refusal:
        fetch_sources(sources, store, Recorder(), registries=[FolderRegistry((FolderMirror(folder),))])
    assert refusal.value.codes == (ReasonCode.SOURCE_MISMATCH,)
    assert "mirror://debian/pool/p0_1" in str(refusal.value)
    assert "repair p0_1" in str(refusal.value)
    assert [path.name for path in (tmp_path / "sources").iterdir()] == [sources[1].digest.hex]


@pytest.mark.parametrize(
    "uri", ["https://example.org/p_1", "mirror://pypi/p_1", "file:///etc/passwd", "mirror:/debian/p_1"]
)
def test_what_no_registry_answers_for_is_refused_before_anything_runs(store: Store, folder: Path, uri: str) -> None:
    good, *_ = serve(folder, 1)
    strange = dataclasses.replace(good, uri=uri, digest=Digest.of(b"strange"))
    with pytest.raises(RefusedError) as refusal:
        fetch_sources([good, strange], store, Recorder(), registries=[FolderRegistry((FolderMirror(folder),))])
    assert refusal.value.codes == (ReasonCode.SOURCE_UNKNOWN,)
    assert runs(folder) == 0


def lock_of(folder: Path, seed: bytes = b"\x7fELF") -> DebianLock:
    """A lock of one package, which the folder serves."""
    data = deb({"./usr/bin/busybox": b"\x7fELF"})
    pin = DebianPin("busybox", "1", "amd64", "pool/busybox_1.deb", len(data), Digest.of(data), ())
    (folder / pin.source.name).write_bytes(data)
    nar, _ = nar_hash(seed_nar("usr/bin/busybox", seed))
    return DebianLock("trixie", "amd64", Seed("busybox", "usr/bin/busybox", nar), {}, {"busybox": pin})


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("mirror://pypi/_e-1.0-py3-none-any.whl", "not a wheel of a project"),
        ("mirror://pypi/x/../y-1.0-py3-none-any.whl", "not a wheel's file name"),
        ("mirror://debian/pool/../../x.deb", "not a path in a package archive"),
    ],
)
def test_a_name_that_no_registry_can_have_is_refused_before_anything_runs(store: Store, uri: str, why: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        fetch_sources([Source(uri, "x", Digest.of(b"x"))], store, Recorder())
    assert refusal.value.codes == (ReasonCode.SOURCE_UNKNOWN,)
    assert why in refusal.value.reasons[0].why


def test_a_child_works_in_an_empty_directory_of_its_own(store: Store, folder: Path) -> None:
    class Looking(FolderMirror):
        @override
        def command(self, batch: Sequence[Source]) -> Command:
            script = '{ pwd; ls -A "$1"; ls -A; } >"$1/x_1"'
            return Command(SH, ("-c", script, "sh", FILES), ToConfigured(frozenset()))

    said = b"/work\nx_1\nfiles\nhome\ninput\ntemporary\n"
    fetch_sources([source("x_1", said)], store, Recorder(), registries=[FolderRegistry((Looking(folder),))])


def test_the_seed_is_taken_from_its_package(store: Store, folder: Path) -> None:
    lock = lock_of(folder)
    registry = FolderRegistry((FolderMirror(folder),))
    fetch_sources([lock.seed_source], store, Recorder(), locks=[lock], registries=[registry])
    assert store.read(lock.seed.nar, limit=1000).startswith(b"\x0d\0\0\0\0\0\0\0nix-archive-1")


def test_a_seed_with_other_bytes_is_refused(store: Store, folder: Path) -> None:
    lock = lock_of(folder, seed=b"another")
    with pytest.raises(RefusedError) as refusal:
        fetch_sources(
            lock.sources(), store, Recorder(), locks=[lock], registries=[FolderRegistry((FolderMirror(folder),))]
        )
    assert refusal.value.codes == (ReasonCode.SOURCE_MISMATCH,)
    assert not store.has(lock.seed.nar)


@pytest.mark.parametrize("change", ["digest", "package", "path", "name"])
def test_a_seed_of_no_lock_is_refused_before_anything_is_unpacked(store: Store, folder: Path, change: str) -> None:
    """Its package may be there and be named beside it: three fixed outputs of a flake."""
    lock = lock_of(folder)
    package, seed = lock.sources()
    store.put((folder / package.name).read_bytes(), package.digest)
    uri, _, path = seed.uri.partition("#")
    foreign = {
        "digest": dataclasses.replace(seed, digest=Digest.of(b"x")),
        "package": dataclasses.replace(seed, uri=f"{uri}.deb#{path}"),
        "path": dataclasses.replace(seed, uri=f"{uri}#bin/sh"),
        "name": dataclasses.replace(seed, name="sh"),
    }[change]
    others = [package, dataclasses.replace(package, uri=foreign.uri.partition("#")[0])]
    with pytest.raises(RefusedError) as refusal:
        fetch_sources([*others, foreign], store, Recorder(), locks=[lock])
    assert refusal.value.codes == (ReasonCode.SOURCE_UNKNOWN,)


def test_a_kept_package_that_was_changed_is_refused_when_the_seed_is_taken(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    lock = lock_of(folder)
    package, seed = lock.sources()
    registry = FolderRegistry((FolderMirror(folder),))
    fetch_sources([package], store, Recorder(), registries=[registry])
    (tmp_path / "sources" / package.digest.hex).write_bytes(b"!<arch>\n")
    with pytest.raises(RefusedError) as refusal:
        fetch_sources([seed, package], store, Recorder(), locks=[lock], registries=[registry])
    assert refusal.value.codes == (ReasonCode.SOURCE_MISMATCH,)
    fetch_sources([seed, package], store, Recorder(), locks=[lock], registries=[registry])
    assert store.has(seed.digest)
