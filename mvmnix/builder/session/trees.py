"""Holds the trees and files that derivations are made from, and no derivation makes, against their paths.

They come out of the evaluating VM, so their bytes are a stranger's. A path counts when it follows from the archive, or
from the file's own bytes, and from what it refers to (Nix manual, "Store Path Specification"); what has its path from
anything else could be any bytes at all.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from mvmnix.builder.session.ledger import Offer, content_address
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.formats import nar
from mvmnix.formats.nix_export import Exported
from mvmnix.formats.strict import MalformedError
from mvmnix.model import HashMode, StorePath

#: Bytes of the archive of a file that evaluation wrote.
_MAX_TEXT: Final = 64 << 20
_CHUNK: Final = 1 << 20


def read_trees(exported: Iterable[Exported[memoryview]], wanted: Collection[StorePath]) -> Mapping[StorePath, Offer]:
    """Return what gives these paths, and all that they refer to, to a VM. Nothing is kept: they live as long as it.

    Raises RefusedError [output-malformed] where one is missing or there are others, and for a path that doesn't follow
    from its bytes.
    """
    found = {it.path: it for it in exported}
    seen, left = set[StorePath](), list(wanted)
    while left:
        if (path := left.pop()) not in seen:
            if path not in found:
                raise malformed(f"{path} is missing")
            seen.add(path)
            left += found[path].references
    if others := found.keys() - seen:
        raise malformed(f"{min(others)} is needed for nothing")
    return {path: _offer(it) for path, it in found.items()}


def _offer(it: Exported[memoryview]) -> Offer:
    digest, size = nar.nar_hash((it.content,))
    return Offer(it.path, digest, size, partial(_chunks, it.content), _address(it, digest), it.references)


def _chunks(archive: memoryview) -> Iterator[bytes]:
    for begin in range(0, len(archive), _CHUNK):
        yield bytes(archive[begin : begin + _CHUNK])


def _address(it: Exported[memoryview], digest: Digest) -> str:
    """Return the content address that a path has its name by (narinfo field CA)."""
    if StorePath.recursive(it.path.name, digest, it.references) == it.path:
        return content_address(digest, HashMode.NAR)
    with suppress(MalformedError):
        content = Digest.of(nar.Reader(it.content[:_MAX_TEXT]).plain_file())
        if StorePath.text(it.path.name, content, it.references) == it.path:
            return f"text:sha256:{content.nix32}"
        if StorePath.flat(it.path.name, content) == it.path and not it.references:
            return content_address(content, HashMode.FLAT)
    raise malformed(f"{it.path} has its path from something else than its bytes")


def malformed(why: str) -> RefusedError:
    """Return the refusal of what isn't a tree or a file that evaluation may hand out."""
    hint = "let derivations be made from files of the flake, or from what others make"
    return refuse(ReasonCode.OUTPUT_MALFORMED, "sources of the derivations", why, hint)
