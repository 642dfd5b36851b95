"""Reads a project's documents and its claims.toml from disk, for claim lint."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Final

from mvmnix.api import files
from mvmnix.claims.lint import Claim, Finding, Linter
from mvmnix.claims.outcomes import read_outcomes
from mvmnix.claims.settings import LIMIT, ClaimSettings, read_settings
from mvmnix.errors import UsageError
from mvmnix.words import Words, check_words

#: The file of settings in a project's directory.
SETTINGS: Final = "claims.toml"
#: Bytes of a document, of a file that a document names, and of a JUnit file.
_DOCUMENT: Final = 2**22
_RESULTS: Final = 2**26
_HINT: Final = "name a text of at most 4 MiB"


@dataclass(frozen=True, slots=True)
class ClaimReport:
    """What claim lint says of a project: findings, claims, and what could not be read, each in the order of files."""

    findings: tuple[Finding, ...]
    claims: tuple[Claim, ...]
    unreadable: tuple[str, ...]
    outcomes: Mapping[str, str]


def lint_claims(paths: Words, settings_file: str = "", results: Words = ()) -> ClaimReport:
    """Apply claim lint to a project: to the directory of its claims.toml, else to the current one.

    Args:
        paths: files to read, and directories in which the settings choose; none for the whole project.
        settings_file: another claims.toml; "" for the one in the current directory, if there is one.
        results: JUnit XML files with the outcomes of tests.

    Raises:
        RefusedError: CONFIG_MALFORMED, with all problems of the settings.
        UsageError: a named file or directory doesn't exist, or can't be read.
        TypeError: paths or results are no list of texts.
    """
    chosen, junit = check_words(paths), check_words(results)
    settings, root = _read_settings(settings_file)
    outcomes = {name: outcome for path in junit for name, outcome in _outcomes(path).items()}
    linter = Linter(settings, _reader(root), outcomes)
    named = {_relative(root, path) for path in chosen}
    findings, claims, unreadable = list[Finding](), list[Claim](), list[str]()
    for path in _choose(root, settings, chosen):
        if not _is_inside(root, root / path):
            unreadable.append(f"{path}: it lies outside of the project, or a link leads there")
            continue
        try:
            data = files.read(str(root / path), _DOCUMENT, _HINT)
            if path not in named and b"\0" in data:
                continue  # a picture, say
            document = linter.read(path, data)
        except (ValueError, UsageError) as error:
            unreadable.append(f"{path}: {error}")
            continue
        findings += linter.lint(document)
        claims += linter.find_claims(document)
    return ClaimReport(tuple(findings), tuple(claims), tuple(unreadable), outcomes)


def _is_inside(root: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _read_settings(settings_file: str) -> tuple[ClaimSettings, Path]:
    path = Path(settings_file or SETTINGS)
    if not settings_file and not path.is_file():
        return ClaimSettings(), Path()
    if not _is_inside(path.parent, path):
        raise UsageError(f"{path} is a link that leads out of the project", hint="put the file itself there")
    data = files.read(str(path), LIMIT, "name the claims.toml of a project")
    return read_settings(data, str(path)), path.parent


def _outcomes(path: str) -> Mapping[str, str]:
    hint = "name a JUnit XML file, as pytest --junit-xml writes it"
    try:
        return read_outcomes(files.read(path, _RESULTS, hint))
    except ValueError as error:
        raise UsageError(f"{path}: {error}", hint=hint) from error


def _reader(root: Path) -> Callable[[str], bytes | None]:
    """Return a reader of files inside the project, each once; symbolic links don't lead out of it."""

    @cache
    def read(path: str) -> bytes | None:
        try:
            return files.read(str(root / path), _DOCUMENT, _HINT) if _is_inside(root, root / path) else None
        except (OSError, ValueError, UsageError):
            return None

    return read


def _choose(root: Path, settings: ClaimSettings, paths: Sequence[str]) -> list[str]:
    """Return the paths of what is read, from the project's directory, in order and each once."""
    chosen = set[str]()
    for path in paths or (str(root),):
        if os.path.isdir(path):  # noqa: PTH112 - a text
            chosen |= {found for found in _walk(root, path) if _is_included(settings, found)}
        elif os.path.isfile(path):  # noqa: PTH113 - a text
            chosen.add(_relative(root, path))
        else:
            raise UsageError(f"{path} is neither a file nor a directory", hint="name documents, or their directory")
    if not chosen:
        raise UsageError("no document is read there", hint=f"look at include and exclude in {SETTINGS}")
    return sorted(chosen)


def _walk(root: Path, directory: str) -> Iterator[str]:
    """Yield the regular files below a directory; hidden directories and symbolic links are left out."""
    for parent, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if not name.startswith(".")]
        for name in names:
            path = os.path.join(parent, name)  # noqa: PTH118 - a text
            if not os.path.islink(path):  # noqa: PTH114 - a text
                yield _relative(root, path)


def _relative(root: Path, path: str) -> str:
    return PurePosixPath(os.path.relpath(path, root)).as_posix()


def _is_included(settings: ClaimSettings, path: str) -> bool:
    pure = PurePosixPath(path)
    return any(map(pure.full_match, settings.include)) and not any(map(pure.full_match, settings.exclude))
