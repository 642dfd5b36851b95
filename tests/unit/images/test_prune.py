"""Taking kept images away: what somebody needs stays, what cannot be read stops it, evidence of tampering is left."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats import strict
from mvmnix.formats.strict import show_time
from mvmnix.images.gc_roots import Need, StoredFile
from mvmnix.images.prune import KeptImages, PruneResult
from mvmnix.images.store import IndexEntry, StoreDirectory
from tests.fakes import files_of
from tests.unit.images.shelf import KEY, Shelf, other_world, spoil
from tests.unit.provenance.world import World

OTHER = replace(KEY, directory="examples/other")


@pytest.fixture
def shelf(shelf: Shelf) -> Shelf:
    shelf.keep()
    return shelf


@pytest.fixture
def other(shelf: Shelf, tmp_path: Path) -> World:
    """A second kept build; it shares the lock with the first."""
    world = other_world(tmp_path)
    shelf.hold(world)
    shelf.keep(OTHER, world)
    return world


def need(world: World) -> Need:
    return Need("the machine web", (Digest.of(world.manifest), Digest.of(world.provenance_bundle)))


def kept(shelf: Shelf) -> set[str]:
    rooms = ("images", "bundles", "locks", "builds")
    return {f"{room}/{path.name}" for room in rooms for path in (shelf.path / room).iterdir()}


def files(world: World) -> set[str]:
    images = {f"images/{Digest.of(data).hex}" for data in files_of(world).values()}
    return images | {f"bundles/{Digest.of(world.provenance_bundle).hex}"}


def prune(shelf: Shelf, *needs: Need, every: bool = False, remove: bool = True) -> PruneResult:
    return KeptImages(shelf.library).prune(needs, every=every, remove=remove)


def test_nothing_is_surplus(shelf: Shelf, other: World) -> None:
    before = kept(shelf)
    assert prune(shelf) == PruneResult((), (), (), 0)
    assert kept(shelf) == before


def test_files_that_nothing_names_go(shelf: Shelf, other: World) -> None:
    shelf.library.forget(OTHER.name)
    before = kept(shelf)
    told = prune(shelf, remove=False)
    assert kept(shelf) == before, "it was only asked for"
    freed = prune(shelf)
    assert freed == told
    assert before - kept(shelf) == files(other) == {f"{file.room}/{file.digest.hex}" for file in freed.files}
    assert freed.size == sum(map(len, files_of(other).values())) + len(other.provenance_bundle)
    assert shelf.find() is not None


def test_all_that_nobody_needs_goes(shelf: Shelf, other: World) -> None:
    freed = prune(shelf, need(shelf.world), every=True)
    assert freed.builds == (Digest.of(other.manifest),)
    assert shelf.find(OTHER) is None
    assert shelf.find() is not None
    assert prune(shelf, every=True).builds == (Digest.of(shelf.world.manifest),)
    assert kept(shelf) == set()


def test_what_a_machine_runs_from_stays_when_another_build_takes_its_place(shelf: Shelf, other: World) -> None:
    """`mvm build --again` of the same flake while a machine of the former image runs."""
    shelf.library.note(OTHER.name, next(shelf.library.entries()))
    before = kept(shelf)
    assert prune(shelf, need(other), every=False).files == ()
    assert kept(shelf) == before
    prune(shelf)
    assert before - kept(shelf) == files(other)


def test_a_need_for_what_is_not_here_keeps_nothing(shelf: Shelf) -> None:
    assert prune(shelf, Need("the plan p", (Digest.of(b"x"), Digest.of(b"y")))).files == ()


@pytest.mark.parametrize("how", ["corrupt", "missing"])
def test_a_build_that_cannot_be_read_stops_a_prune(shelf: Shelf, other: World, how: str) -> None:
    path = shelf.file("images", other.manifest)
    if how == "corrupt":
        spoil(path)
    else:
        path.unlink()
    before = kept(shelf)
    with pytest.raises(MvmnixError, match="can't be read") as error:
        prune(shelf)
    assert error.value.hint == f"mvm image rm {Digest.of(other.manifest)}"
    assert kept(shelf) == before
    shelves = KeptImages(shelf.library)
    shelves.remove([name for name, _ in shelves.find(Digest.of(other.manifest).hex)], ())
    prune(shelf)
    assert before - kept(shelf) >= files(other) - {f"images/{path.name}"}
    assert shelf.find() is not None


def test_removing_one_leaves_what_it_shares(shelf: Shelf, other: World) -> None:
    before = kept(shelf)
    shelves = KeptImages(shelf.library)
    ((name, entry),) = shelves.find(Digest.of(other.manifest).hex[:8])
    assert (name, entry.bundle) == (OTHER.name, Digest.of(other.provenance_bundle))
    shelves.remove([name], ())
    assert before - kept(shelf) == files(other) | {f"builds/{OTHER.name}"}
    assert shelf.find() is not None


def test_removing_what_is_needed_is_refused(shelf: Shelf, other: World) -> None:
    shelves, before = KeptImages(shelf.library), kept(shelf)
    with pytest.raises(UsageError, match="needed by the machine web"):
        shelves.remove([KEY.name, OTHER.name], (need(other),))
    assert kept(shelf) == before


def test_removing_leaves_surplus_of_others(shelf: Shelf, other: World) -> None:
    """`rm` takes what it was asked for; only `prune` looks at the rest."""
    shelf.library.forget(OTHER.name)
    KeptImages(shelf.library).remove([KEY.name], ())
    assert files(other) <= kept(shelf)


def called(shelf: Shelf, name: str) -> Digest:
    """An image of that name, of which nothing but the manifest is kept."""
    data = strict.canonical({**json.loads(shelf.world.manifest), "name": name, "memoryMiB": 4096})
    shelf.library.images.put(data, Digest.of(data))
    shelf.library.note(OTHER.name, IndexEntry(Digest.of(data), Digest.of(b"another bundle"), None))
    return Digest.of(data)


def test_an_image_is_found_by_its_name(shelf: Shelf) -> None:
    ((name, entry),) = KeptImages(shelf.library, lambda: shelf.world.policy).find(shelf.world.image.name)
    assert (name, entry.manifest) == (KEY.name, Digest.of(shelf.world.manifest))
    digests = [each.hex[:12] for each in (entry.manifest, called(shelf, shelf.world.image.name))]
    made = f"{show_time(shelf.world.provenance().finished)}  {shelf.world.provenance().root.uri}"
    with pytest.raises(UsageError, match="2 kept images have the name") as error:
        KeptImages(shelf.library, lambda: shelf.world.policy).find(shelf.world.image.name)
    first, dated, refused = error.value.message.splitlines()
    assert first.endswith("the youngest first:")
    assert dated.startswith(f"  {digests[0]}  {made}")
    assert refused == f"  {digests[1]}  its provenance is refused", "what isn't verified isn't quoted"
    (path,) = (shelf.path / "images").glob(f"{digests[1]}*")
    path.write_bytes(b"{}")
    images = KeptImages(shelf.library, lambda: shelf.world.policy)
    with pytest.raises(MvmnixError, match="it isn't known what its name is") as unread:
        images.find(shelf.world.image.name)
    assert unread.value.hint == f"mvm image rm sha256:{path.name}"
    ((name, _),) = images.find(digests[0])
    assert name == KEY.name, "a digest is looked up all the same"


def test_a_beginning_of_a_digest_is_no_name_of_another_image(shelf: Shelf) -> None:
    """A flake's author chooses the name: what begins a digest never means a name."""
    digest = Digest.of(shelf.world.manifest).hex
    called(shelf, digest[:8])
    ((_, entry),) = KeptImages(shelf.library, lambda: shelf.world.policy).find(digest[:8])
    assert entry.manifest.hex == digest


@pytest.mark.parametrize("text", ["", "sha256:", "ab", "ffffffff", "x" * 64, "sha256:hello"])
def test_a_digest_that_names_none(shelf: Shelf, text: str) -> None:
    with pytest.raises(UsageError) as error:
        KeptImages(shelf.library, lambda: shelf.world.policy).find(text)
    assert error.value.hint == "mvm image ls lists them"


def test_one_image_of_two_builds_is_one_image(shelf: Shelf) -> None:
    entry = next(shelf.library.entries())
    shelf.library.note(OTHER.name, IndexEntry(entry.manifest, Digest.of(b"another bundle"), None))
    assert len(KeptImages(shelf.library, lambda: shelf.world.policy).find(f"sha256:{entry.manifest.hex}")) == 2


def test_an_image_that_another_build_has_still_was_not_removed(shelf: Shelf) -> None:
    """Two builds of the same bytes: one of them goes, and the image stays."""
    entry = next(shelf.library.entries())
    shelf.library.note(OTHER.name, entry)
    freed = KeptImages(shelf.library).prune((), every=True, spared=(KEY.name,))
    assert (freed.builds, [name for name, _ in shelf.library.index()]) == ((), [KEY.name])
    assert KeptImages(shelf.library).prune((), every=True).builds == (entry.manifest,)


KILLED = """
import sys
from mvmnix.images.store import ImageStore
from mvmnix.builder.session.import_outputs import OutputImport
from mvmnix.system.private_dirs import Directory
with OutputImport(ImageStore(Directory.open(sys.argv[1])).images) as imported:
    for name in ("kernel", "initrd"):
        imported.open(name).write(b"half of it")
    print("receiving", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_build_was_receiving_goes_and_what_a_living_one_receives_stays(shelf: Shelf) -> None:
    before = kept(shelf)
    argv = [sys.executable, "-c", KILLED, str(shelf.path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"receiving\n"
        assert prune(shelf) == PruneResult((), (), (), 0)
        assert len(kept(shelf) - before) == 2
        builder.kill()
    freed = prune(shelf)
    assert (len(freed.leftovers), freed.size) == (2, 20)
    assert kept(shelf) == before


def test_what_somebody_else_keeps_there_stays(shelf: Shelf, other: World) -> None:
    """The statement of kept parts lies among the bundles, and no image names it."""
    shelf.library.forget(OTHER.name)
    statement = StoredFile(StoreDirectory.BUNDLES, Digest.of(other.provenance_bundle))
    assert KeptImages(shelf.library, held=[statement]).prune((), every=False).files
    assert f"bundles/{statement.digest.hex}" in kept(shelf)
    assert not files(other) & kept(shelf) - {f"bundles/{statement.digest.hex}"}
