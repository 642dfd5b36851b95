"""Takes what derivations are made from, and no derivation makes, out of the evaluating VM: trees and files.

The bytes are a stranger's. A path counts when it follows from the archive, or from the file's own bytes, and from what
it refers to (Nix manual, "Store Path Specification"); what has its path from anything else could be any bytes at all.
"""

import mmap
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial
from typing import Final, Self

from mvmnix.builder.session.ledger import Offer, content_address
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.formats import nar, nix_export
from mvmnix.formats.nix_export import Exported
from mvmnix.formats.strict import MalformedError
from mvmnix.model import HashMode, StorePath
from mvmnix.system.store import Store

#: Bytes of all of them, and how many there are.
LIMIT: Final = 1 << 32
MAX_TREES: Final = 4096
#: Bytes of the archive of a file that evaluation wrote.
_MAX_TEXT: Final = 64 << 20
_CHUNK: Final = 1 << 20


class TreeImport:
    """Trees and files on their way into the store, as one export of Nix's; what isn't taken leaves nothing behind."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._incoming = store.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._incoming.discard()

    def write(self, data: bytes) -> None:
        """Take more of the export. Raises RefusedError [output-malformed]."""
        if self._incoming.size + len(data) > LIMIT:
            raise _malformed(f"they are more than {LIMIT} bytes")
        self._incoming.write(data)

    def take(self, wanted: Collection[StorePath]) -> tuple[Offer, ...]:
        """Keep these and all that they refer to, once the export is complete; returns what may be given to a VM.

        Raises RefusedError [output-malformed] for one that is missing, or whose path doesn't follow from its bytes.
        """
        try:
            offers = tuple(self._offers())
        except (MalformedError, ValueError) as error:
            raise _malformed(f"they can't be read: {str(error)[:300]}") from error
        known = {offer.path for offer in offers}
        if missing := {*wanted, *(path for it in offers for path in it.references)} - known:
            raise _malformed(f"{min(missing)} is missing")
        return offers

    def _offers(self) -> Iterator[Offer]:
        mapped = memoryview(mmap.mmap(self._incoming.fd, self._incoming.size, access=mmap.ACCESS_READ))
        for number, it in enumerate(nix_export.read_archives(mapped)):
            if number >= MAX_TREES:
                raise _malformed(f"they are more than {MAX_TREES}")
            yield self._offer(it)

    def _offer(self, it: Exported[memoryview]) -> Offer:
        incoming = self._store.receive()
        try:
            for begin in range(0, len(it.content), _CHUNK):
                incoming.write(bytes(it.content[begin : begin + _CHUNK]))
            address = _address(it, incoming.digest)
            digest, size = incoming.keep(), incoming.size
        finally:
            incoming.discard()
        return Offer(it.path, digest, size, partial(self._store.stream, digest), address, it.references)


def _address(it: Exported[memoryview], digest: Digest) -> str:
    """Return the content address that a path has its name by (narinfo field CA)."""
    if StorePath.recursive(it.path.name, digest, it.references) == it.path:
        return content_address(digest, HashMode.NAR)
    with suppress(MalformedError):
        content = Digest.of(nar.Reader(it.content[:_MAX_TEXT]).plain_file())
        if StorePath.text(it.path.name, content, it.references) == it.path:
            return f"text:sha256:{content.nix32}"
    raise _malformed(f"{it.path} has its path from something else than its bytes")


def _malformed(why: str) -> RefusedError:
    hint = "let derivations be made from files of the flake, or from what others make"
    return refuse(ReasonCode.OUTPUT_MALFORMED, "sources of the derivations", why, hint)
