"""SBOMs and kept parts lie beside a build's provenance, and are found again as it names them, or it is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.formats import strict
from mvmnix.images.gc_roots import StoredFile, files_of
from mvmnix.images.prune import KeptImages
from mvmnix.images.store import StoreDirectory, VerifiedImage
from mvmnix.provenance.slsa.provenance import KeptPath
from tests.unit.images.shelf import KEY, Shelf, spoil
from tests.unit.provenance.world import KERNEL

SBOM = b'{"bomFormat": "CycloneDX"}'


@pytest.fixture
def shelf(shelf: Shelf) -> Shelf:
    shelf.world.keep_parts()
    shelf.world.sbom = SBOM
    kept = (KeptPath(KERNEL.path, KERNEL.nar, Digest.of(shelf.world.parts[0])),)
    shelf.world.sign_provenance(sbom=Digest.of(SBOM), kept=kept)
    return shelf


def keep(shelf: Shelf, sbom: bytes | None = SBOM, parts: tuple[bytes, ...] | None = None) -> VerifiedImage:
    it = shelf.world
    evidence = replace(it.evidence, parts=it.parts if parts is None else parts, sbom=sbom)
    return shelf.library.keep(KEY, evidence, policy=it.policy, now=it.now)


def refused(ask: Callable[[], object]) -> set[Code]:
    with pytest.raises(RefusedError) as caught:
        ask()
    return set(caught.value.codes)


def test_kept_and_found(shelf: Shelf) -> None:
    assert keep(shelf) == shelf.find()
    found = shelf.find()
    assert found is not None
    assert (found.evidence.sbom, found.evidence.parts) == (SBOM, shelf.world.parts)
    assert shelf.library.bundle(Digest.of(shelf.world.parts[0])) == shelf.world.parts[0]


def test_what_a_gate_reads_has_the_parts(shelf: Shelf) -> None:
    keep(shelf)
    (entry,) = shelf.library.entries()
    assert (entry.sbom, entry.parts) == (Digest.of(SBOM), (Digest.of(shelf.world.parts[0]),))
    assert shelf.library.read(entry).evidence.parts == shelf.world.parts


@pytest.mark.parametrize("sbom", [None, SBOM + b"\n"])
def test_a_build_is_not_kept_with_another_sbom_than_its_own(shelf: Shelf, sbom: bytes | None) -> None:
    assert refused(lambda: keep(shelf, sbom=sbom)) == {Code.SBOM_MISMATCH}
    assert shelf.find() is None


def test_a_build_is_not_kept_without_its_parts(shelf: Shelf) -> None:
    assert refused(lambda: keep(shelf, parts=())) == {Code.PARTS_MISMATCH}
    assert shelf.find() is None


@pytest.mark.parametrize(("room", "which"), [("sboms", 0), ("bundles", 1)])
def test_a_flipped_byte(shelf: Shelf, room: str, which: int) -> None:
    keep(shelf)
    spoil(shelf.file(room, (SBOM, shelf.world.parts[0])[which]))
    assert set(shelf.refusal().codes) == {Code.SOURCE_MISMATCH}


@pytest.mark.parametrize(("field", "code"), [("sbom", Code.SBOM_MISMATCH), ("parts", Code.PARTS_MISMATCH)])
def test_an_index_that_forgot(shelf: Shelf, field: str, code: Code) -> None:
    keep(shelf)
    entry = strict.parse_json(shelf.index().read_bytes())
    assert isinstance(entry, dict)
    del entry[field]
    shelf.index().write_bytes(strict.canonical(entry))
    assert set(shelf.refusal().codes) == {code}


def test_nothing_of_it_is_surplus(shelf: Shelf) -> None:
    keep(shelf)
    (entry,) = shelf.library.entries()
    part = StoredFile(StoreDirectory.BUNDLES, Digest.of(shelf.world.parts[0]))
    assert {part, StoredFile(StoreDirectory.SBOMS, Digest.of(SBOM))} <= files_of(entry, shelf.world.image)
    assert KeptImages(shelf.library).prune((), every=False).files == ()
    freed = KeptImages(shelf.library).prune((), every=True)
    assert {part, StoredFile(StoreDirectory.SBOMS, Digest.of(SBOM))} <= set(freed.files)
