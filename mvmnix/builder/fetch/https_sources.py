"""Brings sources from https addresses into the store: files by their hash, trees by the hash of their NAR.

What is hashed as a NAR may be the file itself, plain or executable (fetchurl with `executable` or `recursiveHash`), the
tree in an archive (fetchzip, fetchFromGitHub), or a packed NAR (Nix's own fetchurl with `unpack`). The address doesn't
say which, the hash does: what doesn't hash to it is none of them, and gets no name.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final
from urllib.parse import urlsplit

from mvmnix.builder.fetch.https import ChangedError, Downloader
from mvmnix.builder.fetch.parsing import expand
from mvmnix.builder.fetch.registries import Progress
from mvmnix.builder.fetch.unpack import fetchzip
from mvmnix.builder.fetch.worker.packets import Compression
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError, refuse
from mvmnix.formats.nar import nar_hash, nar_of_file
from mvmnix.formats.strict import MalformedError
from mvmnix.model import HashMode, Source
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.system import process
from mvmnix.system.store import Store, chunks

_SCHEMES: Final = ("https://", "http://")
_PACKED: Final = re.compile(r".*\.nar(\.(?P<how>xz|bz2|gz))?")
_HOW: Final = {None: Compression.NONE, "xz": Compression.XZ, "bz2": Compression.BZIP2, "gz": Compression.GZIP}

type _Chunks = Callable[[], Iterator[bytes]]


def is_web(source: Source) -> bool:
    """Whether a source comes from an address of the web; which of them are allowed is the downloader's business."""
    return source.uri.lower().startswith(_SCHEMES)


class Web:
    """One fetch of several sources; `progress` is told by one thread at a time."""

    def __init__(self, downloader: Downloader, store: Store, progress: Progress, bounds: Bounds = Bounds()) -> None:  # noqa: B008 - frozen
        self._downloader = downloader
        self._store = store
        self._progress = progress
        self._bounds = bounds
        self._telling = threading.Lock()

    def refusals(self, sources: Iterable[Source]) -> list[Reason]:
        """Why some of these may not be asked for; nothing is asked yet."""
        reasons: list[Reason] = []
        for source in sources:
            try:
                self._downloader.allowed.admit(source.uri)
            except RefusedError as refused:
                reasons += refused.reasons
        return reasons

    def run(self, sources: Sequence[Source]) -> list[MvmnixError]:
        """Bring them, several at once; returns what went wrong, in the order of the sources."""
        with ThreadPoolExecutor(max(1, min(len(sources), self._downloader.limits.parallel))) as pool:
            try:
                return [error for error in pool.map(self._one, sources) if error is not None]
            except BaseException:
                # interrupted or failed: what runs is cut, what waits is dropped
                pool.shutdown(wait=False, cancel_futures=True)
                self._downloader.close()
                raise

    def _one(self, source: Source) -> MvmnixError | None:
        bring = self._flat if source.mode is HashMode.FLAT else self._nar
        try:
            try:
                size = bring(source)
            except ChangedError:  # a file that changed while it was fetched is fetched once more
                size = bring(source)
        except MvmnixError as error:
            return error
        with self._telling:
            self._progress.advance(source.name, size)
        return None

    def _flat(self, source: Source) -> int:
        incoming = self._store.receive()
        try:
            self._downloader.get(source.uri, incoming.write, written=lambda: incoming.digest.hex)
            if incoming.digest != source.digest:
                raise _mismatch(source, [incoming.digest])
            incoming.keep()
        finally:
            incoming.discard()
        return incoming.size

    def _nar(self, source: Source) -> int:
        with NamedTemporaryFile(prefix="mvmnix-fetch-") as file:
            size = self._downloader.get(source.uri, file.write).size
            file.flush()
            self._keep_what_fits(source, Path(file.name), file.fileno())
        return size

    def _keep_what_fits(self, source: Source, path: Path, fd: int) -> None:
        """Whatever of the file has the wanted hash gets its name. Raises RefusedError [source-mismatch]."""
        seen: list[Digest] = []
        try:
            if any(self._fits(source, one, seen) for one in (*_files(fd), *self._packed(source, fd))):
                return
            with fetchzip(path, self._bounds) as nar:
                if self._fits(source, lambda: chunks(nar.fileno()), seen):
                    return
        except (process.ProcessError, MalformedError) as error:
            raise _mismatch(source, seen, f"; and it can't be unpacked: {_last_words(error)}") from error
        raise _mismatch(source, seen)

    def _packed(self, source: Source, fd: int) -> Iterator[_Chunks]:
        match = _PACKED.fullmatch(urlsplit(source.uri).path)
        if match is not None:
            how, downloader = _HOW[match["how"]], self._downloader
            yield lambda: expand(downloader.lanes, how, chunks(fd), downloader.limits.size)

    def _fits(self, source: Source, candidate: _Chunks, seen: list[Digest]) -> bool:
        digest, _ = nar_hash(candidate())
        seen.append(digest)
        if digest == source.digest:
            self._store.put(candidate(), digest)
        return digest == source.digest


def _files(fd: int) -> Iterator[_Chunks]:
    """The file itself, plain and executable."""
    size = os.fstat(fd).st_size
    for executable in (False, True):
        yield partial(_file, fd, size, executable=executable)


def _file(fd: int, size: int, *, executable: bool) -> Iterator[bytes]:
    return nar_of_file(size, chunks(fd), executable=executable)


def _mismatch(source: Source, found: Sequence[Digest], more: str = "") -> RefusedError:
    hint = "find out who serves it; if it was replaced for a good reason, pin it anew"
    what = " and ".join(digest.sri for digest in found)
    why = f"what was served does not hash to {source.digest.sri}: it is {what}{more}"
    return refuse(ReasonCode.SOURCE_MISMATCH, source.uri, why, hint)


def _last_words(error: Exception) -> str:
    return (error.cause.strip() if isinstance(error, process.ProcessError) else str(error))[:200]
