"""Takes store paths that come out of a builder VM into a store, each archive under its own digest."""

import mmap
from collections.abc import Callable
from typing import Final, Self

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.formats import nix_export
from mvmnix.formats.nix_export import Exported
from mvmnix.system.store import Store

#: Bytes of all that comes out at once, and how many paths.
LIMIT: Final = 1 << 32
MAX_PATHS: Final = 4096
_CHUNK: Final = 1 << 20


class ArchiveImport:
    """Exports of Nix's on their way into a store; what isn't kept leaves nothing behind.

    `malformed` makes the error that is raised for what is no export, or too much.
    """

    def __init__(self, store: Store, malformed: Callable[[str], MvmnixError]) -> None:
        self._store = store
        self._malformed = malformed
        self._incoming = store.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._incoming.discard()

    def write(self, data: bytes) -> None:
        """Take more of the exports. Raises what `malformed` makes."""
        if self._incoming.size + len(data) > LIMIT:
            raise self._malformed(f"they are more than {LIMIT} bytes")
        self._incoming.write(data)

    def read(self) -> tuple[Exported[memoryview], ...]:
        """Read what came in, once all of it did; nothing is kept yet. Raises what `malformed` makes."""
        found: list[Exported[memoryview]] = []
        try:
            mapped = memoryview(mmap.mmap(self._incoming.fd, self._incoming.size, access=mmap.ACCESS_READ))
            for it in nix_export.read_archives(mapped):
                found.append(it)
                if len(found) > MAX_PATHS:
                    raise self._malformed(f"they are more than {MAX_PATHS}")
        except ValueError as error:
            raise self._malformed(f"they can't be read: {str(error)[:300]}") from error
        return tuple(found)

    def keep(self, archive: memoryview) -> Digest:
        """Keep one of the archives."""
        incoming = self._store.receive()
        try:
            for begin in range(0, len(archive), _CHUNK):
                incoming.write(bytes(archive[begin : begin + _CHUNK]))
            return incoming.keep()
        finally:
            incoming.discard()
