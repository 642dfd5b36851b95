"""Reads `nix derivation show --recursive` into the fixed outputs that a build will ask for; no file, no network.

The graph comes out of the builder VM and is hostile: a fixed output counts only when its store path follows from its
own name, method and hash, so that a lie about it asks for bytes that no other build would have been given.
"""

from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError, refuse
from mvmnix.formats.strict import MalformedError, parse_json
from mvmnix.model import HashMode, Source, StorePath

#: Bounds on what is read: bytes of JSON, derivations in it, and values: 200 for each, twice what stdenv's have.
LIMIT = 64 * 1024 * 1024
MAX_DERIVATIONS = 20_000
MAX_VALUES = 200 * MAX_DERIVATIONS

_MODES = {"flat": HashMode.FLAT, "nar": HashMode.NAR}


@dataclass(frozen=True, slots=True)
class Derivation:
    """One node: the paths that it makes, the derivations that it needs, and what it is if it is a fixed output.

    `unsupported` says why a fixed output can't be brought by its hash; a binary cache may still have it.
    """

    outputs: tuple[StorePath, ...]
    needs: tuple[str, ...]
    source: Source | None
    unsupported: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """What a derivation needs from outside, its fixed outputs, sorted; and all derivations, by their path's text."""

    sources: tuple[Source, ...]
    derivations: Mapping[str, Derivation]

    def needed(self, root: StorePath, *, have: Container[StorePath]) -> tuple[Source, ...]:
        """The fixed outputs that building `root` will ask for when these paths are had already; sorted.

        Raises RefusedError OUTPUT_MALFORMED for one that can't be brought.
        """
        found, seen, left = set(), set(), [str(root)]
        while left:
            name = left.pop()
            derivation = self.derivations.get(name)
            if name in seen or derivation is None or _had(derivation, have):
                continue
            seen.add(name)
            if derivation.unsupported:
                raise _malformed(derivation.unsupported)
            if derivation.source is not None:
                found.add(derivation.source)
            else:
                left += derivation.needs
        return tuple(sorted(found))


def _had(derivation: Derivation, have: Container[StorePath]) -> bool:
    return bool(derivation.outputs) and all(path in have for path in derivation.outputs)


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


def _malformed(why: str) -> Exception:
    return refuse(
        ReasonCode.OUTPUT_MALFORMED,
        "derivation graph",
        why,
        "look at the builder's log; the flake's derivations are odd",
    )


def _object(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _malformed(f"{where} is not an object")
    return cast("dict[str, object]", value)


def _uri(environment: dict[str, object], where: str) -> str:
    told = environment
    if isinstance(structured := environment.get("__json"), str):  # Nix manual, "structured attributes"
        try:
            told = _object(parse_json(structured.encode(), fraction=float), where)
        except ValueError as error:
            raise _malformed(f"{where}: its structured attributes can't be read: {error}") from error
    urls = told.get("urls") or told.get("url")
    words = urls.split() if isinstance(urls, str) else urls if isinstance(urls, list) else []
    first = str(words[0]) if words else ""
    if "://" not in first or len(first) > 2048 or not first.isascii() or not first.isprintable():
        raise _malformed(f"{where} names no address to fetch from")
    return first


def _unsupported(output: dict[str, object], where: str) -> str:
    """Why a fixed output can't be brought by its hash; empty when it can, and for outputs that are not fixed."""
    method, algorithm = str(output.get("method")), str(output.get("hashAlgo"))
    supported = "hash" not in output or (algorithm == "sha256" and method in _MODES)
    return "" if supported else f"{where} is fixed by {method:.20} {algorithm:.20}, not by SHA-256"


def _fixed_output(derivation: object, where: str) -> Source | None:
    record = _object(derivation, where)
    output = _object(record.get("outputs"), where).get("out")
    fields = _object(output, where) if output is not None else {}
    if "hash" not in fields:
        return None
    if _unsupported(fields, where):
        return None
    method = str(fields.get("method"))
    try:
        source = Source(
            uri=_uri(_object(record.get("env"), where), where),
            name=str(record.get("name")),
            digest=Digest(str(fields["hash"])),
            mode=_MODES[method],
        )
        promised, made = StorePath.parse(str(fields.get("path"))), source.store_path
    except ValueError as error:
        raise _malformed(f"{where}: {str(error)[:300]}") from error
    if made != promised:
        raise _malformed(f"{where} promises {promised}, but its hash makes {made}")
    return source


def parse_graph(data: bytes) -> Graph:
    """The graph in these bytes. Raises RefusedError OUTPUT_MALFORMED."""
    try:
        derivations = _object(parse_json(data, limit=LIMIT, values=MAX_VALUES), "it")
    except MalformedError as error:
        raise _malformed(f"it can't be read: {error}") from error
    if len(derivations) > MAX_DERIVATIONS:
        raise _malformed(f"it has more than {MAX_DERIVATIONS} derivations")
    read = {name: _derivation(value, name[:120]) for name, value in derivations.items()}
    return Graph(tuple(sorted({it.source for it in read.values() if it.source is not None})), read)


def _derivation(value: object, where: str) -> Derivation:
    record = _object(value, where)
    outputs = _object(record.get("outputs"), where)
    paths = (_object(output, where).get("path") for output in outputs.values())
    made = []
    for path in paths:
        with suppress(ValueError):  # what is no path is never had, so it is looked for beneath
            made.append(StorePath.parse(str(path)))
    needs = tuple(_object(record.get("inputDrvs", {}), where))
    why = next(filter(None, (_unsupported(_object(output, where), where) for output in outputs.values())), "")
    return Derivation(tuple(made), needs, _fixed_output(record, where), why)
