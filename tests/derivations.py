"""Store derivations that tests make: of fixed outputs, of what is made from others, and exported as Nix does it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from mvmnix.digest import Digest
from mvmnix.formats.derivation import Derivation, Output
from mvmnix.formats.nar import nar_of_file
from mvmnix.model import HashMode, Source, StorePath

type Derivations = dict[StorePath, Derivation]


def fixed(source: Source, *, output: Mapping[str, str] | None = None, **changes: Any) -> Derivation:
    """The derivation of a fixed output; `output` and `changes` make it another one, whose promises aren't kept."""
    promise = {
        "path": str(source.store_path),
        "algorithm": "sha256" if source.mode is HashMode.FLAT else "r:sha256",
        "hash": source.digest.hex,
    }
    fields: dict[str, Any] = {
        "outputs": {"out": Output(**(promise | dict(output or {})))},
        "inputs": {},
        "sources": (),
        "system": "x86_64-linux",
        "program": "builtin:pin",
        "arguments": (),
        "environment": {"name": source.name, "urls": source.uri},
    }
    found = Derivation(**(fields | changes))
    told = {"out": found.outputs["out"].path} if "out" in found.outputs else {}
    return replace(found, environment={**told, **found.environment})


def add(derivations: Derivations, name: str, derivation: Derivation) -> StorePath:
    """Add a derivation to others; returns its path."""
    path = derivation.path(name)
    derivations[path] = derivation
    return path


def guest(*sources: Source, trees: Sequence[StorePath] = ()) -> tuple[StorePath, Derivations]:
    """An image of these sources and trees, with all that it is made from."""
    found: Derivations = {}
    return made(found, "guest-hello", [add(found, it.name, fixed(it)) for it in sources], trees=trees), found


def made(
    derivations: Derivations,
    name: str,
    inputs: Sequence[StorePath],
    *outputs: str,
    trees: Sequence[StorePath] = (),
) -> StorePath:
    """Add what is made from these others, by their `out`; `outputs` are its own, `out` alone if left out."""
    names = outputs or ("out",)
    blank = Derivation(
        outputs=dict.fromkeys(names, Output("")),
        inputs=dict.fromkeys(inputs, ("out",)),
        sources=tuple(sorted(trees)),
        system="x86_64-linux",
        program="/bin/sh",
        arguments=("-e",),
        environment={"name": name, **dict.fromkeys(names, "")},
    )
    digest = blank.modulo(_written(derivations, blank), masked=True)
    paths = {it: str(StorePath.output(name, it, digest)) for it in names}
    whole = replace(
        blank,
        outputs={it: Output(path) for it, path in paths.items()},
        environment={**blank.environment, **paths},
    )
    return add(derivations, name, whole)


def _written(derivations: Derivations, derivation: Derivation) -> dict[str, tuple[str, ...]]:
    """Its inputs by their digests (nix: hashDerivationModulo), which may be the same for several."""
    found = defaultdict[str, set[str]](set)
    for path, names in derivation.inputs.items():
        found[_modulo(derivations, derivations[path]).hex].update(names)
    return {digest: tuple(names) for digest, names in found.items()}


def _modulo(derivations: Derivations, derivation: Derivation) -> Digest:
    out = derivation.outputs.get("out")
    if out is not None and out.hash:
        return Digest.of(f"fixed:out:{out.algorithm}:{out.hash}:{out.path}".encode())
    return derivation.modulo(_written(derivations, derivation))


def output_of(derivations: Derivations, path: StorePath) -> StorePath:
    """Where a derivation's `out` goes."""
    return StorePath.parse(derivations[path].outputs["out"].path)


def exported(derivations: Mapping[StorePath, Derivation | bytes]) -> bytes:
    """What `nix-store --export` (2.26) writes of these derivations, which may be bytes that are none."""
    files = {path: it if isinstance(it, bytes) else it.to_bytes() for path, it in derivations.items()}
    return exported_archives({path: b"".join(nar_of_file(len(data), (data,))) for path, data in files.items()})


def exported_archives(
    archives: Mapping[StorePath, bytes], references: Mapping[StorePath, Sequence[StorePath]] = MappingProxyType({})
) -> bytes:
    """What it writes of any paths, by their archives, which refer to others."""
    written = b""
    for path, archive in archives.items():
        others = references.get(path, ())
        written += number(1) + archive + b"NIXE\0\0\0\0" + text(str(path))
        written += number(len(others)) + b"".join(text(str(it)) for it in others) + text("") + number(0)
    return written + number(0)


def number(value: int) -> bytes:
    """A number as an archive has it."""
    return value.to_bytes(8, "little")


def text(value: str) -> bytes:
    """A text as an archive has it."""
    data = value.encode()
    return number(len(data)) + data + bytes(-len(data) % 8)
