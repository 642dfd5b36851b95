"""The only starter of the download worker (worker/), one sandboxed program; gives out lanes to processes of it.

1. The worker starts when a lane is opened and none runs. It is given its own code, certificates and a socket of ours:
   no other file, no network, no call that makes or connects a socket (Sandbox.connected).
2. A lane is one process of the worker's, which serves one origin, one stream, or one kind of document. Origins share
   no lane, so a server that has taken over its process sees no other's requests and credentials.
3. What comes from a lane is a packet of a known kind and a bounded size (worker/packets.py), or an error. Descriptors
   aren't received.
"""

import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mvmnix.builder.fetch.resumable import BrokenError, DownloadError
from mvmnix.builder.fetch.worker import packets
from mvmnix.builder.fetch.worker.packets import PacketKind, Work
from mvmnix.errors import MvmnixError
from mvmnix.sandbox.child import Pipe
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.sandbox.trusted_executables import PYTHON
from mvmnix.system import process

_CODE: Final = "/worker"
_INSIDE: Final = f"{_CODE}/{'/'.join(packets.__name__.split('.')[:-1])}"
_CERTIFICATES: Final = "/certificates"
_START: Final = f"""
import sys
sys.path.insert(0, {_CODE!r})
from mvmnix.builder.fetch.worker.serve import main
main(int(sys.argv[1]), sys.argv[2])
"""
_MIB: Final = 1 << 20
#: `memory` is that of each lane: an xz stream may ask for 256 MiB (worker/compression.py).
_BOUNDS: Final = Bounds(seconds=12 * 3600, room=16 * _MIB, memory=1024 * _MIB, output=_MIB)
#: Seconds beyond its own time limits in which a lane has to say something.
_GRACE: Final = 5.0
#: Of a packet that the buffer couldn't hold, or that had descriptors; a number, for flags of an enumeration are slow.
_CUT_OFF: Final = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
#: Seconds until it is clear whether the whole worker has ended, or one lane of it.
_WHOLE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of time.monotonic."""

    end: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """So many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds, not below 0."""
        return max(0.0, self.end - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether it has come."""
        return time.monotonic() >= self.end


class Lane:
    """Our end of a lane, for one thread at a time; `stall` is the most seconds that its work waits for a byte."""

    def __init__(self, key: object, end: socket.socket, worker: "_Worker", stall: float) -> None:
        self.key = key
        self._end, self._worker, self._quiet = end, worker, stall + _GRACE
        self._buffer = bytearray(packets.PIECE_BYTES + 1)
        self._view = memoryview(self._buffer)
        self._connection: socket.socket | None = None

    @property
    def is_over(self) -> bool:
        """Whether its worker has ended, or is about to."""
        return self._worker.is_over

    def send(self, kind: PacketKind, content: bytes | memoryview = b"") -> None:
        """Send a packet. Raises BrokenError."""
        self._end.settimeout(self._quiet)
        try:
            packets.send(self._end, kind, content)
        except OSError as error:
            raise self._worker.why_ended() from error

    def send_all(self, data: bytes) -> None:
        """Send DATA, and END. Raises BrokenError."""
        self._end.settimeout(self._quiet)
        try:
            packets.send_all(self._end, data)
        except OSError as error:
            raise self._worker.why_ended() from error

    def connect(self, connection: socket.socket, *texts: bytes) -> None:
        """Send a connection, which is cut with the lane. Raises BrokenError."""
        self._cut_connection()
        self._connection = connection
        content = bytes((PacketKind.CONNECTION,)) + packets.pack(*texts)
        try:
            socket.send_fds(self._end, [content], [connection.fileno()])
        except OSError as error:
            raise self._worker.why_ended() from error

    def receive(self, deadline: Deadline | None = None) -> tuple[PacketKind, memoryview]:
        """The next packet; its content is valid until the one after it. Raises BrokenError, DownloadError."""
        seconds = self._quiet
        if deadline is not None:
            if deadline.is_over:  # a server that sends a packet each moment would have no end otherwise
                raise BrokenError("the time for this download is over")
            seconds = min(seconds, deadline.left + 0.001)
        self._end.settimeout(seconds)
        try:
            size, _, flags, _ = self._end.recvmsg_into([self._buffer])
        except TimeoutError as error:
            raise BrokenError(f"the download worker says nothing for {seconds:.0f} seconds") from error
        except OSError as error:
            raise self._worker.why_ended() from error
        if size == 0:
            raise self._worker.why_ended()
        # 3. packets
        if flags & _CUT_OFF:
            raise lied("a packet that is too large, or has descriptors")
        try:
            return PacketKind(self._buffer[0]), self._view[1:size]
        except ValueError as error:
            raise lied("a packet of an unknown kind") from error

    def cut(self) -> None:
        """End what another thread waits for on it."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up. A second call does nothing."""
        self._end.close()
        self._cut_connection()

    def _cut_connection(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
            self._connection.close()
            self._connection = None


class Lanes:
    """The lanes of one downloader, and the worker behind them; safe for many threads."""

    def __init__(self, bundle: str, *, stall: float, idle: int) -> None:
        """`bundle` is a file of certificates, "" for the system's; so many `idle` lanes are kept."""
        self._bundle, self._stall, self._most = bundle, stall, idle
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._idle: list[Lane] = []
        self._busy: set[Lane] = set()
        self._closed = False

    def take(self, key: object, work: Work, *texts: bytes) -> Lane:
        """A lane that was given back under this key, or a new one. Raises BrokenError, MvmnixError."""
        with self._lock:
            if self._closed:
                raise BrokenError("the downloader is closed")
            lane = next((one for one in reversed(self._idle) if one.key == key and not one.is_over), None)
            if lane is not None:
                self._idle.remove(lane)
            else:
                lane = self._open(key, work, texts)
            self._busy.add(lane)
            return lane

    def give_back(self, lane: Lane) -> None:
        """It has done what it was asked, and may be asked again."""
        with self._lock:
            self._busy.discard(lane)
            kept = [one for one in (*self._idle, lane) if not one.is_over][-self._most :]
            surplus = {*self._idle, lane}.difference(kept)
            self._idle = kept
        for one in surplus:
            one.close()

    def drop(self, lane: Lane) -> None:
        """Nothing more is asked of it."""
        with self._lock:
            self._busy.discard(lane)
        lane.close()

    def close(self) -> None:
        """End what runs, and the worker; there are no more lanes."""
        with self._lock:
            self._closed = True
            for lane in self._busy:
                lane.cut()
        self.rest()

    def rest(self) -> None:
        """End the worker, and the thread that waits for it; the next lane starts another."""
        with self._lock:
            idle, self._idle = self._idle, []
            worker, self._worker = self._worker, None
        for lane in idle:
            lane.close()
        if worker is not None:
            worker.close()

    def _open(self, key: object, work: Work, texts: Sequence[bytes]) -> Lane:
        # 1. one worker
        if self._worker is None or self._worker.is_over:
            if self._worker is not None:
                self._worker.close()
            self._worker = _Worker(self._bundle)
        # 2. one process
        ours, theirs = packets.pair()
        with theirs:
            try:
                self._worker.ask(packets.pack(work.value, *texts), theirs)
            except OSError as error:
                ours.close()
                raise self._worker.why_ended() from error
        return Lane(key, ours, self._worker, self._stall)


class _Worker:
    """The worker, from its start to its end."""

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle
        self._ours, self._theirs = packets.pair()
        self._cancel = Pipe()
        self._over = threading.Event()
        self._closed = False
        self._error: MvmnixError | None = None
        self._thread = threading.Thread(target=self._run, name="mvm-download-worker", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return self._closed or self._over.is_set()

    def ask(self, lane: bytes, end: socket.socket) -> None:
        socket.send_fds(self._ours, [lane], [end.fileno()])

    def why_ended(self) -> Exception:
        """What to raise where it, or a lane of it, is gone: BrokenError, or MvmnixError where it never started."""
        self._over.wait(_WHOLE)
        error = self._error
        if error is None:
            return BrokenError("the download worker broke off")
        if not isinstance(error, process.ProcessError):
            return error
        broken = BrokenError(f"the download worker ended with status {error.done.status}: {error.cause.strip()}")
        broken.__cause__ = error
        return broken

    def close(self) -> None:
        self._closed = True
        self._ours.close()
        self._cancel.close(self._cancel.writing)
        self._thread.join()
        self._cancel.close()

    def _run(self) -> None:
        fd = self._theirs.fileno()
        files = {_INSIDE: Path(packets.__file__).parent}
        bundle = _CERTIFICATES if self._bundle else ""
        if bundle:
            files[bundle] = Path(self._bundle)
        sandbox = Sandbox(files, {}, None, (fd,), _BOUNDS, self._cancel.reading, connected=True)
        try:
            sandbox.run(PYTHON, "-I", "-S", "-c", _START, str(fd), bundle)
        except MvmnixError as error:
            self._error = error
        finally:
            self._over.set()
            self._theirs.close()  # with it, the ends of lanes that it has not taken


def lied(what: str) -> DownloadError:
    """The worker said what it never does by itself."""
    hint = "a server may have taken it over: look at what was fetched, and from where"
    return DownloadError(f"the download worker answers with {what}", hint=hint)
