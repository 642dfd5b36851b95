"""Makes new locks out of old ones: adds packages and what they need, refreshes pins, pins wheels.

It alone decides what stays in a lock.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mvmnix.builder.fetch.registries import Progress
from mvmnix.builder.pins import debian, pypi
from mvmnix.builder.pins.index import Index, Relation, Stanza, version_key
from mvmnix.builder.pins.locks import DebianLock, DebianPin, DependencyDepth, PythonLock, WheelPin
from mvmnix.builder.pins.seed import LIMIT, seed_of
from mvmnix.builder.pins.sources import fetch_sources
from mvmnix.errors import UsageError
from mvmnix.formats.escaping import shell_command
from mvmnix.system.store import Store

SUITE = "trixie"
ARCHITECTURE = "amd64"
SEED_PACKAGE = "busybox-static"
SEED_PATH = "usr/bin/busybox"
_Pin = DebianPin | WheelPin
_Candidate = DebianPin | Stanza


@dataclass(frozen=True, slots=True)
class LockContext:
    """What lock making needs: a suite's index by name, and a store that fetches what it lacks."""

    index: Callable[[str], Index]
    store: Store
    progress: Progress


@dataclass(frozen=True, slots=True)
class LockRequirements:
    """What the lock shall hold: `requested` names, present pins to keep, names that were `pinned` before.

    `suites` names another suite than the first for some packages: they come from there while it has a newer version.
    """

    requested: Mapping[str, DependencyDepth]
    kept: Mapping[str, DebianPin]
    pinned: frozenset[str] = frozenset()
    suites: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PinChange:
    """What a new lock says otherwise than the old one of a package: versions, empty where it has none."""

    name: str
    before: str
    after: str


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
        raise UsageError(f"not pinned: {', '.join(unknown)}", hint=shell_command("mvm", "pin", "debian", *unknown))
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


def changes(before: Mapping[str, _Pin], after: Mapping[str, _Pin]) -> tuple[PinChange, ...]:
    """All changes in the order of their names; another file or other edges at the same version count too."""
    return tuple(
        PinChange(name, old.version if old else "", new.version if new else "")
        for name in sorted({*before, *after})
        if (old := before.get(name)) != (new := after.get(name))
    )


def without(pins: Mapping[str, DebianPin], names: Iterable[str]) -> dict[str, DebianPin]:
    """The pins to keep when `names` are refreshed: not those, nor what was built from the same sources."""
    pools = {pins[name].pool for name in names if name in pins}
    return {name: pin for name, pin in pins.items() if pin.pool not in pools}


def resolve(wanted: LockRequirements, indexes: Sequence[Index]) -> dict[str, DebianPin]:
    """The pins of everything that was demanded. `indexes[0]` is the lock's own suite.

    A dependency goes to an alternative that is already pinned, requested or Essential, else to the first that exists;
    real packages come before providers of a virtual one. A present pin stays as it is while it satisfies every fresh
    package that depends on it. Packages from one source (one pool directory) move together. Nothing is read or written.

    Raises UsageError that names every package and dependency that no suite has.
    """
    resolver = _Resolver(wanted, indexes)
    while not resolver.walk():
        pass
    if resolver.problems:
        raise UsageError(
            "; ".join(sorted(resolver.problems)), hint="look for the name with `apt-cache search NAME`, or give --suite"
        )
    return resolver.pins


class _Resolver:
    """One resolution. `walk` is repeated until no candidate had to be changed; none is settled twice, so it ends."""

    def __init__(self, wanted: LockRequirements, indexes: Sequence[Index]) -> None:
        self._wanted = wanted
        self._indexes = indexes
        self._kept = dict(wanted.kept)
        self._preferred = wanted.pinned | wanted.requested.keys() | wanted.kept.keys()
        self._forced: dict[str, str] = {}
        self._settled: set[tuple[str, str]] = set()
        self._changed = False
        self.pins: dict[str, DebianPin] = {}
        self.problems: set[str] = set()

    def walk(self) -> bool:
        """Follow all edges once; False when a candidate was changed on the way and it must be done again."""
        self._changed = False
        self.pins, self.problems = {}, set()
        reached: dict[str, int] = {}
        todo = [(name, reach.depth) for name, reach in sorted(self._wanted.requested.items(), reverse=True)]
        while todo:
            name, depth = todo.pop()
            if depth <= reached.get(name, -1):
                continue
            reached[name] = depth
            pin = self._pin(name)
            if pin is not None and depth > 0:
                todo += [(edge, depth - 1) for edge in reversed(pin.depends)]
        return not self._changed

    def _pin(self, name: str) -> DebianPin | None:
        if name not in self.pins:
            match self._candidate(name):
                case None:
                    self.problems.add(f"no package {name} in {self._where()}{self._offers(name)}")
                    return None
                case DebianPin() as kept:
                    self.pins[name] = kept
                case Stanza() as stanza:
                    self.pins[name] = self._fresh(stanza)
        return self.pins[name]

    def _fresh(self, stanza: Stanza) -> DebianPin:
        edges = {self._edge(stanza, group) for group in stanza.depends} - {None, stanza.name}
        return DebianPin(
            name=stanza.name,
            version=stanza.version,
            architecture=stanza.architecture,
            filename=stanza.filename,
            size=stanza.size,
            digest=stanza.digest,
            depends=tuple(sorted(edge for edge in edges if edge is not None)),
            suite=stanza.suite if stanza.suite != self._indexes[0].suite else "",
        )

    def _edge(self, stanza: Stanza, group: tuple[Relation, ...]) -> str | None:
        """The package that stands for a group of alternatives."""
        options = [option for relation in group for option in self._options(relation)]
        if not options:
            wanted = " | ".join(map(str, group))
            self.problems.add(f"{stanza.name} depends on {wanted}, which is not in {self._where()}")
            return None
        chosen = next((option for option in options if self._is_preferred(option.name)), options[0])
        self._settle(chosen)
        return chosen.name

    def _options(self, relation: Relation) -> list[_Candidate]:
        """Real packages, then providers; for each the first candidate that satisfies the relation."""
        real = next((one for one in self._candidates(relation.name) if _satisfies(one, relation)), None)
        found: list[_Candidate] = [real] if real else []
        for index in self._indexes:
            for provider in index.providers(relation.name):
                if provider.satisfies(relation) and provider.name not in {one.name for one in found}:
                    found.append(self._kept.get(provider.name, provider))
        return found

    def _candidates(self, name: str) -> list[_Candidate]:
        """A present pin, what was settled on, the package in the suite asked for if it is newer there, the others."""
        found = [stanza for index in self._indexes if (stanza := index.package(name))]
        asked = [stanza for stanza in found if stanza.suite == self._wanted.suites.get(name)]
        if asked and version_key(asked[0].version) > version_key(found[0].version):
            found.sort(key=lambda stanza: stanza is not asked[0])
        found.sort(key=lambda stanza: stanza.suite != self._forced.get(name))
        return [self._kept[name], *found] if name in self._kept else [*found]

    def _candidate(self, name: str) -> _Candidate | None:
        return next(iter(self._candidates(name)), None)

    def _settle(self, chosen: _Candidate) -> None:
        """Let later look-ups find this candidate first, and drop present pins that it makes stale."""
        if self._candidate(chosen.name) == chosen or not isinstance(chosen, Stanza):
            return
        if (chosen.name, chosen.suite) in self._settled:
            self.problems.add(f"no single version of {chosen.name} satisfies all that depend on it")
            return
        self._settled.add((chosen.name, chosen.suite))
        self._changed = True
        self._forced[chosen.name] = chosen.suite
        self._kept = without(self._kept, [chosen.name])

    def _is_preferred(self, name: str) -> bool:
        if name in self._preferred:
            return True
        stanza = self._indexes[0].package(name)
        return stanza is not None and stanza.essential

    def _offers(self, name: str) -> str:
        providers = sorted({one.name for index in self._indexes for one in index.providers(name)})
        return f" (a virtual package, provided by {', '.join(providers)})" if providers else ""

    def _where(self) -> str:
        return " or ".join(index.suite for index in self._indexes)


def _satisfies(candidate: _Candidate, relation: Relation) -> bool:
    return candidate.name == relation.name and relation.admits(candidate.version)


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


def _suites(pins: Mapping[str, DebianPin]) -> dict[str, str]:
    return {pin.name: pin.suite for pin in pins.values() if pin.suite}
