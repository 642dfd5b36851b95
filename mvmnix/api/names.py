"""Lists names of what is kept and of what a flake has, for completion.

It makes, verifies, evaluates and changes nothing, and loads little. What a flake has is known, without an evaluation:

1. by the provenance of kept images, where it names a tree and a directory as the flake's are called and the same
   flake.lock;
2. by its flake.nix, where a name is bound to a guest: `NAME = mvmnix.lib.mkGuest`. That is a search in a text: it may
   offer a name that the flake hasn't, and miss others.

Of a flake only regular files of the caller's own are read, up to a bound, and no symbolic link.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mvmnix.errors import MvmnixError
from mvmnix.machines import registry
from mvmnix.system.private_dirs import Directory
from mvmnix.system.roots import Roots
from mvmnix.words import Words, check_words

if TYPE_CHECKING:
    from mvmnix.images.store import ImageStore, IndexEntry
    from mvmnix.provenance.slsa.provenance import Provenance

#: What a shell may be given: it splits words, and takes some signs for itself.
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DIGEST: Final = re.compile("[0-9a-f]{64}")
#: So many digits of a digest are shown.
_DIGITS: Final = 12
#: The same of an attribute, and of a reference to a flake.
_ATTRIBUTE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_REFERENCE: Final = re.compile(r"[A-Za-z0-9._/~+@%:?=-]{1,4096}")
#: A name that is bound to a guest, as `mvm init` writes it.
_GUEST: Final = re.compile(
    rb"(?<![\w'-])([A-Za-z_][\w-]{0,63})\s{0,64}=\s{0,64}(?:[A-Za-z_][\w-]{0,63}\.){0,8}mk(?:Oci)?Guest\b"
)
#: Bytes of a file of a flake's that are read.
_LIMIT: Final = 2**20


def has_state(environment: Mapping[str, str]) -> bool:
    """Whether there is a state directory. Raises UsageError."""
    return os.path.isdir(Roots.from_environment(environment).paths["state"])  # noqa: PTH112 - a text


def machine_names(environment: Mapping[str, str], states: Words = ()) -> tuple[str, ...]:
    """The names of the machines in these states, or of all, the youngest first. Raises OSError, MvmnixError."""
    states = check_words(states)
    with _state(environment) as state, state.existing("machines") as machines:
        entries = reversed(registry.list_entries(machines))
        return _words(entry.status.name for entry in entries if not states or entry.state in states)


def image_names(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The names of kept images, by their manifests. Raises as above."""
    from mvmnix.images.prune import KeptImages  # noqa: PLC0415 - machines don't pay for it

    with _library(environment) as library:
        return () if library is None else _words(sorted(KeptImages(library).names()))


def plan_digests(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The beginnings of the digests of kept plans. Raises as above."""
    with _state(environment) as state, state.existing("plans") as plans:
        return _words(name[:_DIGITS] for name in plans.names() if _DIGEST.fullmatch(name))


def attribute_names(environment: Mapping[str, str], flake: str) -> tuple[str, ...]:
    """The attributes of a flake, which is named as on a command line, without `#`. Raises as above."""
    from mvmnix.api.source_refs import source_ref  # noqa: PLC0415 - machines don't pay for it
    from mvmnix.model import FlakeRef  # noqa: PLC0415

    if not _REFERENCE.fullmatch(flake):
        return ()  # a shell would have it quoted
    reference = source_ref(os.path.expanduser(flake))  # noqa: PTH111 - a text; a shell expands no other `~` either
    if not isinstance(reference, FlakeRef):
        return ()
    directory = Path(reference.directory, reference.subdirectory).resolve(strict=True)
    text = _own_file(directory / "flake.nix")
    if text is None:
        return ()
    top = Path(reference.directory).resolve() if reference.copy else _work_tree(directory)
    found = (*sorted(_built_from(environment, top, directory)), *(name.decode() for name in _GUEST.findall(text)))
    return tuple(name for name in dict.fromkeys(found) if _ATTRIBUTE.fullmatch(name))


def _built_from(environment: Mapping[str, str], top: Path, directory: Path) -> set[str]:
    """By 1, the attributes of kept images, of those that can be read."""
    from mvmnix.digest import Digest  # noqa: PLC0415
    from mvmnix.model import store_name  # noqa: PLC0415

    data = _own_file(directory / "flake.lock")
    lock = None if data is None else Digest.of(data)
    called = (store_name(top.name), "" if directory == top else str(directory.relative_to(top)))
    found = set[str]()
    with suppress(OSError, MvmnixError), _library(environment) as library:
        if library is None:
            return found
        for entry in library.entries():
            with suppress(OSError, MvmnixError):
                claim = _claim(library, entry) if entry.lock == lock else None
                if claim is not None and (_label(claim.root.uri), claim.directory) == called:
                    found.add(claim.attribute)
    return found


def _label(uri: str) -> str:
    """How a root tree is called, whether it was a commit or a copy (builder/flakes/flake_source.py).

    >>> _label("git+file:guest?rev=0123"), _label("path:guest")
    ('guest', 'guest')
    """
    return uri.partition(":")[2].partition("?")[0]


def _claim(library: "ImageStore", entry: "IndexEntry") -> "Provenance":
    """What a kept image's provenance says, which is not verified."""
    from mvmnix.provenance.bundle import statement  # noqa: PLC0415
    from mvmnix.provenance.bundle.envelope import parse_bundle  # noqa: PLC0415
    from mvmnix.provenance.slsa.predicate import read_provenance  # noqa: PLC0415

    return read_provenance(statement.parse(parse_bundle(library.bundle(entry.bundle)).payload))


def _work_tree(directory: Path) -> Path:
    """The top of the git work tree around a directory, as far as names show it; the directory where there is none."""
    return next((each for each in (directory, *directory.parents) if os.path.lexists(each / ".git")), directory)


def _own_file(path: Path) -> bytes | None:
    """The bytes of a file that may be read by the rule above."""
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                data = file.read(_LIMIT + 1)
                return data if len(data) <= _LIMIT else None
    return None


@contextmanager
def _library(environment: Mapping[str, str]) -> "Iterator[ImageStore | None]":
    """The kept images; None where there are none: opening a library makes what is missing of it."""
    from mvmnix.images.store import ImageStore, StoreDirectory  # noqa: PLC0415 - machines don't pay for it

    if not has_state(environment):
        yield None
        return
    with _state(environment) as state:
        if not all(map(state.exists, (*StoreDirectory, "builds"))):
            yield None
            return
        with ImageStore(state) as library:
            yield library


@contextmanager
def _state(environment: Mapping[str, str]) -> Iterator[Directory]:
    """The state directory, which is not made."""
    with Directory.open(Roots.from_environment(environment).paths["state"]) as state:
        yield state


def _words(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if _WORD.fullmatch(name)))
