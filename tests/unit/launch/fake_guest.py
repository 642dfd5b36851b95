"""A working guest agent in Python on a thread, for tests of whatever talks to one; no process, no virtual machine."""

import errno
import os
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from mvmnix.launch.agent.frames import (
    INITIAL_WINDOW,
    PROTOCOL_VERSION,
    Bye,
    Config,
    Frame,
    FrameKind,
    Freeze,
    Frozen,
    Hello,
    NotFrozen,
    Ping,
    Pong,
    Ready,
    Shutdown,
    Thaw,
    Thawed,
    Time,
)
from mvmnix.launch.agent.operations import CopyDirection
from mvmnix.launch.agent.requests import CopyRequest, FilesRequest, GuestConfig, ShellRequest
from mvmnix.launch.agent.stream_frames import (
    Copy,
    Data,
    Eof,
    Exec,
    Exit,
    Files,
    Open,
    Reset,
    Resize,
    Run,
    Shell,
    Signal,
    Started,
    Stderr,
    Stdin,
    Stdout,
    Window,
)
from mvmnix.launch.agent.transport import encode
from mvmnix.launch.copy.records import CopyKind as Copied
from mvmnix.launch.copy.records import record_head
from mvmnix.machines.exit_status import End, Step
from mvmnix.model import Workload
from tests.unit.launch.fake_files import FakeFiles
from tests.unit.launch.host_frames import HostDecoder

#: What a fake program does: its workload and all of its standard input in; output, error output and status out.
type Program = Callable[[Workload, bytes], tuple[bytes, bytes, int]]

PROGRAMS: dict[str, Program] = {
    "linger": lambda _work, _stdin: (b"", b"", 0),
    "true": lambda _work, _stdin: (b"", b"", 0),
    "false": lambda _work, _stdin: (b"", b"", 1),
    "echo": lambda work, _stdin: (" ".join(work.argv[1:]).encode("utf-8", "surrogateescape") + b"\n", b"", 0),
    "printenv": lambda work, _stdin: (work.environment.get(work.argv[1], "").encode(), b"", 0),
    "id": lambda work, _stdin: (f"{work.user.uid}:{work.user.gid}".encode(), b"", 0),
    "cat": lambda _work, stdin: (stdin, b"", 0),
    "devour": lambda _work, _stdin: (b"", b"", 0),
    "complain": lambda work, _stdin: (b"", " ".join(work.argv[1:]).encode(), 3),
}
_PASSWD = b"root:x:0:0::/:/bin/sh\napp:x:1234:99::/:/bin/sh\n"
#: What there is to be copied out of a fake guest, by its path.
COPIES = {
    "/hello": record_head(Copied.FILE, mode=0o640, size=5) + b"hello" + record_head(Copied.END),
    "/tree": record_head(Copied.DIRECTORY, mode=0o755)
    + record_head(Copied.FILE, b"f", mode=0o644, size=1)
    + b"x"
    + record_head(Copied.LEFT_OUT, b"link\x1b[2J\nmvm: all is well", mode=10)
    + record_head(Copied.LEAVE)
    + record_head(Copied.END),
    "/evil": record_head(Copied.DIRECTORY, mode=0o755)
    + record_head(Copied.FILE, b"up", size=1).replace(b"up", b"..")
    + b"x",
    "/etc/passwd": record_head(Copied.FILE, mode=0o644, size=len(_PASSWD)) + _PASSWD + record_head(Copied.END),
    "/torn": record_head(Copied.FILE, mode=0o644, size=1 << 20) + bytes(1000),
}
_PORTION = 16384
#: What it says of its version: that of an agent that binds disks late and freezes commands.
AGENT: Final = "0.3.0"
#: Of a guest in which nothing is and nothing can be made.
_NO_FILES = Path("/proc/nonexistent")


class Peer:
    """What one guest-opened connection received, and whether the host ended or broke it off."""

    def __init__(self, to_send: bytes) -> None:
        self.to_send = bytearray(to_send)
        self.received = bytearray()
        self.done = threading.Event()
        self.reset = False
        self.credit = INITIAL_WINDOW
        self.sent_eof = self.got_eof = False


class _Process:
    def __init__(self, work: Workload, program: Program, *, is_shell: bool = False) -> None:
        self.work = work
        self.is_shell = is_shell
        self.program = program
        self.stdin = bytearray()
        self.flows: dict[type[Stdout | Stderr], bytearray] = {}
        self.credit = {FrameKind.STDOUT: INITIAL_WINDOW, FrameKind.STDERR: INITIAL_WINDOW}
        self.exit: Exit | None = None


class FakeGuest:
    """Speaks the protocol of docs/reference/channel.md on `sock` until the host hangs up or shuts it down.

    `restored` is the configuration of one that stands frozen, as it was saved; `runs`: the plan's command runs in it.
    """

    def __init__(
        self,
        sock: socket.socket,
        programs: dict[str, Program] | None = None,
        *,
        root: Path = _NO_FILES,
        restored: GuestConfig | None = None,
        runs: bool = True,
    ) -> None:
        #: What file operations see.
        self.files = FakeFiles(root)
        self.config = restored
        self._runs = runs
        #: Whether commands stand, what each THAW said, and why they can't be frozen, where they can't.
        self.is_frozen = restored is not None
        self.thaws: list[Thaw] = []
        self.stays_awake: bytes | None = None
        self.signals: list[int] = []
        self.times: list[int] = []
        self.error: BaseException | None = None
        self._sock = sock
        self._programs = PROGRAMS | (programs or {})
        self._decoder = HostDecoder()
        self._processes: dict[int, _Process] = {}
        self._peers: dict[int, Peer] = {}
        self._wishes: deque[tuple[int, Peer]] = deque()
        self._next = 2
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._main, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._sock.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        if self.error is not None:
            raise self.error

    def connect(self, port: int, data: bytes) -> Peer:
        """Open a connection to a forwarded port, send all of `data`, then half-close."""
        peer = Peer(data)
        self._wishes.append((port, peer))
        os.write(self._wake_write, b"x")
        return peer

    def _main(self) -> None:
        try:
            if not self.is_frozen:
                self._say(Hello(PROTOCOL_VERSION, AGENT, "0.0"))
            elif self._runs and self.config is not None and self.config.workload is not None:
                work = self.config.workload
                self._processes[1] = _Process(work, self._programs[work.argv[0].rpartition("/")[2]])
            while self._turn():
                pass
        except (ConnectionError, BrokenPipeError):
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            self.error = error
        for peer in self._peers.values():
            peer.done.set()

    def _say(self, frame: Frame) -> None:
        self._sock.sendall(encode(frame))

    def _turn(self) -> bool:
        poll = select.poll()
        for fd in (self._sock.fileno(), self._wake_read):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        if self._wake_read in ready:
            os.read(self._wake_read, 1)
            self._open(*self._wishes.popleft())
        if self._sock.fileno() in ready:
            data = self._sock.recv(65536)
            if not data:
                return False
            for frame in self._decoder.feed(data):
                assert not self.is_frozen or isinstance(frame, Thaw | Shutdown), frame
                if isinstance(frame, Freeze | Thaw):
                    self._freeze(frame)
                elif not self._received(frame):
                    return False
        return True

    def _received(self, frame: Frame) -> bool:
        match frame:
            case Config():
                self.config = frame.guest
                files = {secret.name: secret.value for secret in frame.guest.secrets}
                self.times.append(frame.guest.time_ns)
                self._programs["times"] = lambda _work, _stdin: (" ".join(map(str, self.times)).encode(), b"", 0)
                self._programs["reveal"] = lambda work, _stdin: (files.get(work.argv[1], b""), b"", 0)
                self._say(Ready())
            case Time():
                self.times.append(frame.time_ns)
            case Ping():
                self._say(Pong(frame.token))
            case Shutdown():
                self._say(Bye())
                return False
            case Run():
                assert self.config is not None
                assert self.config.workload is not None
                self._start(1, self.config.workload)
            case Exec():
                self._start(frame.stream, frame.request.workload)
            case Shell():
                self._start(frame.stream, frame.request.workload, shell=frame.request)
            case Copy() | Files():
                self._processes[frame.stream] = _Process(frame.request.workload, self._own_program(frame.request))
                self._say(Started(frame.stream))
            case _ if frame.stream % 2:
                self._to_process(frame)
            case _:
                self._to_peer(frame)
        return True

    @property
    def runs_command(self) -> bool:
        """Whether the plan's command runs."""
        return 1 in self._processes

    def _freeze(self, frame: Freeze | Thaw) -> None:
        if isinstance(frame, Thaw):
            self._thaw(frame)
        elif self.stays_awake is not None:
            self._say(NotFrozen(self.stays_awake))
        else:
            self.is_frozen = True
            self._say(Frozen())

    def _thaw(self, frame: Thaw) -> None:
        assert self.is_frozen, frame
        self.is_frozen = False
        self.thaws.append(frame)
        if frame.is_renewed:
            self._processes = {stream: process for stream, process in self._processes.items() if stream == 1}
            self._peers.clear()
            self._next = 2
        self._say(Thawed(1 in self._processes))

    def _start(self, stream: int, work: Workload, *, shell: ShellRequest | None = None) -> None:
        if shell is not None:
            self._processes[stream] = _Process(work, PROGRAMS["true"], is_shell=True)
            self._say(Started(stream))
            size = f"{shell.rows}x{shell.columns}"
            words = ("a shell", *work.argv, work.environment.get("TERM", ""), size)
            self._say(Stdout(stream, " ".join(words).encode() + b"\r\n"))
            return
        program = self._programs.get(work.argv[0].rpartition("/")[2])
        if program is None:
            self._say(Exit(stream, End.NOT_STARTED, Step.EXECUTE, errno.ENOENT))
            return
        self._say(Started(stream))
        if program is PROGRAMS["devour"]:
            self._say(Exit(stream, End.SIGNALED, Step.NONE, signal.SIGKILL, is_out_of_memory=True))
            return
        self._processes[stream] = _Process(work, program)

    def _own_program(self, asked: CopyRequest | FilesRequest) -> Program:
        """A copy out: what COPIES has of that path. In: all of it, which has to have an end."""
        if isinstance(asked, FilesRequest):
            return lambda _work, _stdin: self.files.run(asked)
        path, end = asked.workload.argv[0], record_head(Copied.END)

        def copy_out(_work: Workload, _stdin: bytes) -> tuple[bytes, bytes, int]:
            return (COPIES[path], b"", 0) if path in COPIES else (b"", f"{path}: \x1b[2Jno such file\n".encode(), 1)

        def copy_in(_work: Workload, stdin: bytes) -> tuple[bytes, bytes, int]:
            return (b"", b"", 0) if stdin.endswith(end) else (b"", b"it was broken off\n", 1)

        return copy_out if asked.way is CopyDirection.OUT else copy_in

    def _to_process(self, frame: Frame) -> None:
        process = self._processes.get(frame.stream)
        if process is None:
            return
        match frame:
            case Stdin() | Resize() | Signal() if process.is_shell:
                self._to_shell(process, frame)
            case Stdin(data=b"") if process.work.argv[0].endswith("linger"):
                pass  # until somebody ends it
            case Stdin(data=b""):
                out, err, code = process.program(process.work, bytes(process.stdin))
                process.flows = {Stdout: bytearray(out), Stderr: bytearray(err)}
                process.exit = Exit(frame.stream, End.EXITED, Step.NONE, code)
            case Stdin():
                process.stdin += frame.data
                self._say(Window(frame.stream, FrameKind.STDIN, len(frame.data)))
            case Signal():
                self.signals.append(frame.number)
                process.exit = Exit(frame.stream, End.SIGNALED, Step.NONE, frame.number)
            case Window():
                process.credit[frame.flow] += frame.credit
            case _:
                raise AssertionError(frame)
        self._flush(frame.stream, process)

    def _to_shell(self, process: _Process, frame: Stdin | Resize | Signal) -> None:
        """Says back what is typed, byte by byte, and how large its terminal is; Control-D ends it with 7."""
        match frame:
            case Stdin() if b"\x04" in frame.data:
                process.exit = Exit(frame.stream, End.EXITED, Step.NONE, 7)
            case Stdin():
                process.flows.setdefault(Stdout, bytearray()).extend(b"<" + frame.data + b">" if frame.data else b"")
                if frame.data:
                    self._say(Window(frame.stream, FrameKind.STDIN, len(frame.data)))
            case Resize():
                process.flows.setdefault(Stdout, bytearray()).extend(f"[{frame.rows}x{frame.columns}]".encode())
            case Signal():
                self.signals.append(frame.number)
                process.exit = Exit(frame.stream, End.SIGNALED, Step.NONE, frame.number)

    def _flush(self, stream: int, process: _Process) -> None:
        for kind, data in process.flows.items():
            while data and process.credit[kind.KIND]:
                portion = bytes(data[: min(_PORTION, process.credit[kind.KIND])])
                del data[: len(portion)]
                process.credit[kind.KIND] -= len(portion)
                self._say(kind(stream, portion))
        if process.exit is not None and not any(process.flows.values()):
            del self._processes[stream]
            self._say(process.exit)

    def _open(self, port: int, peer: Peer) -> None:
        stream, self._next = self._next, self._next + 2
        self._peers[stream] = peer
        self._say(Open(stream, port))
        self._flush_peer(stream, peer)

    def _to_peer(self, frame: Frame) -> None:
        peer = self._peers.get(frame.stream)
        if peer is None:
            return
        match frame:
            case Data():
                peer.received += frame.data
                self._say(Window(frame.stream, FrameKind.DATA, len(frame.data)))
            case Eof():
                peer.got_eof = True
            case Window():
                peer.credit += frame.credit
            case Reset():
                peer.reset = True
                self._say(Reset(frame.stream))
            case _:
                raise AssertionError(frame)
        self._flush_peer(frame.stream, peer)

    def _flush_peer(self, stream: int, peer: Peer) -> None:
        while peer.to_send and peer.credit and not peer.reset:
            portion = bytes(peer.to_send[: min(_PORTION, peer.credit)])
            del peer.to_send[: len(portion)]
            peer.credit -= len(portion)
            self._say(Data(stream, portion))
        if not peer.to_send and not peer.sent_eof and not peer.reset:
            peer.sent_eof = True
            self._say(Eof(stream))
        if peer.reset or (peer.got_eof and peer.sent_eof):
            del self._peers[stream]
            peer.done.set()
