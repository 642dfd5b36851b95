"""`mvm cp`: copies files and directories into and out of a running machine whose plan grants that."""

import os
import posixpath
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import click

from mvmnix.api.machine_store import open_machine_store
from mvmnix.cli.telling import MIB, TERMINAL, notice
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.launch.channel.commands import ExitStatus
from mvmnix.launch.channel.stream_frames import End
from mvmnix.launch.channel.verbs import Way
from mvmnix.launch.control.client import Call, call
from mvmnix.launch.control.messages import Copy, Stream
from mvmnix.launch.copies import tarball
from mvmnix.launch.copies.pack import Pack
from mvmnix.launch.copies.records import Limits, Reader
from mvmnix.launch.copies.tarball import TarWriter
from mvmnix.launch.copies.unpack import Unpack
from mvmnix.state import Directory

_CHUNK: Final = 65536
#: Bytes of a guest's complaint that are shown.
_LONGEST: Final = 600
_MOST_NAMES: Final = 5
#: MACHINE:PATH; what begins with a dot or a slash is a path of this host.
_REMOTE: Final = re.compile(r"(?s)([A-Za-z0-9][A-Za-z0-9._-]*):(.*)")


@dataclass(frozen=True, slots=True)
class _How:
    """What was said besides source and destination."""

    force: bool
    leave_out: bool
    limits: Limits


@click.command("cp")
@click.argument("source")
@click.argument("destination")
@click.option("--force", "-f", is_flag=True, help="Replace a file that is in the way, by a file. Default: refuse.")
@click.option("--leave-out", is_flag=True, help="Leave out links, devices and the like. Default: refuse.")
@click.option(
    "--limit-mib", default=1024, show_default=True, type=click.IntRange(1, 2**30), help="Most that is copied, in MiB."
)
def cp(source: str, destination: str, *, force: bool, leave_out: bool, limit_mib: int) -> None:
    """Copy a file or directory from MACHINE:PATH to a path here, or the other way, if its plan grants the verb copy.

    Into a directory that is there, it goes under its own name. `-` here is a tar stream: on standard output, or
    on standard input, of a directory that PATH is to be the name of. Links are not followed; modes are kept but for
    setuid and its like. A relative PATH begins at the plan's directory. Exit codes: 1 it couldn't be copied; 125 mvm
    failed; 126 refused.
    """
    if not destination or not source or source.endswith(":") or destination.endswith(":"):
        raise UsageError("a path is missing", hint="MACHINE:/the/path")
    how = _How(force, leave_out, Limits(size=limit_mib * MIB))
    match _REMOTE.fullmatch(source), _REMOTE.fullmatch(destination):
        case re.Match() as there, None:
            skipped = _copied_out(there[1], there[2], destination, how)
        case None, re.Match() as there:
            skipped = _copied_in(source, there[1], there[2], how)
        case _:
            raise UsageError("one of the two is MACHINE:PATH", hint="a path of this host may begin with ./")
    if skipped:
        names = ", ".join(name.replace("\n", "\\n") for name in skipped[:_MOST_NAMES])
        more = "" if len(skipped) <= _MOST_NAMES else " and others"
        notice(f"left out, as neither files nor directories: {len(skipped)}: {names}{more}")


def _copied_out(machine: str, path: str, destination: str, how: _How) -> list[str]:
    name = os.fsencode(posixpath.basename(posixpath.normpath(path)))
    asked = Copy(Way.OUT, path, streams=(Stream.STDOUT, Stream.STDERR))
    if destination == "-":
        if os.isatty(1):
            raise UsageError("a tar stream is nothing for a terminal", hint="send it into a file or a pipe")
        writer = TarWriter(sys.stdout.buffer.write, name.strip(b"/") or b"root", leaves_out=how.leave_out)
        with open_machine_store(TERMINAL) as here:
            _receive(here, machine, asked, Reader(writer, how.limits))
        writer.commit()
        sys.stdout.buffer.flush()
        return writer.skipped
    with (
        open_machine_store(TERMINAL) as here,
        Unpack(Path(destination), name, replaces=how.force, leaves_out=how.leave_out) as target,
    ):
        _receive(here, machine, asked, Reader(target, how.limits))
        target.commit()
        return target.skipped


def _receive(here: Directory, machine: str, asked: Copy, reader: Reader) -> None:
    with _pipe() as data, _Complaint() as complaint, call(here, machine, asked, (data.theirs, complaint.theirs)) as it:
        data.let_go()
        complaint.let_go()
        while chunk := os.read(data.ours, _CHUNK):
            reader.write(chunk)
        _judge(it.wait(), complaint)
        reader.close()


def _copied_in(source: str, machine: str, path: str, how: _How) -> list[str]:
    pack = Pack(how.limits, how.leave_out)
    if source == "-":
        name, chunks = "", tarball.chunks(sys.stdin.buffer, pack)
    else:
        name = posixpath.basename(os.path.abspath(source))  # noqa: PTH100 - links stay what they are
        chunks = pack.chunks(Path(source))
    asked = Copy(Way.IN, path, name, how.force, streams=(Stream.STDIN, Stream.STDERR))
    with (
        open_machine_store(TERMINAL) as here,
        _pipe(writes=True) as data,
        _Complaint() as complaint,
        call(here, machine, asked, (data.theirs, complaint.theirs)) as it,
    ):
        data.let_go()
        complaint.let_go()
        _send(it, data, chunks)
        _judge(it.wait(), complaint)
    return pack.skipped


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


def _judge(status: ExitStatus, complaint: "_Complaint") -> None:
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

    def let_go(self) -> None:
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
class _Complaint:
    """What the guest says on standard error: read to its end, so that it holds up nothing; the beginning is kept."""

    _said: bytearray = field(default_factory=bytearray)
    theirs: int = -1

    def __enter__(self) -> Self:
        reading, self.theirs = os.pipe()
        self._thread = threading.Thread(target=self._listen, args=(reading,))
        self._thread.start()
        return self

    def let_go(self) -> None:
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
        self.let_go()
