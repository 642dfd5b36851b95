"""What the host asks of the guest agent: its configuration and the commands it runs; the bytes of both, no I/O."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

from mvmnix.launch.wire import ChannelProtocolError, Reader, Writer
from mvmnix.model import DirectoryOrder, User, Verb, Workload

#: Largest payload of any frame, and so of a configuration or a command with its environment.
MAX_PAYLOAD = 65536
#: How many guest ports may be forwarded.
MAX_PORTS = 64
#: How many paths may be made writable.
MAX_WRITABLE = 64

ENTROPY_BYTES = 32
_SPACE = "reversed directories need 128 MiB to 1 TiB of scratch"
_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_VERB_BITS = {Verb.EXEC: 1, Verb.STREAM: 2}
#: In the same word: writable directories list in reverse. For that, the agent makes a file system in whole groups.
_REVERSED = 0x10000
_GROUP = 1 << 27
_MOST_GROUPS = 8192


def _absolute(path: str) -> bool:
    return path.startswith("/") and not path.startswith("//") and ".." not in path.split("/")


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A command for the guest; `timeout_ms` in milliseconds of guest time, 0 for none. No shell is involved.

    `workload.argv[0]` is a path, or a name looked up in the PATH of `workload.environment`.
    Raises ValueError for what can't be passed on.
    """

    workload: Workload
    timeout_ms: int = 0

    def __post_init__(self) -> None:
        if not self.workload.argv or not self.workload.argv[0]:
            raise ValueError("a command needs at least a program")
        if not _absolute(self.workload.directory):
            raise ValueError(f"not an absolute working directory: {self.workload.directory!r}")
        if any(not name or "=" in name for name in self.workload.environment):
            raise ValueError("an environment variable's name is empty or has an equals sign")
        if not 0 <= self.timeout_ms < 2**63:
            raise ValueError(f"not a time in milliseconds: {self.timeout_ms}")
        if len(self.encode()) > MAX_PAYLOAD:
            raise ValueError(f"arguments and environment take more than {MAX_PAYLOAD} bytes")

    def encode(self) -> bytes:
        """The payload of EXEC."""
        work = self.workload
        out = Writer().pack("IIQ", work.user.uid, work.user.gid, self.timeout_ms).string(work.directory)
        out.strings(work.argv).strings(f"{name}={value}" for name, value in work.environment.items())
        return out.done()

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """The payload of EXEC taken apart. Raises ChannelProtocolError."""
        reader = Reader(payload)
        uid, gid, timeout_ms = reader.number("I"), reader.number("I"), reader.number("Q")
        directory, argv, envp = (reader.string(MAX_PAYLOAD), reader.strings(MAX_PAYLOAD), reader.strings(MAX_PAYLOAD))
        reader.end()
        pairs = [entry.partition("=") for entry in envp]
        environment = {name: value for name, _, value in pairs}
        try:
            return cls(Workload(argv, environment, directory, User(uid, gid)), timeout_ms)
        except ValueError as error:
            raise ChannelProtocolError(str(error)) from error


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """All that the agent is told, once. Raises ValueError for what the guest would refuse.

    `time_ns` is Unix time in nanoseconds, `entropy` 32 bytes of randomness, `scratch` the size in bytes of the one
    file system in memory behind the `writable` paths, which belong to `owner` and list in this `order`. `ports` are TCP
    ports on the guest's loopback that are forwarded to the host. `workload` is what RUN starts, `timeout_ms` its limit
    in milliseconds (0: none).
    """

    hostname: str
    time_ns: int
    entropy: bytes
    scratch: int
    owner: User
    writable: tuple[str, ...] = ()
    verbs: frozenset[Verb] = frozenset()
    ports: tuple[int, ...] = ()
    workload: Workload | None = None
    timeout_ms: int = 0
    order: DirectoryOrder = DirectoryOrder.NATURAL

    def __post_init__(self) -> None:
        if problems := [why for bad, why in self._checks() if bad]:
            raise ValueError("; ".join(problems))
        if len(self.encode()) > MAX_PAYLOAD:
            raise ValueError(f"the guest's configuration takes more than {MAX_PAYLOAD} bytes")

    def _checks(self) -> tuple[tuple[bool, str], ...]:
        ports = self.ports
        return (
            (not _HOSTNAME.fullmatch(self.hostname), f"not a host name: {self.hostname!r}"),
            (not 0 < self.time_ns < 2**63, f"not a Unix time in nanoseconds: {self.time_ns}"),
            (len(self.entropy) != ENTROPY_BYTES, f"entropy has {len(self.entropy)} bytes, not {ENTROPY_BYTES}"),
            (not 0 <= self.scratch < 2**63, f"not a size in bytes: {self.scratch}"),
            (bool(self.writable) and self.scratch < 4096, "writable paths need a scratch of at least 4096 bytes"),
            (self.order is DirectoryOrder.REVERSED and not _GROUP <= self.scratch <= _MOST_GROUPS * _GROUP, _SPACE),
            (len(self.writable) > MAX_WRITABLE, f"more than {MAX_WRITABLE} writable paths"),
            (any(not _clean(path) for path in self.writable), f"not clean absolute paths: {self.writable!r}"),
            (len(ports) > MAX_PORTS or len(set(ports)) != len(ports), "too many ports, or one twice"),
            (any(not 0 < port < 65536 for port in ports), f"not TCP ports: {ports}"),
            (bool(ports) and Verb.STREAM not in self.verbs, "ports are forwarded only with the verb stream"),
            (self.workload is None and Verb.EXEC not in self.verbs, "neither a workload nor the verb exec"),
        )

    def encode(self) -> bytes:
        """The payload of CONFIG."""
        out = Writer().pack("QQ", self.time_ns, self.scratch).raw(self.entropy)
        order = _REVERSED if self.order is DirectoryOrder.REVERSED else 0
        out.pack("III", self.owner.uid, self.owner.gid, order + sum(_VERB_BITS[verb] for verb in self.verbs))
        out.string(self.hostname).strings(self.writable).pack("I", len(self.ports))
        out.pack("H" * len(self.ports), *self.ports)
        if self.workload is not None:
            out.raw(ExecRequest(self.workload, self.timeout_ms).encode())
        return out.done()

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """The payload of CONFIG taken apart. Raises ChannelProtocolError."""
        reader = Reader(payload)
        time_ns, scratch, entropy = reader.number("Q"), reader.number("Q"), reader.raw(ENTROPY_BYTES)
        uid, gid, bits = reader.number("I"), reader.number("I"), reader.number("I")
        hostname, writable = reader.string(64), reader.strings(4096)
        ports = tuple(reader.number("H") for _ in range(min(reader.number("I"), MAX_PORTS + 1)))
        rest = reader.rest()
        request = ExecRequest.parse(rest) if rest else None
        if bits & ~(_REVERSED + sum(_VERB_BITS.values())):
            raise ChannelProtocolError(f"unknown verbs: {bits:#x}")
        try:
            return cls(
                hostname=hostname,
                time_ns=time_ns,
                entropy=entropy,
                scratch=scratch,
                owner=User(uid, gid),
                writable=writable,
                verbs=frozenset(verb for verb, bit in _VERB_BITS.items() if bits & bit),
                ports=ports,
                workload=request.workload if request else None,
                timeout_ms=request.timeout_ms if request else 0,
                order=DirectoryOrder.REVERSED if bits & _REVERSED else DirectoryOrder.NATURAL,
            )
        except ValueError as error:
            raise ChannelProtocolError(str(error)) from error


def _clean(path: str) -> bool:
    return _absolute(path) and path != "/" and str(PurePosixPath(path)) == path
