"""What a host says to a guest agent, as docs/reference/channel.md has it: for fakes of the agent, which is C itself."""

import struct
from collections.abc import Callable, Iterator, Mapping

from mvmnix.launch.agent.encoding import Reader
from mvmnix.launch.agent.frames import Config, Frame, FrameKind, Freeze, Ping, Shutdown, Thaw, Time
from mvmnix.launch.agent.guest_network import GuestNetwork
from mvmnix.launch.agent.operations import MAX_PAYLOAD, CopyDirection, FileOperation
from mvmnix.launch.agent.requests import (
    ENTROPY_BYTES,
    CopyRequest,
    ExecRequest,
    FilesRequest,
    GuestConfig,
    Mount,
    ShellRequest,
)
from mvmnix.launch.agent.stream_frames import (
    Copy,
    Data,
    Eof,
    Exec,
    Files,
    Reset,
    Resize,
    Run,
    Shell,
    Signal,
    Stdin,
    Window,
)
from mvmnix.launch.agent.transport import HEADER_BYTES
from mvmnix.model import DirectoryOrder, SystemCalls, User, Verb, Workload
from mvmnix.plan.secret_reference import Secret, SecretTarget
from mvmnix.plan.share import ShareKind

_VERBS = {1: Verb.EXEC, 2: Verb.STREAM, 4: Verb.SHELL, 8: Verb.COPY}
_REVERSED, _SECRETS, _SHARES, _LIMITS, _DATA, _NETWORK = (0x10000 << number for number in range(6))


class _Payload(Reader):
    """What a host's payloads have besides."""

    @property
    def is_read(self) -> bool:
        return self._at == len(self._data)

    def text(self) -> str:
        return self.string(MAX_PAYLOAD)

    def texts(self) -> tuple[str, ...]:
        return tuple(self.text() for _ in range(self.number("I")))

    def address(self) -> str:
        return ".".join(map(str, self.raw(4)))

    def command(self) -> tuple[Workload, int]:
        user, timeout_ms, directory = User(self.number("I"), self.number("I")), self.number("Q"), self.text()
        argv, pairs = self.texts(), [entry.partition("=") for entry in self.texts()]
        return Workload(argv, {name: value for name, _, value in pairs}, directory, user), timeout_ms

    def secret(self) -> Secret:
        return Secret(self.string(64), SecretTarget.FILE, self.raw(self.number("I")))

    def mount(self) -> Mount:
        tag, place, kind = self.text(), self.text(), {1: ShareKind.VIRTIOFS, 2: ShareKind.EROFS}[self.number("B")]
        return Mount(tag, place, kind, bool(self.number("B")))

    def network(self) -> GuestNetwork:
        address, prefix, gateway = self.address(), self.number("B"), self.address()
        return GuestNetwork(address, prefix, gateway, self.raw(6).hex(":"), self.number("H"), self.address())

    def config(self) -> GuestConfig:
        """Secrets that are variables are the workload's."""
        time_ns, scratch, entropy = self.number("Q"), self.number("Q"), self.raw(ENTROPY_BYTES)
        owner, bits, hostname = User(self.number("I"), self.number("I")), self.number("I"), self.text()
        writable, ports = self.texts(), tuple(self.number("H") for _ in range(self.number("I")))
        secrets = tuple(self.secret() for _ in range(self.number("I"))) if bits & _SECRETS else ()
        shares = tuple(self.mount() for _ in range(self.number("I"))) if bits & _SHARES else ()
        tier, tasks = (self.number("I"), self.number("I")) if bits & _LIMITS else (0, 0)
        data = self.text() if bits & _DATA else ""
        network = self.network() if bits & _NETWORK else None
        workload, timeout_ms = (None, 0) if self.is_read else self.command()
        return GuestConfig(
            hostname=hostname,
            time_ns=time_ns,
            entropy=entropy,
            scratch=scratch,
            owner=owner,
            writable=writable,
            verbs=frozenset(verb for bit, verb in _VERBS.items() if bits & bit),
            ports=ports,
            workload=workload,
            timeout_ms=timeout_ms,
            order=DirectoryOrder.REVERSED if bits & _REVERSED else DirectoryOrder.NATURAL,
            secrets=secrets,
            shares=shares,
            system_calls=(SystemCalls.DEFAULT, SystemCalls.STRICT, SystemCalls.NAMESPACES)[tier],
            tasks=tasks,
            data=data,
            network=network,
        )


def read_config(data: bytes) -> GuestConfig:
    """The payload of CONFIG."""
    return _Payload(data).config()


def _shell(stream: int, it: _Payload) -> Frame:
    rows, columns = it.number("H"), it.number("H")
    return Shell(stream, ShellRequest(*it.command(), rows, columns))


def _copy(stream: int, it: _Payload) -> Frame:
    way, replaces = {1: CopyDirection.OUT, 2: CopyDirection.IN}[it.number("B")], bool(it.number("B"))
    assert it.number("H") == 0
    return Copy(stream, CopyRequest(*it.command(), way, replaces))


_OPERATIONS = {
    1: FileOperation.LIST,
    2: FileOperation.STAT,
    3: FileOperation.REMOVE,
    4: FileOperation.RENAME,
    5: FileOperation.MKDIR,
}


def _files(stream: int, it: _Payload) -> Frame:
    operation, flags = _OPERATIONS[it.number("B")], it.number("B")
    assert flags in {0, 1, 2}
    return Files(stream, FilesRequest(*it.command(), operation, flags == 1, flags == 2))


def _thaw(_stream: int, it: _Payload) -> Frame:
    flags, time_ns, entropy = it.number("I"), it.number("Q"), it.raw(ENTROPY_BYTES)
    assert flags in {0, 1}
    return Thaw(flags == 1, time_ns, entropy, it.string(64))


#: Of what both sides say alike, the host's own reading.
_READERS: Mapping[int, Callable[[int, _Payload], Frame]] = {
    FrameKind.CONFIG: lambda _stream, it: Config(it.config()),
    FrameKind.RUN: lambda stream, _it: Run(stream),
    FrameKind.EXEC: lambda stream, it: Exec(stream, ExecRequest(*it.command())),
    FrameKind.SHELL: _shell,
    FrameKind.COPY: _copy,
    FrameKind.FILES: _files,
    FrameKind.SIGNAL: lambda stream, it: Signal(stream, it.number("I")),
    FrameKind.RESIZE: lambda stream, it: Resize(stream, it.number("H"), it.number("H")),
    FrameKind.PING: lambda _stream, it: Ping(it.number("Q")),
    FrameKind.TIME: lambda _stream, it: Time(it.number("Q")),
    FrameKind.FREEZE: lambda _stream, it: Freeze(it.number("I")),
    FrameKind.THAW: _thaw,
    FrameKind.SHUTDOWN: lambda _stream, it: Shutdown(it.number("I")),
}
_SHARED = {it.KIND: it for it in (Data, Eof, Reset, Window)}


class HostDecoder:
    """Takes a host's bytes in any portions, gives its frames."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._data += data
        while len(self._data) >= HEADER_BYTES:
            kind, zero, stream, length = struct.unpack_from(">BxHII", self._data)
            assert zero == 0
            end = HEADER_BYTES + length
            if len(self._data) < end:
                return
            payload, self._data = self._data[HEADER_BYTES:end], self._data[end:]
            yield self._frame(kind, stream, payload)

    @staticmethod
    def _frame(kind: int, stream: int, payload: bytes) -> Frame:
        if kind == FrameKind.STDIN:
            return Stdin(stream, payload)
        if kind in _SHARED:
            return _SHARED[FrameKind(kind)].parse(stream, payload)
        it = _Payload(payload)
        frame = _READERS[kind](stream, it)
        it.end()
        return frame
