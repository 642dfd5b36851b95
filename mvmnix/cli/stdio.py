"""Hands standard streams to a command in a machine, guards the terminal, and waits without missing a signal."""

import os
import select
import signal
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from mvmnix.api import Stream
from mvmnix.cli.output import shape
from mvmnix.errors import MvmnixError

_CHUNK: Final = 65536
_NULL: Final = os.makedev(1, 3)


def _ignore(data: bytes) -> None:
    """For a caller that doesn't look at what is typed."""


@dataclass
class StreamBridge:
    """Pipes for a command's streams, and the threads that stand between those and what isn't a pipe."""

    pipes: Mapping[Stream, int]
    _theirs: list[int] = field(default_factory=list)
    _pumps: list[threading.Thread] = field(default_factory=list)
    _failures: list[OSError] = field(default_factory=list)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams that there are pipes for."""
        return tuple(self.pipes)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The pipes, in the same order."""
        return tuple(self.pipes.values())

    def release(self) -> None:
        """Close the ends that are the command's."""
        while self._theirs:
            os.close(self._theirs.pop())

    def begin(self) -> None:
        """The descriptors were sent: let the bytes flow."""
        self.release()
        for pump in self._pumps:
            pump.start()

    def finish(self) -> None:
        """Wait until what the guest said is shown. Raises MvmnixError where it could not be written."""
        for pump in self._pumps:
            if pump.ident is not None and not pump.daemon:
                pump.join()
        for error in self._failures:
            hint = "check the place that the output was sent to"
            raise MvmnixError(f"the command's output can't be written: {error.strerror}", hint=hint) from error


@contextmanager
def bridged_streams(
    streams: tuple[Stream, ...], *, raw: bool, typed: Callable[[bytes], None] = _ignore
) -> Iterator[StreamBridge]:
    """Pipes for a command, whose `begin` is to be called once they were sent; `typed` sees what is typed.

    A pipe goes as it is, and the guest's bytes don't pass through this process. Between the guest and anything else
    this process stands: it escapes what a terminal shows, and what stands still holds up nothing else. An input that
    has nothing (null(4)) is none.
    """
    theirs, pumps, pipes, failures = list[int](), list[threading.Thread](), dict[Stream, int](), list[OSError]()
    with ExitStack() as ours:
        for stream in streams:
            number = tuple(Stream).index(stream)
            if stream is Stream.STDIN and _is_null(number):
                continue
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                pipes[stream] = number
                continue
            reading, writing = os.pipe()
            mine, their = (writing, reading) if stream is Stream.STDIN else (reading, writing)
            theirs.append(their)
            pipes[stream] = their
            out = partial(_pump_out, raw=raw, failed=failures.append)
            target = partial(_pump_in, typed=typed) if stream is Stream.STDIN else out
            # a thread that reads a terminal may wait for input that never comes
            pumps.append(threading.Thread(target=target, args=(mine, number), daemon=stream is Stream.STDIN))
        bridge = StreamBridge(pipes, theirs, pumps, failures)
        ours.callback(bridge.release)
        yield bridge
    bridge.finish()


def _is_null(number: int) -> bool:
    status = os.fstat(number)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL


def _pump_in(mine: int, number: int, *, typed: Callable[[bytes], None]) -> None:
    with os.fdopen(mine, "wb", buffering=0) as file:
        while data := _read(number):
            typed(data)
            try:
                file.write(data)
            except BrokenPipeError:
                return


def _read(number: int) -> bytes:
    try:
        return os.read(number, _CHUNK)
    except OSError:  # the terminal hung up
        return b""


def _pump_out(mine: int, number: int, *, raw: bool, failed: Callable[[OSError], None]) -> None:
    shown = shape(terminal=os.isatty(number), raw=raw) or bytes
    with os.fdopen(mine, "rb", buffering=0) as file:
        try:
            for chunk in iter(lambda: file.read(_CHUNK), b""):
                view = memoryview(shown(chunk))
                while view:
                    view = view[os.write(number, view) :]
        except BrokenPipeError:  # its reader left
            return
        except OSError as error:
            failed(error)


@contextmanager
def attentive() -> Iterator[Callable[[int], None]]:
    """What returns once a descriptor can be read, and runs the handlers of signals whenever they come.

    A signal between the last instruction and the system call would only be heard with the next one; here it rings a
    bell that is waited for as well (signal.set_wakeup_fd). In the main thread only, which runs the handlers.
    """
    bell, rope = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    previous = signal.set_wakeup_fd(rope, warn_on_full_buffer=False)

    def attend(fd: int) -> None:
        poll = select.poll()
        for each in (bell, fd):
            poll.register(each, select.POLLIN)
        while True:
            ready = {each for each, _ in poll.poll()}
            if bell in ready:
                os.read(bell, 4096)  # its handler has been called, or is before the next instruction
            if fd in ready:
                return

    try:
        yield attend
    finally:
        signal.set_wakeup_fd(previous)
        os.close(bell)
        os.close(rope)
