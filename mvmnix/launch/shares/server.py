"""The only place that knows virtiofsd's command line, and the process that runs it: one for each share, never root's.

virtiofsd speaks vhost-user with the hypervisor (virtio-fs, virtio 1.2, section 5.11), which hands it the memory of the
guest; its --sandbox is none since the sandbox around it is a stricter one (vmm/jail/jail.py).
"""

import os
from typing import Final

from mvmnix.digest import Digest
from mvmnix.model import User
from mvmnix.sandbox import trusted_executables
from mvmnix.sandbox.trusted_executables import Candidates
from mvmnix.system import procfs
from mvmnix.system.loop import Loop
from mvmnix.vmm.confinement import SHARE_PLACE, Jail, Service, ServiceSandbox
from mvmnix.vmm.port import Invocation
from mvmnix.vmm.process import JailedProcess, ServiceProcess

VIRTIOFSD: Final = Candidates(
    what="virtiofsd",
    paths=("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"),
    hint="apt-get install --no-install-recommends virtiofsd",
)
_EVERYBODY: Final = 2**32 - 1


def command(program: str, listening: int, *, inside: User, writable: bool) -> tuple[str, ...]:
    """Virtiofsd's arguments: whichever user writes in the guest, on the host it is always the server's own user."""
    return (
        *(program, "--fd", str(listening), "--shared-dir", SHARE_PLACE, "--sandbox", "none", "--seccomp", "kill"),
        *("--translate-uid", f"squash-guest:0:{inside.uid}:{_EVERYBODY}"),
        *("--translate-gid", f"squash-guest:0:{inside.gid}:{_EVERYBODY}"),
        *("--inode-file-handles=never", "--no-announce-submounts", "--log-level", "error"),
        *(() if writable else ("--readonly",)),
    )


class Server(ServiceProcess):
    """The server of one directory: made first, started beside the hypervisor, and gone with it.

    The kernel ends it with the thread that started it, as it does the hypervisor.
    """

    def __init__(self, jail: Jail, service: Service) -> None:
        """Takes over the service's directory. Raises what `Jail.service` raises."""
        super().__init__()
        self._service = service
        self._sandbox: ServiceSandbox = jail.service(service)
        try:
            #: `connection` is for the hypervisor.
            self._listening, self.connection = self._sandbox.listen()
        except BaseException:
            self._sandbox.release()
            raise

    def start(self) -> None:
        """Start it. Raises ProcessError."""
        fd, it = self._listening.fileno(), self._service
        argv = command(it.program, fd, inside=it.inside, writable=it.writable)
        self._process = JailedProcess.spawn(Invocation(argv, ()), (fd,), self._sandbox)
        self._listening.close()

    def written(self) -> int | None:
        """How many bytes it has written so far; 0 once it has ended, None where the kernel doesn't tell."""
        if (pid := self.pid) is None:
            return 0
        found = procfs.written(pid)
        return 0 if self.pid is None else found  # the number could have been another process's by then

    def entered(self) -> None:
        """Wait until it is virtiofsd, or has ended."""
        if self._process is not None:
            self._process.entered()

    @property
    def program(self) -> str:
        """The path of its program."""
        return self._service.program

    def release(self) -> None:
        """Close the hypervisor's end."""
        self.connection.close()

    def program_digest(self) -> Digest:
        """Of the program that really runs, or of its file where it has ended."""
        running = None if self._process is None else self._process.executable()
        return running or trusted_executables.digest(self._service.program)

    def close(self, loop: Loop | None = None) -> None:
        """End it, and let go of all that it had, once; `loop` watched it."""
        self._listening.close()
        self.connection.close()
        os.close(self._service.directory)
        if self._process is None:
            self._sandbox.release()
            return
        if loop is not None:
            self.forget(loop)
        self._process.close()
