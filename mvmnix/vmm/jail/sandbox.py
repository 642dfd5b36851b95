"""One sandbox of the jail, as bubblewrap makes it: its limits, what is taken away, its root, who is in it."""

import os
import resource
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self, override

from mvmnix.formats.strict import parse_json
from mvmnix.sandbox import bubblewrap, landlock
from mvmnix.sandbox.bubblewrap import BUBBLEWRAP
from mvmnix.sandbox.entry import NamespaceEntry
from mvmnix.sandbox.trusted_executables import locate
from mvmnix.sandbox.uid_pool import Lease
from mvmnix.system.control_groups import ControlGroups, Group, GroupLimits
from mvmnix.system.process import is_readable
from mvmnix.system.store import memfd
from mvmnix.vmm.confinement import IsolationLayer, ProcessSandbox
from mvmnix.vmm.jail import delegated_scope
from mvmnix.vmm.jail.root import Root
from mvmnix.vmm.port import LARGEST_STATE, Invocation, LaunchSpec

NULL: Final = "/dev/null"
_DESCRIPTORS: Final = 1024
#: Signals that wait at a time. The kernel counts those of a uid in the sandbox's user namespace, and also all of them
#: as the caller's (setrlimit(2), RLIMIT_SIGPENDING).
_SIGNALS: Final = 256
#: Seconds within which bubblewrap says which process it started; it does so before anything that could take long.
_PATIENCE: Final = 30.0
_ANSWER: Final = 65536
_MIB: Final = 1 << 20
#: Threads besides those of virtual processors: the main loop, RCU, a signal thread, and QEMU's pool of 64 for files.
_THREADS: Final = 96
#: Processors that emulating devices may take beside the virtual ones.
_DEVICES: Final = 0.5
#: MiB of address space beyond the memory that may be touched: libraries, stacks, malloc's arenas for each thread.
_ADDRESSES: Final = 8192
#: MiB of address space for a guest's memory that is mapped too, the most that a plan may name.
_GUESTS: Final = 1 << 20
#: Threads of a server of files, and of a process of a network: the dialer's for names (network/dialer/process.py).
_SERVICE: Final = 64
_NETWORK: Final = 160


@dataclass(frozen=True, slots=True)
class Limits:
    """How much it may take: `group` for all of its processes together, `addresses` in bytes for each of them.

    `written` is up to which byte a file may be written. `demanded` says whether a plan asks for a limit on processor
    time, so that nothing may start without.
    """

    group: GroupLimits
    addresses: int
    written: int = 0
    demanded: bool = False

    @classmethod
    def of_service(cls, memory: int) -> Self:
        """For what serves or reads a directory, with so many bytes of memory; it maps the guest's besides."""
        return cls(GroupLimits(memory, _SERVICE, 1.0), memory + _ADDRESSES * _MIB + _GUESTS * _MIB)

    @classmethod
    def of_network(cls, memory: int) -> Self:
        """For a process of a machine's network, with so many bytes of memory."""
        return cls(GroupLimits(memory, _NETWORK, 1.0), memory + _ADDRESSES * _MIB)

    @classmethod
    def of(cls, spec: LaunchSpec, invocation: Invocation) -> Self:
        """The guest's memory and what the hypervisor needs beside it; the guest's processors and half of one more.

        What a guest writes privately is a copy, and the page of the memfd stays, even one that was a hole before.
        """
        copies = 2 if spec.memory is not None and spec.memory.is_private else 1
        memory = (copies * spec.memory_mib + invocation.overhead_mib) * _MIB
        most = spec.vcpus + _DEVICES
        processors = most if spec.cpu_percent is None else min(most, spec.cpu_percent / 100)
        return cls(
            GroupLimits(memory, _THREADS + spec.vcpus, processors, spec.cpu_weight),
            memory + _ADDRESSES * _MIB,
            _largest_file(spec),
            (spec.cpu_percent, spec.cpu_weight) != (None, None),
        )


def _largest_file(spec: LaunchSpec) -> int:
    """Up to which byte a hypervisor may write a file: its data disk, or the state of its devices where it is saved."""
    return max(0 if spec.data is None else spec.data.size, 0 if spec.saves is None else LARGEST_STATE)


@dataclass(frozen=True, slots=True)
class SandboxTools:
    """What all sandboxes share: the programs that make one, whether there is Landlock, where groups can be made."""

    bubblewrap: str
    setpriv: str | None
    cgroups: ControlGroups

    @classmethod
    def find(cls) -> "SandboxTools":
        """Look at this host. Raises MvmnixError for what is missing, RefusedError when others could change it."""
        setpriv = locate(landlock.SETPRIV) if landlock.abi() else None
        return cls(locate(BUBBLEWRAP), setpriv, delegated_scope.obtain().groups)


@dataclass(frozen=True, slots=True)
class SandboxParts:
    """What a sandbox is made of."""

    lease: Lease
    tools: SandboxTools
    root: Root
    limits: Limits
    group: Group


class BubblewrapSandbox(ProcessSandbox):
    """One sandbox; jail.py lists its seven layers. ShareSandbox (jail.py) replaces some of them."""

    def __init__(self, parts: SandboxParts, filter_: bytes) -> None:
        """Made by `BubblewrapJail.sandbox` only; `filter_` is a program of system calls (sandbox/seccomp.py)."""
        self._lease = parts.lease
        self._tools = parts.tools
        self._root = parts.root
        self._limits = parts.limits
        self._group = parts.group
        self._filter = memfd(filter_, name="mvmnix-filter")
        self._info_read, self._info_write = os.pipe2(os.O_CLOEXEC)
        self._released = False
        self._entry: NamespaceEntry | None = None
        try:
            self._entry = self._entered()
        except BaseException:
            self.release()
            raise

    def _entered(self) -> NamespaceEntry | None:
        """How its child becomes another user; None where it keeps the caller's uid. Raises OSError, MvmnixError."""
        uid, namespace = self._lease.uid, self._lease.namespace()
        if uid is None or namespace is None:
            return None
        try:
            return NamespaceEntry(namespace, uid, self.directories)
        except BaseException:
            os.close(namespace)
            raise

    @property
    def directories(self) -> tuple[int, ...]:
        """Directories of the caller's that it finds as mounts, wherever they lie (sandbox/entry.py)."""
        return ()

    @property
    @override
    def descriptors(self) -> tuple[int, ...]:
        return (self._filter, self._info_write)

    @property
    @override
    def layers(self) -> tuple[IsolationLayer, ...]:
        found = {IsolationLayer.NAMESPACES, IsolationLayer.SECCOMP}
        found |= {IsolationLayer(f"cgroup-{controller}") for controller in self._tools.cgroups.controllers}
        if self._entry is not None:
            found.add(IsolationLayer.OWN_UID)
        if self._tools.setpriv is not None:
            found.add(IsolationLayer.LANDLOCK)
        return tuple(layer for layer in IsolationLayer if layer in found)

    @override
    def command(self, argv: Sequence[str]) -> tuple[str, ...]:
        setpriv = self._tools.setpriv
        closed = () if setpriv is None else landlock.command(setpriv, self.opened(setpriv))
        return (
            *(self._tools.bubblewrap, *self.floor),
            *self.mounts,
            *("--proc", "/proc", "--remount-ro", "/proc", "--dev-bind", NULL, NULL),
            *("--remount-ro", "/", "--chdir", "/"),
            *("--seccomp", str(self._filter), "--info-fd", str(self._info_write), "--"),
            *(*closed, *argv),
        )

    @property
    def floor(self) -> tuple[str, ...]:
        """What bubblewrap takes away, and who it is inside."""
        return bubblewrap.FLOOR

    @property
    def mounts(self) -> tuple[str, ...]:
        """What lies in its root."""
        return self._root.mounts()

    def opened(self, setpriv: str) -> dict[str, str]:
        """By path, what Landlock lets it do there."""
        programs = self._root.programs
        # setpriv's own program isn't executed again
        rules = {path: landlock.READ for path, _ in self._root.files if path not in programs}
        return {**rules, **{path: landlock.EXECUTE for path in programs if path != setpriv}, NULL: landlock.WRITE}

    @override
    def enter(self) -> None:
        try:
            self._enter()
        except OSError as error:  # standard error is the pipe for last words already
            os.write(2, f"mvm: the sandbox {self._lease.name} can't be entered: {error}\n".encode())
            os._exit(126)

    def _enter(self) -> None:
        os.chdir("/")
        self._group.join()
        if self._entry is not None:
            self._entry.enter()  # it opens directories, for which the limits below may leave no descriptor
        for which, value in self.process_limits().items():
            lower_limit(which, value)
        # Beyond RLIMIT_FSIZE a write fails and its process lives on; what is ignored stays so through exec (signal(7)).
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def process_limits(self) -> dict[int, int]:
        """By the kernel's numbers, the limits of its process, soft and hard."""
        limits = {
            resource.RLIMIT_FSIZE: self._limits.written,
            resource.RLIMIT_NOFILE: _DESCRIPTORS,
            resource.RLIMIT_AS: self._limits.addresses,
            resource.RLIMIT_SIGPENDING: _SIGNALS,
        }
        if self._entry is not None:
            limits[resource.RLIMIT_NPROC] = self._limits.group.tasks  # counts by uid: a user's own would count too
        return limits

    @override
    def first_process(self, child: int) -> int:
        self._group.close()
        os.close(self._info_write)
        self._info_write = -1
        said = _read_all(self._info_read)
        with suppress(ValueError, KeyError, TypeError):
            told: Any = parse_json(said)
            inside = told["child-pid"]
            if isinstance(inside, int) and inside > 0:
                return inside
        return child  # it has ended, and says why among its last words

    @override
    def release(self) -> None:
        if self._released:
            return
        self._released = True
        entered = () if self._entry is None else (self._entry.namespace,)
        for fd in (self._filter, self._info_read, self._info_write, *entered):
            if fd >= 0:
                os.close(fd)
        self._group.remove()
        self._lease.release()


def lower_limit(which: int, value: int) -> None:
    """Set a limit of this process, soft and hard; a lower one that it was started with stays (setrlimit(2))."""
    hard = resource.getrlimit(which)[1]
    least = min((each for each in (value, hard) if each != resource.RLIM_INFINITY), default=resource.RLIM_INFINITY)
    resource.setrlimit(which, (least, least))


def _read_all(fd: int) -> bytes:
    """What bubblewrap says, until it closes the pipe."""
    said = b""
    while len(said) < _ANSWER and is_readable(fd, _PATIENCE):
        data = os.read(fd, 4096)
        if not data:
            break
        said += data
    return said
