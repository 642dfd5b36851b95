"""Locks out of locks: what adding and refreshing change, on small indexes and a store that has what they need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.api.frontend import SilentProgress
from mvmnix.builder.pins.index import Index
from mvmnix.builder.pins.locks import DebianLock, DependencyDepth
from mvmnix.builder.pins.make import LockContext, PinChange, add, changes, update
from mvmnix.builder.pins.seed import seed_nar
from mvmnix.digest import Digest
from mvmnix.errors import UsageError
from mvmnix.formats.nar import nar_hash
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store
from tests.unit.builder.pins.small_index import deb, index, stanza

SEEDS = {version: deb({"./usr/bin/busybox": version.encode()}) for version in ("1", "2")}


def seed(version: str) -> str:
    return stanza("busybox-static", version, SHA256=Digest.of(SEEDS[version]).hex)


def seed_digest(version: str) -> Digest:
    return nar_hash(seed_nar("usr/bin/busybox", version.encode()))[0]


OLD = index(
    "trixie",
    seed("1"),
    stanza("bash", "1", Depends="libc6"),
    stanza("libc6", "1"),
    stanza("musl-dev", "1", Depends="gcc"),
    stanza("linux", "1", Depends="linux-6.1"),
    stanza("linux-6.1", "1", pool="linux", Depends="kmod"),
    stanza("gcc", "1"),
    stanza("kmod", "1"),
)
NEW = index(
    "trixie",
    seed("2"),
    stanza("bash", "2", Depends="libc6 (>= 1), libtinfo6"),
    stanza("libc6", "2"),
    stanza("libtinfo6", "2"),
    stanza("musl-dev", "2", Depends="gcc"),
    stanza("gcc", "2"),
    stanza("linux", "2", Depends="linux-6.2"),
    stanza("linux-6.2", "2", pool="linux", Depends="kmod"),
    stanza("kmod", "2"),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Directory.create(str(tmp_path / "sources")) as directory:
        store = Store(directory)
        for data in SEEDS.values():
            store.put(data, Digest.of(data))
        yield store


def context(store: Store, *suites: Index) -> LockContext:
    return LockContext({suite.suite: suite for suite in suites}.__getitem__, store, SilentProgress())


def versions(lock: DebianLock) -> dict[str, str]:
    return {name: pin.version for name, pin in lock.packages.items()}


@pytest.fixture
def lock(store: Store) -> DebianLock:
    old = context(store, OLD)
    lock = add(None, ["bash"], DependencyDepth.CLOSURE, "", old)
    lock = add(lock, ["musl-dev"], DependencyDepth.ALONE, "", old)
    return add(lock, ["linux"], DependencyDepth.DIRECT, "", old)


def test_a_new_lock_has_the_seed(lock: DebianLock) -> None:
    assert lock.suite == "trixie"
    assert lock.seed.nar == seed_digest("1")
    assert versions(lock) == dict.fromkeys(["bash", "busybox-static", "libc6", "linux", "linux-6.1", "musl-dev"], "1")
    assert lock.packages["musl-dev"].depends == ("gcc",)
    assert dict(lock.requested) == {
        "bash": DependencyDepth.CLOSURE,
        "busybox-static": DependencyDepth.CLOSURE,
        "linux": DependencyDepth.DIRECT,
        "musl-dev": DependencyDepth.ALONE,
    }


def test_adding_leaves_present_pins_alone(lock: DebianLock, store: Store) -> None:
    after = add(lock, ["kmod"], DependencyDepth.CLOSURE, "", context(store, NEW))
    assert changes(lock.packages, after.packages) == (PinChange("kmod", "", "2"),)
    assert add(after, ["kmod"], DependencyDepth.CLOSURE, "", context(store, NEW)) == after


def test_updating_all_refreshes_the_seed_adds_what_is_new_and_drops_orphans(lock: DebianLock, store: Store) -> None:
    after = update(lock, [], context(store, NEW))
    assert after.seed.nar == seed_digest("2")
    assert versions(after) == dict.fromkeys(
        ["bash", "busybox-static", "libc6", "libtinfo6", "linux", "linux-6.2", "musl-dev"], "2"
    )
    assert after.requested == lock.requested
    assert update(after, [], context(store, NEW)) == after


def test_updating_one_refreshes_it_and_its_source_only(lock: DebianLock, store: Store) -> None:
    after = update(lock, ["bash"], context(store, NEW))
    assert changes(lock.packages, after.packages) == (PinChange("bash", "1", "2"), PinChange("libtinfo6", "", "2"))
    after = update(lock, ["linux-6.1"], context(store, NEW))
    assert changes(lock.packages, after.packages) == (
        PinChange("linux", "1", "2"),
        PinChange("linux-6.1", "1", ""),
        PinChange("linux-6.2", "", "2"),
    )


def test_updating_what_is_not_pinned_names_the_command(lock: DebianLock, store: Store) -> None:
    with pytest.raises(UsageError, match="not pinned: gcc, typo") as error:
        update(lock, ["typo", "bash", "gcc"], context(store, NEW))
    assert error.value.hint == "mvm pin debian gcc typo"


def test_a_pin_from_another_suite_stays_in_it(lock: DebianLock, store: Store) -> None:
    security = index("trixie-security", stanza("bash", "3", Depends="libc6"))
    both = context(store, NEW, security)
    after = add(lock, ["bash"], DependencyDepth.CLOSURE, "trixie-security", both)
    assert (after.packages["bash"].version, after.packages["bash"].suite) == ("3", "trixie-security")
    assert after.packages["libc6"].version == "1"
    assert versions(update(after, [], both))["bash"] == "3"
    gone = context(store, NEW, index("trixie-security", stanza("other")))
    back = update(after, [], gone)
    assert (back.packages["bash"].version, back.packages["bash"].suite) == ("2", "")


def test_other_edges_at_the_same_version_are_a_change(lock: DebianLock) -> None:
    assert changes(lock.packages, lock.packages) == ()
    assert changes({}, {"bash": lock.packages["bash"]}) == (PinChange("bash", "", "1"),)
