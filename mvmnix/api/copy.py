"""Copies files and directories into and out of running machines whose plans grant that."""

import os
import posixpath
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Self

from mvmnix.errors import MvmnixError
from mvmnix.launch.agent.commands import ExitStatus
from mvmnix.launch.agent.requests import CopyDirection
from mvmnix.launch.agent.stream_frames import End
from mvmnix.launch.control.client import Call, call
from mvmnix.launch.control.messages import Copy, Stream
from mvmnix.launch.copy import tarball
from mvmnix.launch.copy.pack import Pack
from mvmnix.launch.copy.records import CopyLimits, Reader
from mvmnix.launch.copy.tarball import TarWriter
from mvmnix.launch.copy.unpack import Unpack
from mvmnix.system.private_dirs import Directory

_CHUNK: Final = 65536
#: Bytes of a guest's complaint that are kept.
_LONGEST: Final = 600
_MIB: Final = 1 << 20
_IN: Final = (Stream.STDIN, Stream.STDERR)
_OUT: Final = (Stream.STDOUT, Stream.STDERR)


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """How to copy: replace a file that is there, leave out links and devices, and at most so many MiB.

    Without `force` and `leave_out` a copy that meets these is refused.
    """

    force: bool = False
    leave_out: bool = False
    limit_mib: int = 1024

    @property
    def limits(self) -> CopyLimits:
        """The bounds of the records."""
        return CopyLimits(size=self.limit_mib * _MIB, leaves_out=self.leave_out)


_REFUSE_ALL: Final = CopyOptions()


def copy_out(
    machines: Directory, machine: str, path: str, destination: Path, options: CopyOptions = _REFUSE_ALL
) -> list[str]:
    """Copy a file or directory of the machine with this id or name to the host; returns the names that were left out.

    What is not complete is removed. Raises RefusedError [copy-refused], UsageError for what is in the way, MvmnixError
    with exit code 1 where the guest can't read it.
    """
    with Unpack(destination, _name(path), replaces=options.force) as target:
        reader = Reader(target, options.limits)
        _receive(machines, machine, path, reader)
        target.commit()
        return reader.skipped


def copy_out_tar(
    machines: Directory,
    machine: str,
    path: str,
    write: Callable[[bytes], object],
    options: CopyOptions = _REFUSE_ALL,
) -> list[str]:
    """The same as a tar stream, handed to `write` piece by piece."""
    writer = TarWriter(write, _name(path).strip(b"/") or b"root")
    reader = Reader(writer, options.limits)
    _receive(machines, machine, path, reader)
    writer.commit()
    return reader.skipped


def copy_in(
    machines: Directory, source: Path, machine: str, path: str, options: CopyOptions = _REFUSE_ALL
) -> list[str]:
    """Copy a file or directory of the host into the machine with this id or name; returns the names left out.

    Raises as `copy_out` does.
    """
    pack = Pack(options.limits)
    name = posixpath.basename(os.path.abspath(source))  # noqa: PTH100 - links stay what they are
    return _send_all(
        machines, machine, Copy(CopyDirection.IN, path, name, options.force, streams=_IN), pack, pack.chunks(source)
    )


def copy_in_tar(
    machines: Directory, source: BinaryIO, machine: str, path: str, options: CopyOptions = _REFUSE_ALL
) -> list[str]:
    """The same of a tar stream, whose directory gets the name `path`."""
    pack = Pack(options.limits)
    asked = Copy(CopyDirection.IN, path, "", options.force, streams=_IN)
    return _send_all(machines, machine, asked, pack, tarball.chunks(source, pack))


def _name(path: str) -> bytes:
    return os.fsencode(posixpath.basename(posixpath.normpath(path)))


def _send_all(machines: Directory, machine: str, asked: Copy, pack: Pack, chunks: Iterable[bytes]) -> list[str]:
    with (
        _pipe(writes=True) as data,
        _GuestErrors() as complaint,
        call(machines, machine, asked, (data.theirs, complaint.theirs)) as it,
    ):
        data.release()
        complaint.release()
        _send(it, data, chunks)
        _judge(it.wait(), complaint)
    return pack.skipped


def _receive(machines: Directory, machine: str, path: str, reader: Reader) -> None:
    asked = Copy(CopyDirection.OUT, path, streams=_OUT)
    with (
        _pipe() as data,
        _GuestErrors() as complaint,
        call(machines, machine, asked, (data.theirs, complaint.theirs)) as it,
    ):
        data.release()
        complaint.release()
        while chunk := os.read(data.ours, _CHUNK):
            reader.write(chunk)
        _judge(it.wait(), complaint)
        reader.close()


def _send(it: Call, data: "_Pipe", chunks: Iterable[bytes]) -> None:
    """Give it the records; when there is something wrong with them, it hears of no end, and cleans up."""
    try:
        for chunk in chunks:
            _write(data.ours, chunk)
    except BrokenPipeError:
        return  # it says itself why
    except BaseException:
        data.close()
        with suppress(MvmnixError):
            it.wait()
        raise
    finally:
        data.close()


def _write(fd: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(fd, view) :]


def _judge(status: ExitStatus, complaint: "_GuestErrors") -> None:
    if status.exit_code == 0:
        return
    why = complaint.words() if status.end is End.EXITED else f"it {status}"
    hint = "it copies as the plan's user; look at the path there"
    error = MvmnixError(f"the guest could not copy it: {why}", hint=hint)
    error.exit_code = 1 if status.end is End.EXITED else status.exit_code
    raise error


@dataclass
class _Pipe:
    """A pipe, one end of which is the machine's."""

    ours: int
    theirs: int

    def release(self) -> None:
        """The machine has it."""
        os.close(self.theirs)
        self.theirs = -1

    def close(self) -> None:
        """Whatever is open of it."""
        for fd in (self.ours, self.theirs):
            if fd >= 0:
                os.close(fd)
        self.ours = self.theirs = -1


@contextmanager
def _pipe(*, writes: bool = False) -> Iterator[_Pipe]:
    reading, writing = os.pipe()
    made = _Pipe(writing, reading) if writes else _Pipe(reading, writing)
    try:
        yield made
    finally:
        made.close()


@dataclass
class _GuestErrors:
    """What the guest says on standard error: read to its end, so that it holds up nothing; the beginning is kept."""

    _said: bytearray = field(default_factory=bytearray)
    theirs: int = -1

    def __enter__(self) -> Self:
        reading, self.theirs = os.pipe()
        self._thread = threading.Thread(target=self._listen, args=(reading,))
        self._thread.start()
        return self

    def release(self) -> None:
        """The machine has it."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    def words(self) -> str:
        """What was said, once it has ended."""
        self._thread.join()
        return bytes(self._said).decode(errors="backslashreplace").strip() or "it doesn't say why"

    def _listen(self, reading: int) -> None:
        while data := os.read(reading, _CHUNK):
            self._said += data[: _LONGEST - len(self._said)]
        os.close(reading)

    def __exit__(self, *_: object) -> None:
        self.release()
