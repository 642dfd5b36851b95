"""Puts each hypervisor, and what serves it, into a sandbox: the one implementation of the port `Jail`.

It is assembled by the composition root. What a hypervisor's sandbox is, from the outside in:

1. A uid and gid that no process outside it has meanwhile (where mvm can give one away: sandbox/uid_pool.py), in control
   groups with the plan's limits (where mvm can make them).
2. Limits of the process: no core, no file written but a data disk, bounded addresses and descriptors; of tasks too,
   which are counted by uid, where it has one of its own.
3. bubblewrap: mount, PID, IPC, UTS, network, user and cgroup namespaces of its own, no capability, no new privilege,
   no terminal; death with the process that started it.
   The first process of the PID namespace is bubblewrap's, and waits for the hypervisor. It dies with bubblewrap
   outside, which dies with the supervisor; the kernel then ends the hypervisor, whatever that has done to itself.
4. A root that holds the hypervisor's program, its libraries and its firmware, read-only; /proc, read-only, in which
   there are these two processes; /dev/null. No directory of the host, no name that leads to one.
5. A filter of system calls (sandbox/profiles/hypervisor.py), besides the hypervisor's own.
6. Landlock, where the kernel has it: the same files once more, by rule.
7. Descriptors: those of the machine, /dev/null, and a pipe for its last words.
"""

import os
import resource
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, override

from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.sandbox import bubblewrap, landlock, seccomp
from mvmnix.sandbox.profiles.file_server import FILE_SERVER, FILE_SERVER_COUNTED
from mvmnix.sandbox.profiles.hypervisor import (
    HYPERVISOR,
    HYPERVISOR_WITH_NETWORK,
    HYPERVISOR_WITH_SHARES,
    HYPERVISOR_WITH_SHARES_AND_NETWORK,
)
from mvmnix.sandbox.profiles.network import DIALER, GATEWAY
from mvmnix.sandbox.profiles.profile import Profile
from mvmnix.sandbox.uid_pool import UidPool
from mvmnix.system import log
from mvmnix.system.control_groups import ControlGroups, Controller
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.confinement import SHARE_PLACE, Jail, NetworkService, Service, ServiceSandbox
from mvmnix.vmm.jail.network_sandbox import NetworkSandbox, find_extension, is_readable_by_all
from mvmnix.vmm.jail.root import Root, libraries
from mvmnix.vmm.jail.sandbox import BubblewrapSandbox, Limits, SandboxParts, SandboxTools
from mvmnix.vmm.port import Invocation, LaunchSpec

#: Landlock's words for what is done beneath the directory of a share (setpriv(1)).
_READ: Final = ("read-file", "read-dir")
_WRITE: Final = ("write-file", "remove-dir", "remove-file", "make-dir", "make-reg", "make-sym")
#: What servers of a share read of the kernel: how many descriptors a process may have.
_NR_OPEN: Final = "/proc/sys/fs/nr_open"


class ShareSandbox(BubblewrapSandbox, ServiceSandbox):
    """The sandbox of what serves a directory to a guest, or reads one for it: nothing else of the host is in there.

    It is a hypervisor's sandbox but for six things: it has the caller's uid, as which it makes files; the directory
    lies in its root; it looks like the guest's workload to itself; its filter of system calls lets it make files
    (sandbox/profiles/file_server.py); Landlock lets it make and change files and directories there, and nothing of any
    other kind; and where a plan bounds what it writes, no file becomes larger than that, and what it writes can be
    counted.
    """

    def __init__(self, parts: SandboxParts, filter_: bytes, service: Service) -> None:
        """Made by `BubblewrapJail.service` only. Raises OSError, MvmnixError."""
        self._service = service
        super().__init__(parts, filter_)

    @property
    @override
    def descriptors(self) -> tuple[int, ...]:
        return (*super().descriptors, self._service.directory)

    @override
    def listen(self) -> tuple[socket.socket, socket.socket]:
        """It has a name meanwhile, or nothing could connect: in the sandboxes' directory, which is ours alone.

        The kernel shows that name later, too (/proc/net/unix). By `self` it would be a file of every process that reads
        it there, as one does that is about to share a directory.
        """
        pool, name = self._lease.pool.directory, f"{self._lease.number}.socket"
        address = f"/proc/{os.getpid()}/fd/{pool.fd}/{name}"
        listening, calling = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        try:
            pool.remove(name)
            listening.bind(address)
            listening.listen(1)
            calling.connect(address)
        except BaseException:
            listening.close()
            calling.close()
            raise
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=pool.fd)
        return listening, calling

    @property
    @override
    def floor(self) -> tuple[str, ...]:
        return bubblewrap.floor(str(self._service.inside.uid), str(self._service.inside.gid))

    @property
    @override
    def mounts(self) -> tuple[str, ...]:
        bind = "--bind" if self._service.writable else "--ro-bind"
        return (*super().mounts, f"{bind}-fd", str(self._service.directory), SHARE_PLACE)

    @override
    def opened(self, setpriv: str) -> dict[str, str]:
        words = (*_READ, *((*_WRITE, *landlock.later()) if self._service.writable else ()))
        return {**super().opened(setpriv), SHARE_PLACE: ",".join(words), _NR_OPEN: landlock.READ}

    @override
    def process_limits(self) -> dict[int, int]:
        limits = super().process_limits()
        # one for each file that a guest has looked at and not forgotten
        limits[resource.RLIMIT_NOFILE] = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        written = self._service.written
        limits[resource.RLIMIT_FSIZE] = resource.RLIM_INFINITY if written is None else written
        return limits


class BubblewrapJail(Jail):
    """Sandboxes made by bubblewrap."""

    def __init__(self, pool: UidPool, cache: Directory) -> None:
        """`cache` keeps which libraries a program has."""
        self._pool = pool
        self._cache = cache

    def sweep(self) -> None:
        """Clean up what supervisors that were killed left."""
        self._pool.sweep()

    @override
    def sandbox(self, files: Sequence[str], spec: LaunchSpec, invocation: Invocation) -> BubblewrapSandbox:
        """A sandbox; `RefusedError` besides for files of the root that others could change, and [limit-unavailable]."""
        filter_ = seccomp.program(_profile(spec))
        limits = Limits.of(spec, invocation)
        return BubblewrapSandbox(self._parts(invocation.argv[0], files, limits, own_uid=True), filter_)

    @override
    def service(self, service: Service) -> ShareSandbox:
        """A sandbox for it; `RefusedError` as `sandbox` says."""
        filter_ = seccomp.program(FILE_SERVER_COUNTED if service.counted else FILE_SERVER)
        limits = Limits.of_service(service.memory)
        parts = self._parts(service.program, service.files, limits, own_uid=False)
        return ShareSandbox(parts, filter_, service)

    @override
    def network(self, service: NetworkService) -> NetworkSandbox:
        """A sandbox for it, with a uid of its own where every user may read the code; `RefusedError` as `sandbox`."""
        filter_ = seccomp.program(DIALER if service.dials else GATEWAY)
        limits = Limits.of_network(service.memory)
        code = (os.readlink(f"/proc/self/fd/{fd}") for fd in service.code.values())  # noqa: PTH115 - a descriptor's
        own_uid = all(map(is_readable_by_all, code))
        if not own_uid:
            log.info("jail", "gateway and dialer keep their caller's uid: not every user may read mvm's code")
        files = libraries(find_extension(service.program, "_ctypes"), self._cache)
        parts = self._parts(service.program, files, limits, own_uid=own_uid)
        return NetworkSandbox(parts, filter_, service)

    def _parts(self, program: str, files: Sequence[str], limits: Limits, *, own_uid: bool) -> SandboxParts:
        tools = SandboxTools.find()
        programs = (program,) if tools.setpriv is None else (program, tools.setpriv)
        root = Root.of(programs, files, self._cache)
        limits = _enforceable(limits, tools.cgroups)
        self._pool.sweep()
        lease = self._pool.take(own_uid=own_uid)
        try:
            lease.note(tools.cgroups.paths(lease.name))
            return SandboxParts(lease, tools, root, limits, tools.cgroups.group(lease.name, limits.group))
        except OSError as error:
            lease.release()
            hint = "`mvm doctor` says which control groups can be used"
            raise MvmnixError(f"{error.filename} can't be made: {error.strerror}", hint=hint) from error
        except BaseException:
            lease.release()
            raise


def _profile(spec: LaunchSpec) -> Profile:
    """What the hypervisor of this machine calls, and no more."""
    if spec.network is None:
        return HYPERVISOR_WITH_SHARES if spec.is_served else HYPERVISOR
    return HYPERVISOR_WITH_SHARES_AND_NETWORK if spec.is_served else HYPERVISOR_WITH_NETWORK


def _enforceable(limits: Limits, cgroups: ControlGroups) -> Limits:
    """What a plan asks for is enforced or refused: RefusedError [limit-unavailable]."""
    if limits.demanded and Controller.CPU not in cgroups.controllers:
        why = "this process may make no control group that limits processor time"
        hint = "see `mvm doctor` for how to get one, or make a plan without --cpu-percent and --cpu-weight"
        raise refuse(ReasonCode.LIMIT_UNAVAILABLE, "the plan's limits", why, hint)
    return limits
