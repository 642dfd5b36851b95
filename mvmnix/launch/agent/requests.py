"""What the host asks of the guest agent: configuration, commands, shells, copies, file operations, as bytes; no I/O."""

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import ClassVar, Final, Self, override

from mvmnix.launch.agent import guest_network as networking
from mvmnix.launch.agent.encoding import Writer
from mvmnix.launch.agent.guest_network import GuestNetwork
from mvmnix.launch.agent.operations import MAX_PAYLOAD, MAX_PORTS, MOST_ROWS, CopyDirection, FileOperation
from mvmnix.launch.copy.records import is_name
from mvmnix.model import DirectoryOrder, SystemCalls, User, Verb, Workload
from mvmnix.plan.limits import MOST_TASKS
from mvmnix.plan.secret_reference import LARGEST_SECRETS, MOST_SECRETS, Secret, SecretTarget
from mvmnix.plan.share import ShareKind
from mvmnix.plural import counted

#: How many paths may be made writable.
MAX_WRITABLE = 64

ENTROPY_BYTES = 32
_SPACE = "reversed directories need 128 MiB to 1 TiB of scratch"
_TAG: Final = re.compile(r"[a-z0-9]{1,16}")
_SHARE_KINDS: Final = {ShareKind.VIRTIOFS: 1, ShareKind.EROFS: 2}
_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
#: Of the verbs that a guest is told; the others are nothing to it.
_VERB_BITS = {Verb.EXEC: 1, Verb.STREAM: 2, Verb.SHELL: 4, Verb.COPY: 8}
#: In the same word: writable directories list in reverse. For that, the agent makes a file system in whole groups.
_REVERSED = 0x10000
#: In the same word: secrets follow the ports.
_SECRETS = 0x20000
#: In the same word: shares follow the secrets.
_SHARES = 0x40000
#: In the same word: limits follow those.
_LIMITS = 0x80000
#: In the same word: the data disk's place follows those.
_DATA = 0x100000
#: In the same word: a network follows that.
_NETWORK = 0x200000
_SYSTEM_CALLS = {SystemCalls.DEFAULT: 0, SystemCalls.STRICT: 1, SystemCalls.NAMESPACES: 2}
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

    VERB: ClassVar[Verb] = Verb.EXEC
    workload: Workload
    timeout_ms: int = 0

    def __post_init__(self) -> None:
        self._check_program()
        if not _absolute(self.workload.directory):
            raise ValueError(f"not an absolute working directory: {self.workload.directory!r}")
        if any(not name or "=" in name for name in self.workload.environment):
            raise ValueError("an environment variable's name is empty or has an equals sign")
        if not 0 <= self.timeout_ms < 2**63:
            raise ValueError(f"not a time in milliseconds: {self.timeout_ms}")
        if len(self.encode()) > MAX_PAYLOAD:
            raise ValueError(f"arguments and environment take more than {MAX_PAYLOAD} bytes")

    def _check_program(self) -> None:
        if not self.workload.argv or not self.workload.argv[0]:
            raise ValueError("a command needs at least a program")

    def encode(self) -> bytes:
        """The payload of EXEC."""
        work = self.workload
        out = Writer().pack("IIQ", work.user.uid, work.user.gid, self.timeout_ms).string(work.directory)
        out.strings(work.argv).strings(f"{name}={value}" for name, value in work.environment.items())
        return out.done()


def is_hostname(name: str) -> bool:
    """Whether a guest may have this host name: one label (RFC 1123, section 2.1) without capital letters."""
    return _HOSTNAME.fullmatch(name) is not None


def is_size(rows: int, columns: int) -> bool:
    """Whether a terminal may have so many rows and columns."""
    return 0 < rows <= MOST_ROWS and 0 < columns <= MOST_ROWS


@dataclass(frozen=True, slots=True)
class ShellRequest(ExecRequest):
    """A command in a pseudo-terminal of so many rows and columns; without arguments the image's own shell.

    Raises ValueError for what can't be passed on.
    """

    VERB = Verb.SHELL
    rows: int = 24
    columns: int = 80

    @override
    def _check_program(self) -> None:
        if self.workload.argv and not self.workload.argv[0]:
            raise ValueError("a command needs at least a program")
        if not is_size(self.rows, self.columns):
            raise ValueError(f"not the size of a terminal: {self.rows} rows, {self.columns} columns")

    @override
    def encode(self) -> bytes:
        return Writer().pack("HH", self.rows, self.columns).raw(ExecRequest.encode(self)).done()


#: By the way, its number in the payload, which is also how many words a copy may have.
_WAYS: Final = {CopyDirection.OUT: 1, CopyDirection.IN: 2}


@dataclass(frozen=True, slots=True)
class CopyRequest(ExecRequest):
    """A copy by the workload's user: `workload.argv` is a path, relative to its directory, and what may follow it.

    Out of the guest: nothing. Into it: a name, which counts if there is a directory of that path; without, nothing may
    be there, or a file if it `replaces` that. No program is run. Raises ValueError for what can't be passed on.
    """

    VERB = Verb.COPY
    way: CopyDirection = CopyDirection.OUT
    replaces: bool = False

    @override
    def _check_program(self) -> None:
        argv = self.workload.argv
        if not argv or not argv[0] or len(argv) > _WAYS[self.way]:
            raise ValueError("a copy needs a path, and a name at most")
        if any(not is_name(name.encode("utf-8", "surrogateescape")) for name in argv[1:]):
            raise ValueError(f"not the name of a file: {argv[1]!r}")

    @override
    def encode(self) -> bytes:
        return Writer().pack("BBH", _WAYS[self.way], self.replaces, 0).raw(ExecRequest.encode(self)).done()


#: By the operation, its number in the payload.
_OPERATIONS: Final = {operation: number for number, operation in enumerate(FileOperation, 1)}


@dataclass(frozen=True, slots=True)
class FilesRequest(ExecRequest):
    """A file operation by the workload's user: `workload.argv` is a path, and the new one of a rename.

    Paths are relative to the workload's directory. No program is run. Raises ValueError for what can't be passed on.
    """

    VERB = Verb.COPY
    operation: FileOperation = FileOperation.STAT
    recursive: bool = False
    """Remove a directory with all that is in it."""
    parents: bool = False
    """Make the directories on the way too; an existing directory is not an error."""

    @override
    def _check_program(self) -> None:
        argv, count = self.workload.argv, 2 if self.operation is FileOperation.RENAME else 1
        if len(argv) != count or not all(argv):
            raise ValueError(f"{self.operation} needs {counted(count, 'path')}, not empty, and got {argv!r}")
        if self.recursive and self.operation is not FileOperation.REMOVE:
            raise ValueError(f"only remove is recursive, not {self.operation}")
        if self.parents and self.operation is not FileOperation.MKDIR:
            raise ValueError(f"only mkdir makes parents, not {self.operation}")

    @override
    def encode(self) -> bytes:
        flags = self.recursive + 2 * self.parents
        return Writer().pack("BB", _OPERATIONS[self.operation], flags).raw(ExecRequest.encode(self)).done()


@dataclass(frozen=True, slots=True)
class Mount:
    """One share as the guest's agent is told it: the device's `tag`, the place in the guest. Raises ValueError."""

    tag: str
    place: str
    kind: ShareKind
    read_only: bool

    def __post_init__(self) -> None:
        if not _TAG.fullmatch(self.tag) or not self.place.startswith("/") or len(self.place) < 2:
            raise ValueError(f"not a share's tag and place: {self.tag!r}, {self.place!r}")


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """All that the agent is told, once. Raises ValueError for what the guest would refuse.

    `time_ns` is Unix time in nanoseconds, `entropy` 32 bytes of randomness, `scratch` the size in bytes of the one
    file system in memory behind the `writable` paths, which belong to `owner` and list in this `order`. `ports` are TCP
    ports on the guest's loopback that are forwarded to the host. `workload` is what RUN starts, `timeout_ms` its limit
    in milliseconds (0: none). `secrets` become files in memory and variables of the workload, and of no other command.
    `shares` are mounted, and at the path `data` the machine's data disk, if it has one.
    Commands ask the kernel for no more than `system_calls` and are no more than `tasks` processes and threads (0: any).
    Without a `network` the machine has its loopback alone.
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
    secrets: tuple[Secret, ...] = ()
    shares: tuple[Mount, ...] = ()
    system_calls: SystemCalls = SystemCalls.DEFAULT
    tasks: int = 0
    data: str = ""
    network: GuestNetwork | None = None

    def __post_init__(self) -> None:
        if problems := [why for bad, why in self._checks() if bad]:
            raise ValueError("; ".join(problems))
        if len(self.encode()) > MAX_PAYLOAD:
            raise ValueError(f"the guest's configuration takes more than {MAX_PAYLOAD} bytes")

    def _checks(self) -> tuple[tuple[bool, str], ...]:
        ports = self.ports
        return (
            (not is_hostname(self.hostname), f"not a host name: {self.hostname!r}"),
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
            (self.workload is None and self._of(SecretTarget.VARIABLE) != (), "variables for no workload"),
            (len(self.secrets) > MOST_SECRETS, f"more than {MOST_SECRETS} secrets"),
            (sum(len(secret.value) for secret in self.secrets) > LARGEST_SECRETS, "the secrets are too large"),
            (self.data != "" and not _clean(self.data), f"not a clean absolute path: {self.data!r}"),
            (not 0 <= self.tasks <= MOST_TASKS, f"not a number of tasks: {self.tasks}"),
        )

    def _of(self, target: SecretTarget) -> tuple[Secret, ...]:
        return tuple(secret for secret in self.secrets if secret.target is target)

    def without_secrets(self) -> Self:
        """The same, once the guest has been told them."""
        return replace(self, secrets=()) if self.secrets else self

    @property
    def _limited(self) -> bool:
        """What says nothing else is understood by agents that know of no limits."""
        return self.tasks > 0 or self.system_calls is not SystemCalls.DEFAULT

    def encode(self) -> bytes:
        """The payload of CONFIG."""
        out = Writer().pack("QQ", self.time_ns, self.scratch).raw(self.entropy)
        files = self._of(SecretTarget.FILE)
        wishes = (_REVERSED if self.order is DirectoryOrder.REVERSED else 0) + (_SECRETS if files else 0)
        wishes += _SHARES if self.shares else 0
        wishes += (_LIMITS if self._limited else 0) + (_DATA if self.data else 0) + (_NETWORK if self.network else 0)
        wishes += sum(bit for verb, bit in _VERB_BITS.items() if verb in self.verbs)
        out.pack("III", self.owner.uid, self.owner.gid, wishes)
        out.string(self.hostname).strings(self.writable).pack("I", len(self.ports))
        out.pack("H" * len(self.ports), *self.ports)
        if files:
            out.pack("I", len(files))
        for secret in files:
            out.string(secret.name).pack("I", len(secret.value)).raw(secret.value)
        if self.shares:
            out.pack("I", len(self.shares))
            for mount in self.shares:
                out.string(mount.tag).string(mount.place).pack("BB", _SHARE_KINDS[mount.kind], mount.read_only)
        if self._limited:
            out.pack("II", _SYSTEM_CALLS[self.system_calls], self.tasks)
        if self.data:
            out.string(self.data)
        if self.network is not None:
            networking.write(out, self.network)
        if self.workload is not None:
            variables = {it.name: it.value.decode() for it in self._of(SecretTarget.VARIABLE)}
            workload = replace(self.workload, environment={**self.workload.environment, **variables})
            out.raw(ExecRequest(workload, self.timeout_ms).encode())
        return out.done()


def _clean(path: str) -> bool:
    return _absolute(path) and path != "/" and str(PurePosixPath(path)) == path
