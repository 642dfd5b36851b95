"""Takes the archive that comes out of the builder VM apart, as a stream: regular files of expected names, nothing else.

POSIX.1-1988 ustar, as `tar --format=ustar` writes it. What the format can say beyond that (links, devices, sparse
files, extended headers, absolute names) is refused at the header, before a byte of it is read. Nothing is mounted.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.model import Artifact

BLOCK = 512
#: Bytes of zeros behind the end that are still read; tar pads to twenty blocks.
_PADDING = 1 << 20


class Receiver(Protocol):
    """Where one file of the archive goes."""

    def write(self, data: bytes) -> None:
        """Take more bytes of it."""

    def close(self) -> None:
        """It is complete."""


def builder_output(why: str) -> RefusedError:
    """The refusal of what came out of the builder VM."""
    hint = "the builder's output is not an image; see the build log, and build it with mkGuest"
    return refuse(ReasonCode.OUTPUT_MALFORMED, "builder output", why, hint)


class ArchiveReader:
    """Feed it the stream; it opens a receiver for each file in `limits`, which holds the largest size of each.

    All of them have to come but those in `optional`; `refused` makes the refusal that is raised.
    """

    def __init__(
        self,
        limits: Mapping[str, int],
        receive: Callable[[str], Receiver],
        *,
        optional: Collection[str] = (),
        refused: Callable[[str], RefusedError] = builder_output,
    ) -> None:
        self._limits = dict(limits)
        self._receive = receive
        self._optional = frozenset(optional)
        self._refused = refused
        self._head = bytearray()
        self._file: Receiver | None = None
        self._left = 0
        self._padding = 0
        self._ended = False
        self._after = 0

    def expect(self, artifact: Artifact) -> None:
        """Take this file, which is still to come, only in its size or less."""
        if artifact.name in self._limits:
            self._limits[artifact.name] = min(artifact.size, self._limits[artifact.name])

    def write(self, data: bytes) -> None:
        """Take more of the stream. Raises RefusedError, OUTPUT_MALFORMED unless another was chosen."""
        view = memoryview(data)
        while view:
            view = self._step(view)

    def close(self) -> None:
        """The stream has ended. Raises RefusedError when a file is missing or torn."""
        if self._file is not None or self._head or not self._ended:
            raise self._refused("it ends in the middle of a file")
        if missing := self._limits.keys() - self._optional:
            raise self._refused(f"it lacks {', '.join(sorted(missing))}")

    def _step(self, view: memoryview) -> memoryview:
        if self._ended:
            self._after += len(view)
            if self._after > _PADDING or any(view):
                raise self._refused("something follows its end")
            return view[len(view) :]
        if self._file is not None:
            return self._body(view, self._file)
        if self._padding:
            skipped = min(self._padding, len(view))
            self._padding -= skipped
            return view[skipped:]
        taken = min(BLOCK - len(self._head), len(view))
        self._head += view[:taken]
        if len(self._head) == BLOCK:
            self._header(bytes(self._head))
            self._head.clear()
        return view[taken:]

    def _body(self, view: memoryview, file: Receiver) -> memoryview:
        taken = min(self._left, len(view))
        file.write(bytes(view[:taken]))
        self._left -= taken
        if self._left == 0:
            file.close()
            self._file = None
        return view[taken:]

    def _header(self, head: bytes) -> None:
        if not any(head):
            self._ended = True
            return
        if sum(head[:148]) + 8 * 32 + sum(head[156:]) != self._octal(head[148:156], "a checksum"):
            raise self._refused("a header's checksum is wrong")
        name = head[:100].rstrip(b"\0").decode("ascii", "replace")
        if head[257:263] != b"ustar\0" or any(head[345:500]) or head[156:157] != b"0":
            raise self._refused(f"{name!r} is not a plain file in ustar format")
        if name not in self._limits:
            raise self._refused(f"{name!r} is not expected, or is listed twice")
        size = self._octal(head[124:136], "a size")
        file = self._receive(name)  # which may lower the limit
        if size > self._limits.pop(name):
            raise self._refused(f"{name!r} is larger than allowed: {size} bytes")
        self._file, self._left, self._padding = file, size, -size % BLOCK
        if size == 0:
            self._body(memoryview(b""), self._file)

    def _octal(self, field: bytes, what: str) -> int:
        digits = field.rstrip(b"\0 ")
        if not digits or any(byte not in b"01234567" for byte in digits):
            raise self._refused(f"{what} is not an octal number")
        return int(digits, 8)
