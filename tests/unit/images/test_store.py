"""Finished builds: what is found was verified in every byte; a lying index and changed files are told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.errors import ReasonCode as Code
from mvmnix.formats import strict
from mvmnix.images.store import BuildKey, ImageStore
from mvmnix.provenance.slsa.provenance import HOST_NIX
from mvmnix.system.private_dirs import Directory
from tests.unit.images.shelf import BUILDER, KEY, TREE, Shelf, other_world, spoil
from tests.unit.provenance.world import PLANNER, drop, put


def test_what_was_kept_is_found(shelf: Shelf) -> None:
    assert shelf.find() is None
    kept = shelf.keep()
    found = shelf.find()
    assert found == kept
    assert found is not None
    assert (found.image, found.evidence) == (shelf.world.image, shelf.world.evidence)
    assert found.provenance.level == 1
    it = found.evidence
    for data, room in ((it.provenance, "bundles"), (shelf.world.lock, "locks"), (it.manifest, "images")):
        assert data is not None
        assert shelf.file(room, data).read_bytes() == data


def test_a_build_without_a_lock_file(shelf: Shelf) -> None:
    shelf.world.lock = None
    shelf.world.sign_provenance()
    assert shelf.keep().evidence.lock is None
    assert shelf.find() is not None
    assert not list((shelf.path / "locks").iterdir())


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, tree=Digest.of(b"another")),
        replace(KEY, directory=""),
        replace(KEY, attribute="other"),
        replace(KEY, builder="/nix/store/1-guest-builder.drv"),
        replace(KEY, builder=HOST_NIX),
    ],
)
def test_another_build_is_not_found(shelf: Shelf, other: BuildKey) -> None:
    shelf.keep()
    assert shelf.find(other) is None
    assert shelf.index(other) != shelf.index()


def test_parts_of_a_key_do_not_run_together(shelf: Shelf) -> None:
    one = BuildKey(TREE, "a", "b.c", BUILDER)
    two = BuildKey(TREE, "a.b", "c", BUILDER)
    assert one.name != two.name


def test_what_does_not_verify_is_not_kept(shelf: Shelf) -> None:
    shelf.world.sign_provenance(key=PLANNER)
    with pytest.raises(RefusedError) as refusal:
        shelf.keep()
    assert refusal.value.codes == (Code.SIGNER_ROLE,)
    assert shelf.find() is None


@pytest.mark.parametrize(
    ("room", "which", "codes"),
    [
        ("images", "kernel", {Code.SUBJECT_MISMATCH, Code.ARTIFACT_MISMATCH}),
        ("images", "initrd", {Code.SUBJECT_MISMATCH, Code.ARTIFACT_MISMATCH}),
        ("images", "rootfs", {Code.SUBJECT_MISMATCH, Code.ARTIFACT_MISMATCH}),
        ("images", "manifest", {Code.SOURCE_MISMATCH}),
        ("bundles", "provenance_bundle", {Code.SOURCE_MISMATCH}),
        ("locks", "lock", {Code.SOURCE_MISMATCH}),
    ],
)
def test_a_flipped_byte_is_refused(shelf: Shelf, room: str, which: str, codes: set[Code]) -> None:
    """It is refused each time, and stays where it is: it is evidence of something."""
    shelf.keep()
    spoiled = shelf.file(room, getattr(shelf.world, which))
    spoil(spoiled)
    before = spoiled.read_bytes()
    for _ in range(2):
        assert set(shelf.refusal().codes) == codes
        assert spoiled.read_bytes() == before


@pytest.mark.parametrize(
    ("room", "which"),
    [("images", "kernel"), ("images", "manifest"), ("bundles", "provenance_bundle"), ("locks", "lock")],
)
def test_a_missing_file_says_how_to_get_it_again(shelf: Shelf, room: str, which: str) -> None:
    shelf.keep()
    shelf.file(room, getattr(shelf.world, which)).unlink()
    with pytest.raises(MvmnixError, match="is not there") as error:
        shelf.find()
    assert "mvm build --again" in error.value.hint


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: b"",
        lambda entry: entry[:-1],
        lambda entry: entry.replace(b"bundle", b"bungle"),
        lambda entry: entry.replace(b"{", b'{"more":1,', 1),
        lambda entry: entry.replace(b":", b":1,", 1),
        lambda entry: b"[]",
    ],
)
def test_a_broken_entry_names_itself(shelf: Shelf, change: Callable[[bytes], bytes]) -> None:
    shelf.keep()
    shelf.index().write_bytes(change(shelf.index().read_bytes()))
    for ask in (shelf.find, lambda: list(shelf.library.whole_index())):
        with pytest.raises(MvmnixError, match="index is broken") as error:
            ask()
        assert str(shelf.index()) in error.value.hint


def test_a_broken_entry_is_left_out_and_named(shelf: Shelf) -> None:
    shelf.keep()
    shelf.index().with_name("0" * 64).write_bytes(b" " * 20_000)
    told: list[str] = []
    with Directory.open(str(shelf.path)) as state, ImageStore(state, told.append) as library:
        assert len(list(library.entries())) == 1
    (said,) = told
    assert said.startswith("left out: an entry of the build index is broken")
    assert str(shelf.index().with_name("0" * 64)) in said


def test_an_entry_that_was_swapped_for_another_build_s(shelf: Shelf, tmp_path: Path) -> None:
    other = other_world(tmp_path)
    shelf.hold(other)
    key = replace(KEY, directory="examples/other")
    shelf.keep()
    assert shelf.keep(key, other).image == other.image
    shelf.index().write_bytes(shelf.index(key).read_bytes())
    refusal = shelf.refusal()
    assert refusal.codes == (Code.PROVENANCE_MISMATCH,)
    assert str(shelf.index()) in refusal.reasons[0].hint


@pytest.mark.parametrize("part", ["manifest", "bundle", "lock"])
def test_an_entry_that_mixes_two_builds(shelf: Shelf, tmp_path: Path, part: str) -> None:
    other = other_world(tmp_path)
    other.lock = b"{}"
    shelf.hold(other)
    shelf.keep()
    for name, data in (("bundles", other.provenance_bundle), ("locks", other.lock)):
        path = shelf.file(name, data)
        path.write_bytes(data)
        path.chmod(0o600)
    entry = strict.parse_json(shelf.index().read_bytes())
    assert isinstance(entry, dict)
    parts = {"manifest": other.manifest, "bundle": other.provenance_bundle, "lock": other.lock}
    put(Digest.of(parts[part]).hex, part)(entry)
    shelf.index().write_bytes(strict.canonical(entry))
    codes = {
        "manifest": {Code.SUBJECT_MISMATCH},
        "bundle": {Code.SUBJECT_MISMATCH},
        "lock": {Code.LOCK_MISMATCH, Code.LOCK_MALFORMED},
    }
    assert set(shelf.refusal().codes) == codes[part]


def test_a_lock_that_the_index_forgot(shelf: Shelf) -> None:
    shelf.keep()
    entry = strict.parse_json(shelf.index().read_bytes())
    assert isinstance(entry, dict)
    drop("lock")(entry)
    shelf.index().write_bytes(strict.canonical(entry))
    assert Code.LOCK_MISMATCH in shelf.refusal().codes


def test_entries_lists_all(shelf: Shelf) -> None:
    assert list(shelf.library.entries()) == []
    shelf.keep()
    (entry,) = shelf.library.entries()
    assert shelf.library.open(entry, policy=shelf.world.policy, now=shelf.world.now) == shelf.find()


def test_a_verified_image_can_not_be_put_together(shelf: Shelf, tmp_path: Path) -> None:
    """A caller who mixes two up has neither."""
    other = other_world(tmp_path)
    shelf.hold(other)
    found, another = shelf.keep(), shelf.keep(replace(KEY, directory="examples/other"), other)
    mixtures: tuple[dict[str, Any], ...] = (
        {"image": another.image},
        {"image": replace(found.image, name="else")},
        {"evidence": another.evidence},
        {"provenance": another.provenance},
        {"image": another.image, "evidence": replace(found.evidence, manifest=another.evidence.manifest)},
    )
    for mixed in mixtures:
        with pytest.raises(ValueError, match="provenance"):
            replace(found, **mixed)
    assert replace(found) == found
