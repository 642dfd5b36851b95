"""Who needs which file: a pure count, over builds, plans and machines."""

from datetime import UTC, datetime, timedelta

import pytest

from mvmnix.digest import Digest
from mvmnix.images.gc_roots import Need, Shelved, StoredFile, outlived, surplus, unused, users_of
from mvmnix.images.store import IndexEntry, StoreDirectory


def digest(text: str) -> Digest:
    return Digest.of(text.encode())


def build(name: str, *files: str) -> Shelved:
    """A build whose manifest and bundle are named after it."""
    entry = IndexEntry(digest(f"{name} manifest"), digest(f"{name} bundle"), None)
    named = {StoredFile(StoreDirectory.IMAGES, digest(file)) for file in files}
    own = {StoredFile(StoreDirectory.IMAGES, entry.manifest), StoredFile(StoreDirectory.BUNDLES, entry.bundle)}
    return Shelved(name, entry, frozenset(named | own))


def need(of: Shelved, who: str = "the machine web") -> Need:
    return Need(who, (of.entry.manifest, of.entry.bundle))


ONE, TWO = build("one", "kernel", "rootfs 1"), build("two", "kernel", "rootfs 2")
UNKNOWN = Need("the machine old", None)
NOW = datetime(2026, 9, 1, tzinfo=UTC)


def test_a_file_of_two_builds_stays_with_the_second() -> None:
    present = ONE.files | TWO.files
    assert surplus(present, (ONE, TWO), ()) == ()
    assert set(surplus(present, (TWO,), ())) == ONE.files - TWO.files
    assert StoredFile(StoreDirectory.IMAGES, digest("kernel")) not in surplus(present, (TWO,), ())
    assert set(surplus(present, (), ())) == present


def test_the_same_digest_in_another_directory_is_another_file() -> None:
    (bundle,) = (file for file in ONE.files if file.room is StoreDirectory.BUNDLES)
    assert surplus({StoredFile(StoreDirectory.LOCKS, bundle.digest)}, (ONE,), ()) == (
        StoredFile(StoreDirectory.LOCKS, bundle.digest),
    )


def test_who_needs_a_build() -> None:
    needs = (need(ONE), need(ONE, "the plan p"), need(TWO, "the machine db"))
    assert users_of(ONE.entry, needs) == ("the machine web", "the plan p")
    assert users_of(TWO.entry, needs) == ("the machine db",)
    assert users_of(build("three").entry, needs) == ()


@pytest.mark.parametrize("other", [(ONE.entry.manifest, TWO.entry.bundle), (TWO.entry.manifest, ONE.entry.bundle)])
def test_a_need_names_manifest_and_bundle(other: tuple[Digest, Digest]) -> None:
    assert users_of(ONE.entry, (Need("x", other),)) == ()


def test_builds_that_nobody_needs() -> None:
    assert unused((ONE, TWO), ()) == (ONE, TWO)
    assert unused((ONE, TWO), (need(TWO),)) == (ONE,)
    assert unused((ONE, TWO), (), spared=("one",)) == (TWO,)


def test_who_does_not_say_what_he_needs_needs_everything() -> None:
    assert unused((ONE, TWO), (need(TWO), UNKNOWN)) == ()
    assert surplus(ONE.files, (), (UNKNOWN,)) == ()


def test_the_age_of_builds() -> None:
    times = {"one": NOW - timedelta(days=3), "two": NOW}
    assert unused((ONE, TWO), (), finished=times, before=NOW) == (ONE,)
    assert unused((ONE, TWO), (), finished=times, before=NOW - timedelta(days=3)) == ()
    assert unused((ONE, TWO), (need(ONE),), finished=times, before=NOW) == ()
    assert unused((ONE,), (), finished={}, before=NOW) == (), "what doesn't verify has no age"


def test_what_is_needed_of_builds_that_the_index_forgot() -> None:
    needs = (need(ONE), need(TWO), need(ONE, "again"), UNKNOWN)
    assert outlived((TWO.entry,), needs) == (ONE.entry,)
    assert outlived((ONE.entry, TWO.entry), needs) == ()
