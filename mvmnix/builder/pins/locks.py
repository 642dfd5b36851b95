"""The lock files of pinned packages: bytes to frozen nouns, nouns to bytes and to sources; no I/O.

`modules/debian/lock.json` holds Debian packages, `modules/python/lock.json` wheels. The Nix side reads the same files.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.formats.strict import MAX_INTEGER, MalformedError, Record, parse_json, read
from mvmnix.model import HashMode, Source, store_name

VERSION = 1
DEBIAN_MIRROR = "mirror://debian/"
PYPI_MIRROR = "mirror://pypi/"

#: Debian Policy 5.6.1 and 5.6.12; a pool path has nothing in it that a URL or a shell would read otherwise.
DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_DEBIAN_VERSION = re.compile(r"([0-9]+:)?[0-9][A-Za-z0-9.+~-]*")
_POOL_PATH = re.compile(r"([A-Za-z0-9+~_-][A-Za-z0-9+.~_%-]*/)+[A-Za-z0-9+.~_%-]+\.deb")
#: What else may lie below a Debian mirror (source archives): the same without `.`, `..`, and with three escapes only.
_LETTER = "(?:[A-Za-z0-9+~_-]|%(?:3[aA]|2[bB]|7[eE]))"
MIRROR_PATH = re.compile(rf"{_LETTER}(?:{_LETTER}|\.)*(?:/{_LETTER}(?:{_LETTER}|\.)*)*")
_SUITE = re.compile(r"[a-z][a-z0-9-]*")
_MEMBER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+._-]*(/[A-Za-z0-9_][A-Za-z0-9+._-]*)*")
#: PEP 503 (normalised names), PEP 440 (versions), PEP 427 (wheels).
WHEEL_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_WHEEL_VERSION = re.compile(r"[0-9][0-9A-Za-z.!+]*")
WHEEL_FILE = re.compile(r"[A-Za-z0-9_.]+-[A-Za-z0-9_.!+]+(-[0-9][A-Za-z0-9_.]*)?(-[A-Za-z0-9_.]+){3}\.whl")
_PYTHON = re.compile(r"3\.[0-9]+")


class DependencyDepth(StrEnum):
    """How much of a requested package's dependencies is pinned with it: all, the first step, or none."""

    CLOSURE = "closure"
    DIRECT = "direct"
    ALONE = "alone"

    @property
    def depth(self) -> int:
        """Steps along dependency edges."""
        return {DependencyDepth.CLOSURE: sys.maxsize, DependencyDepth.DIRECT: 1, DependencyDepth.ALONE: 0}[self]


@dataclass(frozen=True, slots=True)
class DebianPin:
    """One Debian package: `filename` below the mirror, `size` in bytes, `depends` by resolved names, sorted.

    `suite` is empty for the lock's own suite.
    """

    name: str
    version: str
    architecture: str
    filename: str
    size: int
    digest: Digest
    depends: tuple[str, ...]
    suite: str = ""

    def __post_init__(self) -> None:
        _must_match(DEBIAN_NAME, self.name, "package name")
        _must_match(_DEBIAN_VERSION, self.version, "version")
        _must_match(_POOL_PATH, self.filename, "pool path")
        _positive(self.size)
        _names(DEBIAN_NAME, self.depends)
        if self.suite:
            _must_match(_SUITE, self.suite, "suite")

    @property
    def pool(self) -> str:
        """The pool directory, which all packages made from one source share."""
        return self.filename.rpartition("/")[0]

    @property
    def source(self) -> Source:
        """The .deb as a flat fixed output."""
        return Source(DEBIAN_MIRROR + self.filename, store_name(self.filename.rpartition("/")[2]), self.digest)


@dataclass(frozen=True, slots=True)
class Seed:
    """The one executable that everything else is unpacked with.

    `path` is where it stands in `package`, `nar` the hash of the NAR of a directory with it alone, in bin/.
    """

    package: str
    path: str
    nar: Digest

    def __post_init__(self) -> None:
        _must_match(DEBIAN_NAME, self.package, "package name")
        _must_match(_MEMBER, self.path, "path in a package")


@dataclass(frozen=True, slots=True)
class DebianLock:
    """`modules/debian/lock.json`. `requested` tells why the packages are there; the rest follows from it."""

    suite: str
    architecture: str
    seed: Seed
    requested: Mapping[str, DependencyDepth]
    packages: Mapping[str, DebianPin]

    def __post_init__(self) -> None:
        _must_match(_SUITE, self.suite, "suite")
        absent = sorted({*self.requested, self.seed.package} - self.packages.keys())
        if absent:
            raise ValueError(f"requested, but not in packages: {', '.join(absent)}")
        for pin in self.packages.values():
            if pin.architecture not in {self.architecture, "all"}:
                raise ValueError(f"{pin.name} is for {pin.architecture}, the lock for {self.architecture}")
        object.__setattr__(self, "requested", MappingProxyType(dict(sorted(self.requested.items()))))
        object.__setattr__(self, "packages", MappingProxyType(dict(sorted(self.packages.items()))))

    @property
    def seed_source(self) -> Source:
        """The seed as a recursive fixed output; its URI is the package's with the path as fragment."""
        package = self.packages[self.seed.package]
        name = self.seed.path.rpartition("/")[2]
        return Source(f"{DEBIAN_MIRROR}{package.filename}#{self.seed.path}", name, self.seed.nar, HashMode.NAR)

    @property
    def seed_package(self) -> Source:
        """The package that the seed is taken out of."""
        return self.packages[self.seed.package].source

    def sources(self) -> tuple[Source, ...]:
        """Every package and the seed."""
        return (*(pin.source for pin in self.packages.values()), self.seed_source)

    def serialise(self) -> bytes:
        """The file's bytes: sorted, one field a line."""
        packages = {name: _record(pin) for name, pin in self.packages.items()}
        seed = {"package": self.seed.package, "path": self.seed.path, "narHash": self.seed.nar.sri}
        head = {"version": VERSION, "suite": self.suite, "architecture": self.architecture, "seed": seed}
        return _dump({**head, "requested": dict(self.requested), "packages": packages})


@dataclass(frozen=True, slots=True)
class WheelPin:
    """One wheel: `name` normalised (PEP 503), `size` in bytes, `depends` by normalised names, sorted."""

    name: str
    version: str
    filename: str
    size: int
    digest: Digest
    depends: tuple[str, ...]

    def __post_init__(self) -> None:
        _must_match(WHEEL_NAME, self.name, "project name")
        _must_match(_WHEEL_VERSION, self.version, "version")
        _must_match(WHEEL_FILE, self.filename, "wheel file name")
        _positive(self.size)
        _names(WHEEL_NAME, self.depends)

    @property
    def source(self) -> Source:
        """The wheel as a flat fixed output."""
        return Source(PYPI_MIRROR + self.filename, store_name(self.filename), self.digest)


@dataclass(frozen=True, slots=True)
class PythonLock:
    """`modules/python/lock.json`: the tool's run-time dependencies for one Python version on x86_64 Linux."""

    python: str
    packages: Mapping[str, WheelPin]

    def __post_init__(self) -> None:
        _must_match(_PYTHON, self.python, "Python version")
        wanted = {name for pin in self.packages.values() for name in pin.depends}
        absent = sorted(wanted - self.packages.keys())
        if absent:
            raise ValueError(f"depended on, but not in packages: {', '.join(absent)}")
        object.__setattr__(self, "packages", MappingProxyType(dict(sorted(self.packages.items()))))

    def sources(self) -> tuple[Source, ...]:
        """Every wheel."""
        return tuple(pin.source for pin in self.packages.values())

    def serialise(self) -> bytes:
        """The file's bytes: sorted, one field a line."""
        packages = {name: _record(pin) for name, pin in self.packages.items()}
        return _dump({"version": VERSION, "python": self.python, "packages": packages})


def _record(pin: DebianPin | WheelPin) -> dict[str, object]:
    return {
        "version": pin.version,
        **({"architecture": pin.architecture} if isinstance(pin, DebianPin) else {}),
        "filename": pin.filename,
        "size": pin.size,
        "sha256": pin.digest.hex,
        "depends": list(pin.depends),
        **({"suite": pin.suite} if isinstance(pin, DebianPin) and pin.suite else {}),
    }


def _dump(document: Mapping[str, object]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=True) + "\n").encode()


def _must_match(pattern: re.Pattern[str], text: str, what: str) -> None:
    if not pattern.fullmatch(text):
        raise ValueError(f"not a {what}: {text!r}")


def _positive(size: int) -> None:
    if size <= 0:
        raise ValueError(f"not a size in bytes: {size}")


def _names(pattern: re.Pattern[str], names: Iterable[str]) -> None:
    listed = list(names)
    for name in listed:
        _must_match(pattern, name, "package name")
    if listed != sorted(set(listed)):
        raise ValueError("depends is not sorted, or names something twice")


_REPAIR = "take the committed file back (git checkout), or let `mvm pin` write it"


def parse_debian(data: bytes, *, where: str = "modules/debian/lock.json") -> DebianLock:
    """Parse the Debian lock. Raises RefusedError [lock-malformed] with every problem; `where` names the file in it."""
    return _parse(data, _debian_lock, where)


def parse_python(data: bytes, *, where: str = "modules/python/lock.json") -> PythonLock:
    """Parse the wheels' lock. Raises RefusedError [lock-malformed] with every problem; `where` names the file in it."""
    return _parse(data, _python_lock, where)


def _parse[T](data: bytes, parse: Callable[[Record], T], where: str) -> T:
    try:
        return read(parse_json(data), "lock", parse)
    except MalformedError as error:
        raise error.refused(ReasonCode.LOCK_MALFORMED, where, _REPAIR) from error


def _debian_lock(record: Record) -> DebianLock:
    record.integer("version", VERSION, VERSION)
    return DebianLock(
        suite=record.text("suite"),
        architecture=record.text("architecture"),
        seed=record.child("seed", _seed),
        requested=record.child("requested", lambda requests: _by_name(requests, _reach)),
        packages=record.child("packages", lambda pins: _by_name(pins, _debian_pin)),
    )


def _python_lock(record: Record) -> PythonLock:
    record.integer("version", VERSION, VERSION)
    return PythonLock(
        python=record.text("python"), packages=record.child("packages", lambda pins: _by_name(pins, _wheel_pin))
    )


def _by_name[T](record: Record, parse: Callable[[Record, str], T]) -> dict[str, T]:
    """An object whose keys are names. Raises MalformedError with the problems of all its values."""
    problems: list[str] = []
    result = {}
    for name in record.names():
        try:
            result[name] = parse(record, name)
        except MalformedError as error:
            problems += error.problems
    if problems:
        raise MalformedError(*problems)
    return result


def _reach(record: Record, name: str) -> DependencyDepth:
    return record.choice(name, DependencyDepth)


def _seed(record: Record) -> Seed:
    nar = record.parsed("narHash", Digest.from_sri, Digest("0" * 64))
    return Seed(package=record.text("package"), path=record.text("path"), nar=nar)


def _debian_pin(pins: Record, name: str) -> DebianPin:
    return pins.child(
        name,
        lambda record: DebianPin(
            name=name,
            version=record.text("version"),
            architecture=record.text("architecture"),
            filename=record.text("filename"),
            size=record.integer("size", 1, MAX_INTEGER),
            digest=record.digest(),
            depends=record.texts("depends"),
            suite=record.text("suite") if record.has("suite") else "",
        ),
    )


def _wheel_pin(pins: Record, name: str) -> WheelPin:
    return pins.child(
        name,
        lambda record: WheelPin(
            name=name,
            version=record.text("version"),
            filename=record.text("filename"),
            size=record.integer("size", 1, MAX_INTEGER),
            digest=record.digest(),
            depends=record.texts("depends"),
        ),
    )
