"""An image in one archive: what was saved is taken in elsewhere; what a stranger made is refused and leaves nothing."""

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.builder.session import import_outputs
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.images import image_archive
from mvmnix.images.store import STATEMENT_LIMIT, VerifiedImage
from mvmnix.keys import PrivateKey
from mvmnix.provenance.slsa.provenance import KeptPath
from tests.fakes import ustar
from tests.unit.images.shelf import KEY, Shelf, other_world
from tests.unit.provenance.world import KERNEL, PLANNER, STRANGER, World

MEMBERS = ["provenance.sigstore.json", "flake.lock", "manifest.json", "rootfs", "initrd", "kernel"]


@pytest.fixture
def shelf(shelf: Shelf) -> Shelf:
    """Where the image was built."""
    shelf.keep()
    return shelf


@pytest.fixture
def elsewhere(shelf: Shelf, tmp_path: Path) -> Shelf:
    """An empty library of somebody who trusts the same keys."""
    made = Shelf(tmp_path / "elsewhere", shelf.world)
    for path in (made.path / "images").iterdir():
        path.unlink()
    return made


def packed(shelf: Shelf) -> bytes:
    found = shelf.find()
    assert found is not None
    data = bytearray()
    image_archive.pack(shelf.library, found, data.extend)
    return bytes(data)


def unpack(shelf: Shelf, data: bytes, size: int = 1000) -> VerifiedImage:
    chunks = (data[offset : offset + size] for offset in range(0, len(data), size))
    return image_archive.unpack(shelf.library, chunks, policy=shelf.world.policy, now=shelf.world.now)


def refused(shelf: Shelf, data: bytes) -> RefusedError:
    """Why an archive is not taken in, of which nothing stays."""
    with pytest.raises(RefusedError) as refusal:
        unpack(shelf, data)
    assert files(shelf) == []
    return refusal.value


def files(shelf: Shelf) -> list[str]:
    rooms = ("images", "bundles", "locks", "sboms", "builds")
    return [path.name for room in rooms for path in (shelf.path / room).iterdir()]


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def test_there_and_back(shelf: Shelf, elsewhere: Shelf) -> None:
    data = packed(shelf)
    assert list(members(data)) == MEMBERS
    assert packed(shelf) == data
    loaded = unpack(elsewhere, data)
    (entry,) = elsewhere.library.entries()
    assert elsewhere.library.open(entry, policy=shelf.world.policy, now=shelf.world.now) == loaded == shelf.find()
    assert len(files(elsewhere)) == len(MEMBERS) + 1


def test_other_tar_programs_archives_are_taken(shelf: Shelf, elsewhere: Shelf) -> None:
    """In any order of what describes the image, and any of what is described."""
    given = members(packed(shelf))
    order = ("manifest.json", "flake.lock", "provenance.sigstore.json", "kernel", "initrd", "rootfs")
    assert unpack(elsewhere, ustar({name: given[name] for name in order}), size=1 << 20) == shelf.find()


@pytest.mark.parametrize("first", ["kernel", "initrd", "rootfs"])
@pytest.mark.parametrize("last", ["manifest.json", "provenance.sigstore.json"])
def test_nothing_large_is_read_before_it_is_described(shelf: Shelf, elsewhere: Shelf, first: str, last: str) -> None:
    given = members(packed(shelf))
    assert refused(elsewhere, ustar({first: given.pop(first)} | given)).codes == (Code.ARCHIVE_MALFORMED,)
    assert refused(elsewhere, ustar(given | {last: given.pop(last)})).codes == (Code.ARCHIVE_MALFORMED,)


def endless(head: bytes) -> Iterator[bytes]:
    """A sparse file that begins so; a reader that doesn't stop is told."""
    yield head
    for _ in range(64):
        yield bytes(1 << 20)
    pytest.fail("it was read on")


def test_a_sparse_archive_is_not_read_on(shelf: Shelf, elsewhere: Shelf) -> None:
    """Neither behind its end nor in a file of another size than an admitted signer's manifest says."""
    data = packed(shelf)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        rootfs = archive.getmember("rootfs")
    large = tarfile.TarInfo("rootfs")
    large.size = image_archive._LARGEST
    torn = data[: rootfs.offset] + large.tobuf(tarfile.USTAR_FORMAT)
    for head in (b"", data, torn):
        with pytest.raises(RefusedError) as refusal:
            image_archive.unpack(elsewhere.library, endless(head), policy=shelf.world.policy, now=shelf.world.now)
        assert refusal.value.codes == (Code.ARCHIVE_MALFORMED,)
        assert files(elsewhere) == []


def test_without_a_lock(shelf: Shelf, elsewhere: Shelf) -> None:
    shelf.world.lock = None
    shelf.world.sign_provenance()
    shelf.keep()
    data = packed(shelf)
    assert "flake.lock" not in members(data)
    assert unpack(elsewhere, data).evidence.lock is None


def test_what_was_loaded_is_no_build_of_a_flake(shelf: Shelf, elsewhere: Shelf) -> None:
    unpack(elsewhere, packed(shelf))
    assert elsewhere.find() is None


def test_loading_twice_is_loading_once(shelf: Shelf, elsewhere: Shelf) -> None:
    unpack(elsewhere, packed(shelf))
    before = files(elsewhere)
    unpack(elsewhere, packed(shelf))
    assert sorted(files(elsewhere)) == sorted(before)


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("name", "change", "codes"),
    [
        ("kernel", flip, {Code.ARTIFACT_MISMATCH}),
        ("initrd", flip, {Code.ARTIFACT_MISMATCH}),
        ("rootfs", flip, {Code.ARTIFACT_MISMATCH, Code.VERITY_MISMATCH}),
        ("rootfs", lambda data: b"", {Code.ARTIFACT_MISMATCH, Code.VERITY_MISMATCH}),
        ("manifest.json", flip, {Code.MANIFEST_MALFORMED}),
        ("provenance.sigstore.json", flip, {Code.BUNDLE_MALFORMED}),
        ("provenance.sigstore.json", lambda data: data + b" ", {Code.BUNDLE_NOT_CANONICAL}),
        ("provenance.sigstore.json", lambda data: bytes(STATEMENT_LIMIT + 1), {Code.ARCHIVE_MALFORMED}),
        ("flake.lock", lambda data: data + b"\n", {Code.LOCK_MISMATCH}),
        ("flake.lock", None, {Code.LOCK_MISMATCH, Code.DEPENDENCY_MISMATCH}),
        ("kernel", None, {Code.ARCHIVE_MALFORMED}),
        ("provenance.sigstore.json", None, {Code.ARCHIVE_MALFORMED}),
        ("more", lambda data: b"", {Code.ARCHIVE_MALFORMED}),
        ("../../bin/sh", lambda data: b"", {Code.ARCHIVE_MALFORMED}),
        ("/etc/passwd", lambda data: b"", {Code.ARCHIVE_MALFORMED}),
    ],
)
def test_a_changed_archive_leaves_nothing(
    shelf: Shelf, elsewhere: Shelf, name: str, change: Callable[[bytes], bytes] | None, codes: set[Code]
) -> None:
    given = members(packed(shelf))
    if change is None:
        del given[name]
    else:
        given[name] = change(given.get(name, b""))
    assert set(refused(elsewhere, ustar(given)).codes) == codes


@pytest.mark.parametrize(("key", "code"), [(PLANNER, Code.SIGNER_ROLE), (STRANGER, Code.SIGNER_UNKNOWN)])
def test_one_that_nobody_admitted_signed_leaves_nothing(
    shelf: Shelf, elsewhere: Shelf, key: PrivateKey, code: Code
) -> None:
    given = members(packed(shelf))
    shelf.world.sign_provenance(key=key)
    given["provenance.sigstore.json"] = shelf.world.provenance_bundle
    assert refused(elsewhere, ustar(given)).codes == (code,)


def test_evidence_of_another_image_leaves_nothing(shelf: Shelf, elsewhere: Shelf, tmp_path: Path) -> None:
    given = members(packed(shelf))
    given["provenance.sigstore.json"] = other_world(tmp_path).provenance_bundle
    assert set(refused(elsewhere, ustar(given)).codes) == {Code.SUBJECT_MISMATCH}


def linked(kind: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("kernel")
        member.type, member.linkname = kind, "/etc/shadow"
        archive.addfile(member)
    return data.getvalue()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: b"no archive at all",
        lambda data: data[: len(data) // 2],
        lambda data: data + b"\0" * 512 + b"x",
        lambda data: data.replace(b"ustar\0", b"ustar ", 1),
        lambda data: linked(tarfile.SYMTYPE),
        lambda data: linked(tarfile.LNKTYPE),
        lambda data: linked(tarfile.CHRTYPE),
        lambda data: linked(tarfile.FIFOTYPE),
        lambda data: linked(tarfile.DIRTYPE),
    ],
)
def test_what_is_no_archive_of_ours_leaves_nothing(
    shelf: Shelf, elsewhere: Shelf, spoil: Callable[[bytes], bytes]
) -> None:
    refusal = refused(elsewhere, spoil(packed(shelf)))
    assert refusal.codes == (Code.ARCHIVE_MALFORMED,)
    assert refusal.reasons[0].what == "the archive"


def test_an_archive_without_end_is_given_up(shelf: Shelf, elsewhere: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros behind its end can be padding, up to a point."""
    monkeypatch.setattr(import_outputs, "LIMITS", dict.fromkeys(import_outputs.LIMITS, 1 << 22))
    monkeypatch.setattr("mvmnix.images.image_archive.STATEMENT_LIMIT", 1 << 20)

    def endless() -> Iterator[bytes]:
        yield packed(shelf)
        while True:
            yield bytes(1 << 20)

    with pytest.raises(RefusedError) as refusal:
        image_archive.unpack(elsewhere.library, endless(), policy=shelf.world.policy, now=shelf.world.now)
    assert refusal.value.codes == (Code.ARCHIVE_MALFORMED,)
    assert files(elsewhere) == []


def test_a_file_changed_on_disk_is_not_packed(shelf: Shelf) -> None:
    """Between the look and the copy: what is written then is no archive that anybody takes."""
    found = shelf.find()
    assert found is not None
    path = shelf.file("images", shelf.world.kernel)
    path.write_bytes(flip(path.read_bytes()))
    with pytest.raises(RefusedError):
        image_archive.pack(shelf.library, found, lambda _: None)
    assert path.exists()
    assert Digest.of(path.read_bytes()).hex != path.name


SBOM = b'{"bomFormat":"CycloneDX"}'


def with_parts(shelf: Shelf) -> World:
    """Have the build's provenance name an SBOM and a kept part."""
    it = shelf.world
    it.keep_parts()
    kept = KeptPath(KERNEL.path, KERNEL.nar, Digest.of(it.parts[0]))
    it.sign_provenance(sbom=Digest.of(SBOM), kept=(kept,))
    return it


def test_its_sbom_and_parts_go_with_it(shelf: Shelf, elsewhere: Shelf) -> None:
    it = with_parts(shelf)
    built = shelf.library.keep(KEY, replace(it.evidence, sbom=SBOM), policy=it.policy, now=it.now)
    given = members(packed(shelf))
    assert (given["sbom.cdx.json"], given["parts.sigstore.jsonl"]) == (SBOM, it.parts[0])
    assert unpack(elsewhere, packed(shelf)) == built
    assert (elsewhere.path / "sboms" / Digest.of(SBOM).hex).read_bytes() == SBOM


def test_parts_that_its_provenance_does_not_name_are_not_kept(shelf: Shelf, elsewhere: Shelf) -> None:
    """Whoever carries an archive may add lines, and each would lie here."""
    it = with_parts(shelf)
    shelf.library.keep(KEY, replace(it.evidence, sbom=SBOM), policy=it.policy, now=it.now)
    given = members(packed(shelf))
    lines = [b"junk", it.parts[0], b"more", it.parts[0]]
    assert unpack(elsewhere, ustar(given | {"parts.sigstore.jsonl": b"\n".join(lines)})).evidence.parts == (
        it.parts[0],
    )
    assert len(list((elsewhere.path / "bundles").iterdir())) == 2
    ((_, entry),) = elsewhere.library.index()
    assert elsewhere.library.read(entry).evidence.parts == (it.parts[0],)


def test_an_archive_with_endless_parts_leaves_nothing(shelf: Shelf, elsewhere: Shelf) -> None:
    lines = b"\n".join(b"%d" % number for number in range(65))
    refusal = refused(elsewhere, ustar(members(packed(shelf)) | {"parts.sigstore.jsonl": lines}))
    assert refusal.codes == (Code.ARCHIVE_MALFORMED,)
    assert "more than 64 lines" in str(refusal)


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("sbom.cdx.json", None, Code.ARCHIVE_MALFORMED),
        ("sbom.cdx.json", SBOM + b" ", Code.SBOM_MISMATCH),
        ("parts.sigstore.jsonl", None, Code.PARTS_MISMATCH),
        ("parts.sigstore.jsonl", b"\n", Code.PARTS_MISMATCH),
    ],
)
def test_without_its_sbom_or_parts_it_is_refused(
    shelf: Shelf, elsewhere: Shelf, name: str, data: bytes | None, code: Code
) -> None:
    it = with_parts(shelf)
    given = {"provenance.sigstore.json": it.provenance_bundle, "sbom.cdx.json": SBOM}
    given |= {"flake.lock": it.lock or b"", "parts.sigstore.jsonl": it.parts[0], "manifest.json": it.manifest}
    given |= {"kernel": it.kernel, "initrd": it.initrd, "rootfs": it.rootfs}
    if data is None:
        del given[name]
    else:
        given[name] = data
    assert set(refused(elsewhere, ustar(given)).codes) == {code}
