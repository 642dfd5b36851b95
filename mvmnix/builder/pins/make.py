"""Makes new locks out of old ones: adds packages, refreshes pins, pins wheels; it alone decides what stays."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mvmnix.builder.fetch.registries import Progress
from mvmnix.builder.pins import debian, pypi
from mvmnix.builder.pins.index import Index
from mvmnix.builder.pins.locks import DebianLock, DebianPin, DependencyDepth, PythonLock, WheelPin
from mvmnix.builder.pins.resolve import LockRequirements, resolve, without
from mvmnix.builder.pins.seed import LIMIT, seed_of
from mvmnix.builder.pins.sources import fetch_sources
from mvmnix.errors import UsageError
from mvmnix.store import Store

SUITE = "trixie"
ARCHITECTURE = "amd64"
SEED_PACKAGE = "busybox-static"
SEED_PATH = "usr/bin/busybox"
_Pin = DebianPin | WheelPin


@dataclass(frozen=True, slots=True)
class LockContext:
    """What lock making needs: a suite's index by name, and a store that fetches what it lacks."""

    index: Callable[[str], Index]
    store: Store
    progress: Progress


def lock_context(store: Store, progress: Progress) -> LockContext:
    """This machine: the lists that apt fetched, and its registries."""
    return LockContext(lambda suite: debian.read_index(suite, ARCHITECTURE), store, progress)


def add(
    lock: DebianLock | None, names: Iterable[str], reach: DependencyDepth, suite: str, context: LockContext
) -> DebianLock:
    """A lock that holds these packages too; present pins stay while they fit. An empty `suite` is the lock's own.

    Without a lock, a new one for the release suite is made. Raises UsageError for names that the suite doesn't have.
    """
    asked = dict.fromkeys(names, reach)
    release = lock.suite if lock else SUITE
    present = lock.packages if lock else {}
    kept = without(present, asked) if suite else present
    requested = {**(lock.requested if lock else {SEED_PACKAGE: DependencyDepth.CLOSURE}), **asked}
    suites = {**_suites(present), **(dict.fromkeys(asked, suite) if suite else {})}
    return _make(lock, LockRequirements(requested, kept, frozenset(present), suites), release, context)


def update(lock: DebianLock, names: Iterable[str], context: LockContext) -> DebianLock:
    """A lock with these pins refreshed, or all without names, and what came from the same sources; orphans go.

    Raises UsageError for names that aren't pinned, or that no suite has any more.
    """
    chosen = set(names)
    unknown = sorted(chosen - lock.packages.keys())
    if unknown:
        raise UsageError(f"not pinned: {', '.join(unknown)}", hint=f"mvm pin debian {' '.join(unknown)}")
    kept = without(lock.packages, chosen) if chosen else {}
    wanted = LockRequirements(lock.requested, kept, frozenset(lock.packages), _suites(lock.packages))
    return _make(lock, wanted, lock.suite, context)


def python(pyproject: bytes, context: LockContext) -> PythonLock:
    """A lock of the wheels that the run-time dependencies in a pyproject.toml need today."""
    wheels = pypi.resolve(pypi.requirements(pyproject))
    fetch_sources([wheel.source for wheel in wheels], context.store, context.progress)
    pins = {
        wheel.name: WheelPin(
            wheel.name, wheel.version, wheel.filename, context.store.size(wheel.digest), wheel.digest, wheel.depends
        )
        for wheel in wheels
    }
    return PythonLock(pypi.PYTHON, pins)


def _suites(pins: Mapping[str, DebianPin]) -> dict[str, str]:
    return {pin.name: pin.suite for pin in pins.values() if pin.suite}


def _make(lock: DebianLock | None, wanted: LockRequirements, release: str, context: LockContext) -> DebianLock:
    suites = dict.fromkeys((release, *sorted(wanted.suites.values())))
    packages = resolve(wanted, [context.index(suite) for suite in suites])
    package, path = (lock.seed.package, lock.seed.path) if lock else (SEED_PACKAGE, SEED_PATH)
    pin = packages[package]
    if lock is None or lock.packages[package].digest != pin.digest:
        fetch_sources([pin.source], context.store, context.progress)
        seed = seed_of(pin, path, context.store.read(pin.digest, limit=LIMIT))
    else:
        seed = lock.seed
    architecture = lock.architecture if lock else ARCHITECTURE
    return DebianLock(release, architecture, seed, wanted.requested, packages)


@dataclass(frozen=True, slots=True)
class PinChange:
    """What a new lock says otherwise than the old one of a package: versions, empty where it has none."""

    name: str
    before: str
    after: str


def changes(before: Mapping[str, _Pin], after: Mapping[str, _Pin]) -> tuple[PinChange, ...]:
    """All changes in the order of their names; another file or other edges at the same version count too."""
    return tuple(
        PinChange(name, old.version if old else "", new.version if new else "")
        for name in sorted({*before, *after})
        if (old := before.get(name)) != (new := after.get(name))
    )
