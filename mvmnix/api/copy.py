"""Copies files and directories into and out of running machines whose plans grant that."""

import os
import posixpath
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final

from mvmnix.api.calls import Call, call
from mvmnix.errors import MvmnixError
from mvmnix.launch.agent.operations import CopyDirection
from mvmnix.launch.control.messages import Copy, Stream
from mvmnix.launch.copy import tarball
from mvmnix.launch.copy.pack import Pack
from mvmnix.launch.copy.records import CopyLimits, Reader
from mvmnix.launch.copy.tarball import TarWriter
from mvmnix.launch.copy.unpack import Unpack
from mvmnix.machines.exit_status import End, ExitStatus
from mvmnix.system.private_dirs import Directory

_CHUNK: Final = 65536
#: Bytes of a guest's complaint that are kept.
_LONGEST: Final = 600
_MIB: Final = 1 << 20
_IN: Final = (Stream.STDIN, Stream.STDERR)
_OUT: Final = (Stream.STDOUT, Stream.STDERR)


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """What a copy does with existing files, links and devices, and how large it may be."""

    replaces: bool = True
    """Replace a regular file at the destination; otherwise it is refused."""
    force: bool = False
    """Replace a link or a device too, on this host."""
    leave_out: bool = False
    """Leave links and devices out of the copy; otherwise they are refused."""
    limit_mib: int = 1024
    """Upper bound of the copy, in MiB."""

    @property
    def limits(self) -> CopyLimits:
        """The bounds of the records."""
        return CopyLimits(size=self.limit_mib * _MIB, leaves_out=self.leave_out)


_DEFAULT: Final = CopyOptions()


def copy_out(
    machines: Directory, machine: str, path: str, destination: Path, options: CopyOptions = _DEFAULT
) -> list[str]:
    """Copy a file or directory of the machine with this id or name to the host; returns the names that were left out.

    What is not complete is removed. Raises RefusedError [copy-refused], UsageError for what is in the way, MvmnixError
    with exit code 1 where the guest can't read it.
    """
    with Unpack(destination, _name(path), replaces=options.replaces, forces=options.force) as target:
        reader = Reader(target, options.limits)
        _receive(machines, machine, path, reader)
        target.commit()
        return reader.skipped


def copy_out_tar(
    machines: Directory,
    machine: str,
    path: str,
    write: Callable[[bytes], object],
    options: CopyOptions = _DEFAULT,
) -> list[str]:
    """The same as a tar stream, handed to `write` piece by piece."""
    writer = TarWriter(write, _name(path).strip(b"/") or b"root")
    reader = Reader(writer, options.limits)
    _receive(machines, machine, path, reader)
    writer.commit()
    return reader.skipped


def copy_in(machines: Directory, source: Path, machine: str, path: str, options: CopyOptions = _DEFAULT) -> list[str]:
    """Copy a file or directory of the host into the machine with this id or name; returns the names left out.

    Raises as `copy_out` does.
    """
    pack = Pack(options.limits)
    name = posixpath.basename(os.path.abspath(source))  # noqa: PTH100 - links stay what they are
    return _send_all(
        machines, machine, Copy(CopyDirection.IN, path, name, options.replaces, streams=_IN), pack, pack.chunks(source)
    )


def copy_in_tar(
    machines: Directory, source: BinaryIO, machine: str, path: str, options: CopyOptions = _DEFAULT
) -> list[str]:
    """The same of a tar stream, whose directory gets the name `path`."""
    pack = Pack(options.limits)
    asked = Copy(CopyDirection.IN, path, "", options.replaces, streams=_IN)
    return _send_all(machines, machine, asked, pack, tarball.chunks(source, pack))


def _name(path: str) -> bytes:
    return os.fsencode(posixpath.basename(posixpath.normpath(path)))


def _send_all(machines: Directory, machine: str, asked: Copy, pack: Pack, chunks: Iterable[bytes]) -> list[str]:
    with _started(machines, machine, asked) as (it, records, complaint):
        _send(it, records, chunks)
        _judge(it.wait(), complaint)
    return pack.skipped


def _receive(machines: Directory, machine: str, path: str, reader: Reader) -> None:
    asked = Copy(CopyDirection.OUT, path, streams=_OUT)
    with _started(machines, machine, asked) as (it, records, complaint):
        while chunk := records.read(_CHUNK):
            reader.write(chunk)
        _judge(it.wait(), complaint)
        reader.close()


def _send(it: Call, records: FileIO, chunks: Iterable[bytes]) -> None:
    """Give it the records; when there is something wrong with them, it hears of no end, and cleans up."""
    try:
        for chunk in chunks:
            _write(records, chunk)
    except BrokenPipeError:
        return  # it says itself why
    except BaseException:
        records.close()
        with suppress(MvmnixError):
            it.wait()
        raise
    finally:
        records.close()


def _write(file: FileIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]


def _judge(status: ExitStatus, complaint: "_GuestErrors") -> None:
    if status.exit_code == 0:
        return
    why = complaint.words() if status.end is End.EXITED else f"it {status}"
    hint = "it copies as the plan's user; look at the path there"
    error = MvmnixError(f"the guest could not copy it: {why}", hint=hint)
    error.exit_code = 1 if status.end is End.EXITED else status.exit_code
    raise error


def _pipe() -> tuple[FileIO, FileIO]:
    reading, writing = os.pipe()
    return FileIO(reading, "rb"), FileIO(writing, "wb")


@contextmanager
def _started(machines: Directory, machine: str, asked: Copy) -> Iterator[tuple[Call, FileIO, "_GuestErrors"]]:
    """A copy that the machine works on, our end of the pipe for its records, and what the guest says."""
    reading, writing = _pipe()
    ours, theirs = (writing, reading) if asked.way is CopyDirection.IN else (reading, writing)
    complaint, stderr = _pipe()
    with ours, theirs, stderr:
        errors = _GuestErrors(complaint)
        with call(machines, machine, asked, (theirs.fileno(), stderr.fileno())) as it:
            theirs.close()
            stderr.close()
            yield it, ours, errors


class _GuestErrors:
    """What the guest says on standard error: read to its end, so that it holds up nothing; the beginning is kept."""

    def __init__(self, pipe: FileIO) -> None:
        self._said = bytearray()
        self._thread = threading.Thread(target=self._listen, args=(pipe,))
        self._thread.start()

    def words(self) -> str:
        """What was said, once it has ended."""
        self._thread.join()
        return bytes(self._said).decode(errors="backslashreplace").strip() or "it doesn't say why"

    def _listen(self, pipe: FileIO) -> None:
        with pipe:
            while data := pipe.read(_CHUNK):
                self._said += data[: _LONGEST - len(self._said)]
