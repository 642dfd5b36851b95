"""Computes a flake's lock as Nix 2.26 does: keeps what still fits, resolves what is new, follows what follows.

After Nix's own `lockFlake` (nix: libflake/flake.cc), so that a lock made here is one that Nix leaves alone. Pure but
for the questions that it asks of a port: what a flake.nix wants, which tree a reference means.
"""

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from mvmnix.arguments import is_subdirectory
from mvmnix.builder.lockfile import document
from mvmnix.builder.lockfile.document import MAX_DEPTH, MAX_ENTRIES, Entry, Inputs
from mvmnix.builder.lockfile.inputs import Flake, InputSpec
from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError, refuse
from mvmnix.formats import lock as locks
from mvmnix.formats.flake_references import Attributes
from mvmnix.formats.lock import InputPath
from mvmnix.model import StorePath

_FIX_INPUT: Final = "look at the inputs in flake.nix; see docs/reference/locks.md"


@dataclass(frozen=True, slots=True)
class Tree:
    """A fetched tree: the attributes that lock it, none for the root, and its archive's digest in the source store."""

    locked: Attributes
    nar: Digest

    @property
    def store_path(self) -> StorePath:
        """Where Nix puts it."""
        return StorePath.recursive("source", self.nar)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a flake stands: in a tree, in a directory of it, "" for its top."""

    tree: Tree
    directory: str


class InputResolver(Protocol):
    """Who answers what a lock depends on. Each method raises MvmnixError."""

    def flake(self, place: Place) -> Flake:
        """What the flake there wants: read in the builder VM."""

    def resolve(self, original: Attributes) -> Tree:
        """The tree that a reference without `dir` means now: fetched by the host, which evaluates nothing."""

    def bring(self, locked: Attributes) -> Tree:
        """The tree that is locked by these attributes."""


@dataclass(frozen=True, slots=True)
class _Override:
    """What a flake says of an input of its input, as `_from_root` gives it: relative paths in it are that flake's."""

    wanted: InputSpec
    here: Place
    prefix: InputPath


@dataclass(frozen=True, slots=True)
class _At:
    """Where the computation is: the input's path, what was locked there, what `follows` in that is relative to."""

    prefix: InputPath
    old: Inputs
    follows: InputPath
    here: Place
    trusted: bool = False


def compute(
    resolver: InputResolver, root: Place, old: Inputs, *, updates: Iterable[InputPath] = (), everything: bool = False
) -> Inputs:
    """The root's inputs, locked. Inputs in `updates` are resolved anew; with `everything`, all are.

    Raises RefusedError with every input that can't be locked, or whatever the questions raise.
    """
    work = _Locking(resolver, frozenset(updates))
    flake = resolver.flake(root)
    made = work.inputs(flake.inputs, _At((), {} if everything else old, (), root))
    work.finish()
    return made


def checked(made: Inputs) -> bytes:
    """The flake.lock with these inputs. Raises RefusedError when mvm would not take it: not all is locked by a hash."""
    data = document.write(made)
    try:
        locks.parse(data)
    except RefusedError as error:
        reasons = (
            Reason(it.code, it.what.replace(locks.FILE_NAME, "inputs"), it.why, _FIX_INPUT) for it in error.reasons
        )
        raise RefusedError(*reasons) from error
    return data


class _Locking:
    """One computation; knows the overrides that were met on the way down."""

    def __init__(self, resolver: InputResolver, updates: frozenset[InputPath]) -> None:
        self._resolver = resolver
        self._updates = updates
        self._met: set[InputPath] = set()
        self._overrides: dict[InputPath, _Override] = {}
        self._parents: list[Attributes] = []
        self._count = 0
        self._reasons: list[Reason] = []

    def finish(self) -> None:
        """Raises RefusedError when something could not be locked, or was to be updated and is no input."""
        for path in sorted(self._updates - self._met):
            why = "there is no such input to update"
            self._refuse(path, ReasonCode.FLAKE_UNSUPPORTED, why, "name an input of flake.nix, or INPUT/INPUT")
        if self._reasons:
            raise RefusedError(*self._reasons)

    def inputs(self, wanted: Mapping[str, InputSpec], at: _At) -> Inputs:
        """Lock the inputs of one flake; what they follow is named from the root."""
        if len(at.prefix) > MAX_DEPTH:
            raise refuse(ReasonCode.FLAKE_UNSUPPORTED, _text(at.prefix), "inputs are nested too deep", _FIX_INPUT)
        for name, outer in wanted.items():
            for inner, override in outer.inputs.items():
                self._overrides.setdefault((*at.prefix, name, inner), _Override(override, at.here, at.prefix))
        made = {name: self._input(name, wanted[name], at) for name in sorted(wanted)}
        return {name: edge for name, edge in made.items() if edge is not None}

    def _input(self, name: str, own: InputSpec, at: _At) -> Entry | InputPath | None:
        path = (*at.prefix, name)
        self._met.add(path)
        override = self._overrides.get(path)
        # whether it is a flake is said where it is an input, also if it is overridden
        wanted = own if override is None else replace(override.wanted, flake=own.flake)
        if wanted.follows is not None:
            return wanted.follows
        self._count += 1
        if self._count > MAX_ENTRIES:
            raise refuse(ReasonCode.FLAKE_UNSUPPORTED, _text(path), f"more than {MAX_ENTRIES} inputs", _FIX_INPUT)
        attributes: Attributes = wanted.attributes or {"type": "indirect", "id": name}
        if not self._admitted(path, attributes):
            return None
        here = at.here if override is None else override.here
        parent = None if not _is_relative(attributes) else at.prefix if override is None else override.prefix
        found = None if path in self._updates else at.old.get(name)
        old = found if isinstance(found, Entry) else None
        if old is not None and (old.original, old.parent) == (attributes, parent):
            return self._kept(old, path, at, here)
        return self._new(Entry({}, attributes, wanted.flake, parent), path, here, at if old else None, old)

    def _admitted(self, path: InputPath, attributes: Attributes) -> bool:
        """Whether a reference can be locked at all; notes why not."""
        kind = attributes.get("type")
        if kind == "indirect":
            self._indirect(path, str(attributes.get("id")))
            return False
        is_local = kind == "path" and not _is_relative(attributes)
        if is_local or str(attributes.get("url", "")).startswith("file:"):
            hint = "refer to it by a relative path in the same tree, or publish it where others can fetch it"
            why = f"it names a place on one machine: {document.describe(attributes)}"
            self._refuse(path, ReasonCode.LOCK_NODE_UNSUPPORTED, why, hint)
            return False
        return True

    def _kept(self, old: Entry, path: InputPath, at: _At, here: Place) -> Entry:
        """An entry that still fits. Its own inputs are taken from the old lock, unless something says otherwise."""
        wanted = None if self._is_above_update(path) else self._still(old, path, at)
        if wanted is None:
            place = self._place(old.locked, here)
            wanted = _from_root(self._resolver.flake(place).inputs, path)
            below = self.inputs(wanted, _At(path, old.inputs, at.follows, place))
        else:
            below = self.inputs(wanted, _At(path, old.inputs, at.follows, at.here, trusted=True))
        return replace(old, inputs=below)

    def _is_above_update(self, path: InputPath) -> bool:
        return any(len(it) > len(path) and it[: len(path)] == path for it in self._updates)

    def _still(self, old: Entry, path: InputPath, at: _At) -> Mapping[str, InputSpec] | None:
        """What an old entry wants, by the old lock alone; None when its flake.nix has to be read for that."""
        result = {}
        for name, edge in old.inputs.items():
            override = self._overrides.get((*path, name))
            if isinstance(edge, Entry):
                if override is None and _is_relative(edge.original) and edge.parent != path:
                    return None  # the path begins elsewhere now; Nix looks for it in the wrong tree here
                result[name] = InputSpec(edge.original, edge.flake)
            elif override is None and not at.trusted:
                return None  # it followed by an override that is gone: the lock doesn't say what it wants of itself
            else:
                result[name] = InputSpec(follows=(*at.follows, *edge))
        return result

    def _new(self, new: Entry, path: InputPath, here: Place, at: _At | None, old: Entry | None) -> Entry:
        """An entry that is new, or leads elsewhere than its `old` one in `at`, whose inputs stay as far as they fit."""
        asked = new.original
        if asked in self._parents:
            why = f"it is an input of itself: {document.describe(asked)}"
            raise refuse(ReasonCode.FLAKE_UNSUPPORTED, f"input {_text(path)!r}", why, _FIX_INPUT)
        if _is_relative(asked):
            new, place = replace(new, locked=asked), self._place(asked, here)
        else:
            tree = self._resolver.resolve(_without_directory(asked))
            directory = {"dir": asked["dir"]} if "dir" in asked else {}
            new, place = replace(new, locked={**tree.locked, **directory}), Place(tree, _directory(asked, path))
        if not new.flake:
            return new
        flake = self._resolver.flake(place)
        self._parents.append(asked)
        if old is None or at is None:
            below = _At(path, document.read(flake.lock, f"flake.lock of input {_text(path)!r}"), path, place)
        else:
            below = _At(path, old.inputs, at.follows, place)
        made = self.inputs(_from_root(flake.inputs, path), below)
        self._parents.pop()
        return replace(new, inputs=made)

    def _place(self, attributes: Attributes, here: Place) -> Place:
        """Where a relative path leads, or a locked tree, which is brought."""
        if not _is_relative(attributes):
            tree = self._resolver.bring(_without_directory(attributes))
            return Place(tree, _directory(attributes, ()))
        directory = posixpath.normpath(posixpath.join(here.directory, str(attributes["path"])))
        directory = posixpath.normpath(posixpath.join(directory, str(attributes.get("dir", ""))))
        directory = "" if directory == "." else directory
        if not is_subdirectory(directory):
            why = f"the path {attributes['path']!r} leads out of the flake's tree, or has unusual characters"
            hint = "commit both in one repository, and name the directory of a flake.nix in it"
            raise refuse(ReasonCode.FLAKE_UNSUPPORTED, document.describe(attributes), why, hint)
        return Place(here.tree, directory)

    def _indirect(self, path: InputPath, name: str) -> None:
        why = f"{name!r} is an entry of a registry, which is not a fixed source"
        hint = f'write its whole URL into flake.nix: inputs.{".inputs.".join(path)}.url = "…"'
        self._refuse(path, ReasonCode.LOCK_NODE_UNSUPPORTED, why, hint)

    def _refuse(self, path: InputPath, code: ReasonCode, why: str, hint: str) -> None:
        self._reasons.append(Reason(code, f"input {_text(path)!r}", why, hint))


def _from_root(inputs: Mapping[str, InputSpec], prefix: InputPath) -> dict[str, InputSpec]:
    """The inputs of the flake at `prefix`, with what they follow named from the root."""
    return {
        name: replace(
            spec,
            follows=None if spec.follows is None else (*prefix, *spec.follows),
            inputs=_from_root(spec.inputs, prefix),
        )
        for name, spec in inputs.items()
    }


def _is_relative(attributes: Attributes) -> bool:
    return attributes.get("type") == "path" and not str(attributes.get("path", "")).startswith("/")


def _without_directory(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if name != "dir"}


def _directory(attributes: Attributes, path: InputPath) -> str:
    directory = str(attributes.get("dir", ""))
    if not is_subdirectory(directory):
        why = f"its dir {directory[:80]!r} is not a plain path downwards"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, f"input {_text(path)!r}", why, _FIX_INPUT)
    return directory


def _text(path: InputPath) -> str:
    return "/".join(path)
