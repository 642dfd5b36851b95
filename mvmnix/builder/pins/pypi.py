"""The pip adapter: it alone knows pip's command lines and what pip prints; builder/fetch runs the downloads."""

import site
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from mvmnix.builder.fetch.downloads import BOUNDS, downloaded
from mvmnix.builder.fetch.registries import FILES, INPUT, Command, Failure, FailureKind
from mvmnix.builder.pins import pip_settings
from mvmnix.builder.pins.locks import PYPI_MIRROR, WHEEL_FILE, WHEEL_NAME
from mvmnix.builder.pins.pip_settings import PipSettings
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats import toml
from mvmnix.formats.strict import parse_json
from mvmnix.model import Source
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.sandbox.trusted_executables import Candidates

PYTHON = "3.13"
#: What a wheel may be built for: CPython of that version, on any x86_64 Linux with Debian 13's glibc (2.41) or older.
_GLIBC = (41, 40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 30, 29, 28, 27, 26, 24, 17)
_TAGS = (
    *("--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp"),
    *(word for abi in ("cp313", "abi3", "none") for word in ("--abi", abi)),
    *(word for minor in _GLIBC for word in ("--platform", f"manylinux_2_{minor}_x86_64")),
    *("--platform", "manylinux2014_x86_64"),
)
#: PEP 508's environment of that Python; `extra` is set by the caller.
_MARKERS = {
    "implementation_name": "cpython",
    "implementation_version": f"{PYTHON}.0",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": f"{PYTHON}.0",
    "python_version": PYTHON,
    "sys_platform": "linux",
}
_HINT = f"run mvm with Debian's Python {PYTHON}: apt-get install python{PYTHON} python3-venv"
_INDEX = "see that a package index is configured (pip config list), can be reached, and has these packages"
_PYTHON = Candidates(
    f"Python {PYTHON}",
    tuple(f"{place}/python{PYTHON}" for place in ("/usr/bin", "/run/current-system/sw/bin")),
    f"apt-get install python{PYTHON}",
)
#: Pip and PySocks, by which it speaks with the gateway, stand there inside; of the rest nothing is imported.
_PACKAGES = "/packages"
_START = f"""
import runpy, sys
sys.path.insert(0, {_PACKAGES!r})
sys.argv[0] = "pip"
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
_REPORT = "report"
#: Bounds of what is read of it, which has the descriptions of all projects, and of a pyproject.toml, in bytes.
_REPORT_LIMIT = 64 << 20
_PROJECT_LIMIT = 1 << 20
#: Seconds in which an index answers when it is asked while a plan is made.
_PATIENCE: Final = 15
#: The hermetic mvm of docs/reference/nix.md is such a Python: its wheels are in /nix/store, or it would not run.
_NO_PIP = "run this with the mvm of a virtual environment, which has pip: in mvmnix's checkout, .venv/bin/mvm"
_UNREACHABLE = (
    "WARNING: Retrying",
    "WARNING: Could not fetch URL",
    "ERROR: Could not install packages due to an OSError",
)
_GONE = ("No matching distribution found", "Could not find a version")


@dataclass(frozen=True, slots=True)
class WheelFile:
    """A wheel's file name (PEP 427) taken apart: `name` as PEP 503 normalises it, `version` as PEP 440 does.

    A line of pip's requirements file is made of these: the name begins with a letter or digit, so it is no option.
    """

    filename: str
    name: str
    version: str

    @classmethod
    def parse(cls, filename: str) -> Self:
        """Raises ValueError for anything else than one plain file name of a wheel."""
        if not WHEEL_FILE.fullmatch(filename):
            raise ValueError(f"not a wheel's file name: {filename!r}")
        name, version, _, _ = parse_wheel_filename(filename)
        if not WHEEL_NAME.fullmatch(name):
            raise ValueError(f"not a wheel of a project: {filename!r}")
        return cls(filename, name, str(version))


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that pip chose; `depends` by normalised names, sorted. Its size isn't known before it is fetched."""

    name: str
    version: str
    filename: str
    digest: Digest
    depends: tuple[str, ...]

    @property
    def source(self) -> Source:
        """The wheel as a flat fixed output."""
        return Source(PYPI_MIRROR + self.filename, self.filename, self.digest)


class Pip:
    """Downloads from `mirror://pypi/` through pip: its indexes, proxies, credentials and certificates."""

    scheme = PYPI_MIRROR
    batch = 12

    def mirrors(self) -> tuple["PipIndexes", ...]:
        """One: pip knows by itself where to look. Raises MvmnixError where there is no pip."""
        packages = _packages()  # before pip is asked for its settings: there may be no pip
        return (PipIndexes(pip_settings.read(), packages),)

    def describe(self, source: Source) -> tuple[str, str]:
        """Name and version, from the wheel's file name. Raises ValueError."""
        wheel = _wheel_file(source)
        return wheel.name, wheel.version

    def repair(self, sources: Sequence[Source]) -> str:  # noqa: ARG002 - wheels are chosen together
        """The new choice of all wheels."""
        return "mvm pin python"


@dataclass(frozen=True, slots=True)
class PipIndexes:
    """All that pip is configured to look into; `packages` are pip and PySocks, by their path inside."""

    settings: PipSettings
    packages: Mapping[str, Path]

    def command(self, batch: Sequence[Source]) -> Command:
        """`pip download` of exactly these files: by name, version and hash; nothing is built or run."""
        options = ("--no-deps", "--require-hashes", "--dest", FILES, "-r", INPUT)
        wheels = [(_wheel_file(source), source.digest.hex) for source in batch]
        lines = [f"{wheel.name}=={wheel.version} --hash=sha256:{digest}\n" for wheel, digest in wheels]
        return self._pip(("download", *_TAGS, *options), "".join(lines).encode())

    def choose(self, wanted: Sequence[str]) -> Command:
        """`pip install` as it would be for these requirements: nothing is installed, built or run."""
        options = ("--dry-run", "--ignore-installed", "--quiet", "--report", f"{FILES}/{_REPORT}", "-r", INPUT)
        return self._pip(("install", *options, *_TAGS), "".join(f"{line}\n" for line in wanted).encode())

    def file(self, source: Source) -> str:
        """Under its own name."""
        return _wheel_file(source).filename

    def _pip(self, arguments: tuple[str, ...], given: bytes) -> Command:
        """Isolated (python(1), -I): only the system's own modules are imported beside pip and PySocks."""
        files = {**self.settings.files, **self.packages}
        words = ("-I", "-c", _START, *arguments)
        return Command(_PYTHON, words, self.settings.route, self.settings.environment, files, given)

    def failures(self, batch: Sequence[Source], stderr: str) -> Mapping[Source, Failure]:
        """All when the index can't be reached; else only a batch of one has a culprit: pip stops without naming it."""
        unreachable = next((line for line in stderr.splitlines() if line.startswith(_UNREACHABLE)), None)
        if unreachable:
            return dict.fromkeys(batch, Failure(FailureKind.FAILED, unreachable))
        if len(batch) > 1:
            return {}
        errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
        why = (errors or stderr.splitlines() or ["pip said nothing"])[-1]
        if "DO NOT MATCH THE HASHES" in stderr:
            return {batch[0]: Failure(FailureKind.WRONG, "pip found another hash")}
        return {batch[0]: Failure(FailureKind.GONE if why.startswith(_GONE) else FailureKind.FAILED, why)}


def requirements(pyproject: bytes) -> tuple[str, ...]:
    """The run-time dependencies in a pyproject.toml (PEP 621), none by its address. Raises UsageError."""
    try:
        project: Any = toml.parse(pyproject, limit=_PROJECT_LIMIT)
        listed = [Requirement(line) for line in project["project"]["dependencies"]]
    except (ValueError, KeyError, TypeError, InvalidRequirement) as error:
        raise UsageError(f"pyproject.toml has no readable project.dependencies: {error}") from error
    if addresses := [str(one) for one in listed if one.url]:
        # pip would run what builds it, --only-binary or not (pip documentation, "pip install", --only-binary)
        raise UsageError(f"pyproject.toml names dependencies by their address: {'; '.join(addresses)}")
    return tuple(sorted(map(str, listed)))


def resolve(wanted: Sequence[str]) -> tuple[Wheel, ...]:
    """The wheels that pip chooses for these requirements and everything that they need. Raises MvmnixError."""
    packages = _packages()
    lines = [str(Requirement(line)) for line in wanted]
    return parse_report(_report(PipIndexes(pip_settings.read(), packages), lines, BOUNDS), wanted)


def file_urls(index: str) -> tuple[str, ...]:
    """URLs from which an index serves pip itself; pip downloads its metadata. Raises MvmnixError (configured.py)."""
    packages = _packages()
    settings = pip_settings.read(index)
    impatient = {"PIP_RETRIES": "0"} | dict.fromkeys(("PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT"), str(_PATIENCE))
    indexes = PipIndexes(replace(settings, environment={**settings.environment, **impatient}), packages)
    report = _report(indexes, ("pip",), replace(BOUNDS, seconds=2 * _PATIENCE))
    try:
        found: Any = parse_json(report, limit=_REPORT_LIMIT, fraction=float)
        return tuple(str(entry["download_info"]["url"]) for entry in found["install"])
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(error) from error


def _report(indexes: PipIndexes, lines: Sequence[str], bounds: Bounds) -> bytes:
    """What pip reports of its choice. Raises MvmnixError."""
    with downloaded(indexes.choose(lines), [_REPORT], bounds) as done:
        report = done.content(_REPORT)
        if done.status or report is None:
            failure = done.failure(_INDEX)
            words = "; ".join(dict.fromkeys((failure.cause.strip(), *done.refusals)))
            raise MvmnixError(f"pip chose no wheels: {words}", hint=failure.hint) from failure
        return _beginning(report)


def _unreadable(error: Exception) -> MvmnixError:
    return MvmnixError(f"pip's report can't be read: {error!r}", hint="use pip 23 or newer")


def parse_report(report: bytes, wanted: Sequence[str]) -> tuple[Wheel, ...]:
    """The wheels in pip's installation report (pip documentation, version 1 of the format), sorted. No I/O."""
    try:
        told: Any = parse_json(report, limit=_REPORT_LIMIT, fraction=float)
        found = [_wheel(entry) for entry in told["install"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(error) from error
    extras = _extras([Requirement(line) for line in wanted], [needs for _, needs in found])
    names = {wheel.name for wheel, _ in found}
    edges = {
        wheel.name: {canonicalize_name(need.name) for need in needs if _applies(need, extras.get(wheel.name, set()))}
        for wheel, needs in found
    }
    wheels = [replace(wheel, depends=tuple(sorted(edges[wheel.name] & names))) for wheel, _ in found]
    return tuple(sorted(wheels, key=lambda wheel: wheel.name))


def _beginning(report: Iterable[bytes]) -> bytes:
    """Return the whole report, or more of it than is parsed."""
    data = bytearray()
    for chunk in report:
        data += chunk
        if len(data) > _REPORT_LIMIT:
            break
    return bytes(data)


def _wheel(entry: Mapping[str, Any]) -> tuple[Wheel, list[Requirement]]:
    """One entry of the report, without edges, and what its metadata requires."""
    metadata, download = entry["metadata"], entry["download_info"]
    file = WheelFile.parse(unquote(urlsplit(download["url"]).path.rpartition("/")[2]))
    digest = Digest(download["archive_info"]["hashes"]["sha256"])
    needs = [Requirement(line) for line in metadata.get("requires_dist", ())]
    return Wheel(file.name, file.version, file.filename, digest, ()), needs


def _wheel_file(source: Source) -> WheelFile:
    return WheelFile.parse(source.uri.removeprefix(PYPI_MIRROR))


def _applies(need: Requirement, extras: Iterable[str]) -> bool:
    """Whether a requirement counts on the pinned Python, with any of these extras or none."""
    return any(need.marker is None or need.marker.evaluate({**_MARKERS, "extra": extra}) for extra in ("", *extras))


def _extras(wanted: Iterable[Requirement], needs: Iterable[Sequence[Requirement]]) -> dict[str, set[str]]:
    """By project, the extras that anything asks of it. An over-count is harmless: edges lead to chosen wheels only."""
    asked: dict[str, set[str]] = {}
    for need in (*wanted, *(one for group in needs for one in group)):
        if need.marker is None or "extra" not in str(need.marker):
            asked.setdefault(canonicalize_name(need.name), set()).update(need.extras)
    return asked


def _packages() -> dict[str, Path]:
    """This Python's pip and PySocks, by their path inside; markers are evaluated by it, so its version matters."""
    if "{}.{}".format(*sys.version_info) != PYTHON:
        raise MvmnixError(f"wheels are pinned for Python {PYTHON}, and this is {sys.version.split()[0]}", hint=_HINT)
    found = {}
    for name in ("pip", "socks.py"):
        place = next((each for each in _places() if Path(each, name).exists()), None)
        if place is None:
            raise MvmnixError(f"{sys.executable} has no {name}, without which no wheel is fetched", hint=_NO_PIP)
        found[f"{_PACKAGES}/{name}"] = Path(place, name)
    return found


def _places() -> Iterator[str]:
    """Where this Python's packages are, and the directories that path configuration files name there (`site`).

    A virtual environment that pipx makes has its pip by such a file. The working directory and variables add nothing.
    """
    for directory in site.getsitepackages():
        yield directory
        for file in sorted(Path(directory).glob("*.pth")):
            yield from (line for line in file.read_text(errors="replace").splitlines() if line.startswith("/"))
