"""Reads `nix derivation show --recursive` into the fixed outputs that a build will ask for; no file, no network.

The graph comes out of the builder VM and is hostile: a fixed output counts only when its store path follows from its
own name, method and hash, so that a lie about it asks for bytes that nobody else would have been given.
"""

import json
from dataclasses import dataclass
from typing import cast

from mvmnix.errors import ReasonCode, refuse
from mvmnix.model import Digest, HashMode, Source, StorePath

#: Bounds on what is read: bytes of JSON, derivations in it.
LIMIT = 64 * 1024 * 1024
MAX_DERIVATIONS = 20_000

_MODES = {"flat": HashMode.FLAT, "nar": HashMode.NAR}


@dataclass(frozen=True, slots=True)
class Graph:
    """What a derivation needs from outside: its fixed outputs, sorted."""

    sources: tuple[Source, ...]


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
    urls = environment.get("urls") or environment.get("url")
    first = urls.split()[0] if isinstance(urls, str) and urls.split() else ""
    if "://" not in first or len(first) > 2048 or not first.isascii() or not first.isprintable():
        raise _malformed(f"{where} names no address to fetch from")
    return first


def _fixed_output(derivation: object, where: str) -> Source | None:
    record = _object(derivation, where)
    output = _object(record.get("outputs"), where).get("out")
    fields = _object(output, where) if output is not None else {}
    if "hash" not in fields:
        return None
    method, algorithm = str(fields.get("method")), str(fields.get("hashAlgo"))
    if algorithm != "sha256" or method not in _MODES:
        raise _malformed(f"{where} is fixed by {method:.20} {algorithm:.20}, not by SHA-256")
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


def parse(data: bytes) -> Graph:
    """The graph in these bytes. Raises RefusedError OUTPUT_MALFORMED."""
    if len(data) > LIMIT:
        raise _malformed(f"it is larger than {LIMIT} bytes")
    try:
        derivations = _object(json.loads(data), "it")
    except (ValueError, RecursionError) as error:
        raise _malformed(f"it is not JSON: {error}") from error
    if len(derivations) > MAX_DERIVATIONS:
        raise _malformed(f"it has more than {MAX_DERIVATIONS} derivations")
    found = (_fixed_output(value, name[:120]) for name, value in derivations.items())
    return Graph(tuple(sorted({source for source in found if source is not None})))
