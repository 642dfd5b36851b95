"""The sandbox of what serves a directory to a guest, or reads one for it: nothing else of the host is in there.

It is a hypervisor's sandbox (jail.py) but for six things: it has the caller's uid, as which it makes files; the
directory lies in its root; it looks like the guest's workload to itself; its filter of
system calls lets it make files (sandbox/profiles/file_server.py); Landlock lets it make and change files and
directories there, and nothing of any other kind; and where a plan bounds what it writes, no file becomes larger than
that, and what it writes can be counted.
"""

import os
import resource
import socket
from contextlib import suppress
from typing import Final, override

from mvmnix.launch.jail.sandbox import BubblewrapSandbox, SandboxParts
from mvmnix.launch.vmm.confinement import SHARE_PLACE, Service, ServiceSandbox
from mvmnix.sandbox import bubblewrap, landlock

#: Landlock's words for what is done beneath the directory (setpriv(1)).
_READ: Final = ("read-file", "read-dir")
_WRITE: Final = ("write-file", "remove-dir", "remove-file", "make-dir", "make-reg", "make-sym")
#: What servers read of the kernel: how many descriptors a process may have.
_NR_OPEN: Final = "/proc/sys/fs/nr_open"


class ShareSandbox(BubblewrapSandbox, ServiceSandbox):
    """One such sandbox."""

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
