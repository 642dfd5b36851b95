"""Reads the derivations that come out of a builder VM into a closure: what is made, from what; no file, no network.

The bytes are a stranger's, and nothing that a VM says about them counts. A derivation's path has to follow from its
bytes, and an output's path from its hash, or from the derivation and all that it is made from (Nix manual, "Store Path
Specification"): a lie makes another path, and so asks for bytes that no other build would have been given.
"""

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError, refuse
from mvmnix.formats import nix_export
from mvmnix.formats.derivation import SUFFIX, Derivation, Output
from mvmnix.formats.strict import parse_json
from mvmnix.model import HashMode, Source, StorePath

#: Bounds on what is read: bytes of all derivations, how many, and texts in them: 200 each, twice what stdenv's have.
LIMIT: Final = 64 * 1024 * 1024
MAX_DERIVATIONS: Final = 20_000
#: Bytes of one derivation, and trees and files that derivations are made from.
MAX_SIZE: Final = 16 * 1024 * 1024
MAX_TREES: Final = 4096
MAX_TEXTS: Final = 200 * MAX_DERIVATIONS
#: Characters of a source's address.
_MAX_ADDRESS: Final = 2048

_MODES: Final = {"sha256": HashMode.FLAT, "r:sha256": HashMode.NAR}
#: Methods and algorithms of fixed outputs whose paths are known without a build.
_FIXED: Final = re.compile(r"(r:)?(md5|sha1|sha256|sha512)")

type Derivations = Mapping[StorePath, Derivation]


@dataclass(frozen=True, slots=True)
class FixedOutput:
    """An output that is known by its hash; `unsupported` says why it can't be brought, where there is no `source`.

    A binary cache may still have it.
    """

    source: Source | None
    unsupported: str = ""


@dataclass(frozen=True)
class Closure:
    """Derivations with all that they are made from, by their paths; each output's path is the one that follows.

    Each stands behind those that it is made from.
    """

    derivations: Derivations
    fixed: Mapping[StorePath, FixedOutput]

    @cached_property
    def trees(self) -> tuple[StorePath, ...]:
        """The paths that derivations are made from and no derivation makes: trees and files of evaluation; sorted."""
        found = {path for it in self.derivations.values() for path in it.sources}
        return tuple(sorted(found - self.derivations.keys()))

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The fixed outputs that can be brought, sorted."""
        return sources_of(self.fixed.values())

    def export(self) -> bytes:
        """Return the derivations as an export of Nix's, which another store can import."""
        members = (
            nix_export.Exported(path, it.to_bytes(), tuple(sorted(it.references)))
            for path, it in self.derivations.items()
        )
        return b"".join(nix_export.write_files(members))

    def output(self, path: StorePath) -> StorePath:
        """Return where the output `out` of a derivation goes. Raises RefusedError [output-malformed] without one."""
        if (output := self.derivations[path].outputs.get("out")) is None:
            raise _malformed(f"{path} has no output that is called out")
        return StorePath.parse(output.path)

    def needed(self, root: StorePath, *, have: Container[StorePath]) -> tuple[Source, ...]:
        """Return the fixed outputs that building `root` will ask for when these paths are had already; sorted.

        Raises RefusedError [output-malformed] for one that can't be brought.
        """
        found, seen, left = set[Source](), set[StorePath](), [root]
        while left:
            path = left.pop()
            if path in seen or all(made in have for made in self.derivations[path].paths):
                continue
            seen.add(path)
            fixed = self.fixed.get(path)
            if fixed is None:
                left += self.derivations[path].inputs
            elif fixed.source is None:
                raise _malformed(f"{path} {fixed.unsupported}")
            else:
                found.add(fixed.source)
        return tuple(sorted(found))


def read_derivations(export: bytes) -> Derivations:
    """Read derivations by the paths that their bytes make. Raises RefusedError [output-malformed]."""
    found: dict[StorePath, Derivation] = {}
    if len(export) > LIMIT or export.count(b'"') > 2 * MAX_TEXTS or export.count(b"\\") > MAX_TEXTS:
        raise _malformed(f"they are more than {LIMIT} bytes, or have more than {MAX_TEXTS} texts or escapes")
    try:
        for path, data in nix_export.read_files(export):
            if len(data) > MAX_SIZE:
                raise _malformed(f"{path} is more than {MAX_SIZE} bytes")
            derivation = Derivation.parse(data)
            if not path.name.endswith(SUFFIX) or derivation.path(_name(path)) != path:
                raise _malformed(f"what is said to be {path} has another path")
            found[path] = derivation
            if len(found) > MAX_DERIVATIONS:
                raise _malformed(f"they are more than {MAX_DERIVATIONS}")
    except ValueError as error:
        raise _malformed(f"they can't be read: {str(error)[:300]}") from error
    return found


def read_closure(export: bytes, roots: Iterable[StorePath]) -> Closure:
    """Read all that these derivations are made from. Raises RefusedError [output-malformed] for more or less."""
    derivations = read_derivations(export)
    _check_whole(derivations, roots)
    fixed, modulo = dict[StorePath, FixedOutput](), dict[StorePath, Digest]()
    ordered = tuple(_in_order(derivations))
    for path in ordered:
        derivation = derivations[path]
        if (found := fixed_output(path, derivation)) is not None:
            fixed[path] = found
            out = derivation.outputs["out"]
            modulo[path] = Digest.of(f"fixed:out:{out.algorithm}:{out.hash}:{out.path}".encode())
        else:
            modulo[path] = _check_outputs(path, derivations, modulo)
    closure = Closure({path: derivations[path] for path in ordered}, fixed)
    if len(closure.trees) > MAX_TREES:
        raise _malformed(f"they are made from more than {MAX_TREES} trees and files")
    return closure


def _check_whole(derivations: Derivations, roots: Iterable[StorePath]) -> None:
    seen, left = set[StorePath](), list(roots)
    while left:
        if (path := left.pop()) in seen:
            continue
        if path not in derivations:
            raise _malformed(f"{path} is missing")
        seen.add(path)
        left += _derivations_of(derivations[path])
    if len(seen) != len(derivations):
        raise _malformed(f"{len(derivations) - len(seen)} of them are needed for nothing")


def _derivations_of(derivation: Derivation) -> Iterator[StorePath]:
    """Yield the derivations that it refers to: to their outputs, or to their files alone."""
    return (path for path in derivation.references if path.name.endswith(SUFFIX))


def _in_order(derivations: Derivations) -> Iterator[StorePath]:
    """Yield each behind what it is made from."""
    needs = {path: tuple(_derivations_of(it)) for path, it in derivations.items()}
    try:
        yield from TopologicalSorter(needs).static_order()
    except CycleError as error:
        raise _malformed("one is made from itself") from error


def _check_outputs(path: StorePath, derivations: Derivations, modulo: Mapping[StorePath, Digest]) -> Digest:
    """Hold the outputs' paths against what they are made from; returns the digest by which others refer to it."""
    derivation, inputs = derivations[path], defaultdict[str, set[str]](set)
    for needed, names in derivation.inputs.items():
        if unknown := set(names) - derivations[needed].outputs.keys():
            raise _malformed(f"{path} is made from the output {min(unknown)[:80]!r} of {needed}, which has none")
        inputs[modulo[needed].hex].update(names)
    if not derivation.outputs:
        raise _malformed(f"{path} has no output")
    written = {name: tuple(names) for name, names in inputs.items()}
    digest = derivation.modulo(written, masked=True)
    for name, output in derivation.outputs.items():
        if output.algorithm or output.hash or not output.path:
            raise _malformed(f"the path of the output {name[:80]!r} of {path} is known only after it was built")
        try:
            made = StorePath.output(_name(path), name, digest)
        except ValueError as error:
            raise _malformed(f"{path}: {str(error)[:300]}") from error
        _check_path(path, derivation, name, output, made)
    return derivation.modulo(written)


def _check_path(path: StorePath, derivation: Derivation, name: str, output: Output, made: StorePath) -> None:
    said = {output.path, derivation.environment.get(name, "nothing")}
    if said != {str(made)}:
        raise _malformed(f"{path} promises {' and '.join(sorted(said))[:300]}, but {made} follows from it")


def fixed_output(path: StorePath, derivation: Derivation) -> FixedOutput | None:
    """Return what a derivation makes that is known by its hash; None where it makes something else.

    Raises RefusedError [output-malformed] for a promise that doesn't follow from the hash.
    """
    output = derivation.outputs.get("out")
    if output is None or not output.hash or len(derivation.outputs) != 1:
        return None
    if not _FIXED.fullmatch(output.algorithm) or not re.fullmatch(r"[0-9a-f]{32,128}", output.hash):
        return None  # and so its path isn't known
    mode = _MODES.get(output.algorithm)
    try:
        if mode is None:
            made = StorePath.fixed(_name(path), output.algorithm, output.hash)
            found = FixedOutput(None, f"is fixed by {output.algorithm}, not by SHA-256")
        else:
            source = Source(_address(path, derivation), _name(path), Digest(output.hash), mode)
            made, found = source.store_path, FixedOutput(source)
    except ValueError as error:
        raise _malformed(f"{path}: {str(error)[:300]}") from error
    _check_path(path, derivation, "out", output, made)
    return found


def sources_of(outputs: Iterable[FixedOutput]) -> tuple[Source, ...]:
    """Return those that can be brought, each once, sorted."""
    return tuple(sorted({it.source for it in outputs if it.source is not None}))


def check_adaptive(sources: Iterable[Source]) -> None:
    """What evaluation asks for while it runs could carry out what it has read: an address without a query it has to be.

    Raises RefusedError [source-unknown], naming all.
    """
    reasons = [
        Reason(
            ReasonCode.SOURCE_UNKNOWN,
            source.uri,
            "evaluation asks for it while it runs, by an address with user information or a query",
            "pin it as an input of the flake",
        )
        for source in sources
        if "?" in source.uri or "@" in source.uri.partition("://")[2].partition("/")[0]
    ]
    if reasons:
        raise RefusedError(*reasons)


def _malformed(why: str) -> RefusedError:
    hint = "look at the builder's log; the flake's derivations are odd"
    return refuse(ReasonCode.OUTPUT_MALFORMED, "derivations", why, hint)


def _name(path: StorePath) -> str:
    return path.name.removesuffix(SUFFIX)


def _address(path: StorePath, derivation: Derivation) -> str:
    """Return the first address that a fixed output is fetched from. Raises ValueError, RefusedError."""
    told: Mapping[str, object] = derivation.environment
    if (structured := derivation.environment.get("__json")) is not None:  # Nix manual, "structured attributes"
        try:
            found = parse_json(structured.encode(), fraction=float)
        except ValueError as error:
            raise _malformed(f"{path}: its structured attributes can't be read: {error}") from error
        if not isinstance(found, dict):
            raise _malformed(f"{path}: its structured attributes are not an object")
        told = found
    urls = told.get("urls") or told.get("url")
    words = urls.split() if isinstance(urls, str) else urls if isinstance(urls, list) else []
    first = str(words[0]) if words else ""
    if "://" not in first or len(first) > _MAX_ADDRESS or not first.isascii() or not first.isprintable():
        raise _malformed(f"{path} names no address to fetch from")
    return first
