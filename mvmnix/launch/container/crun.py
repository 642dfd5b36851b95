"""The only place that knows crun's and bubblewrap's command lines: how a container is unpacked and run; Preview.

crun runs inside a jail of bubblewrap's: programs of /usr read-only, no network, and a `/bundle` in memory of a bounded
size. There an unprivileged process without capabilities unpacks the image with erofs-utils, so that no kernel parses
its file system, and crun makes a container of it, in a user namespace. A filter of system calls
(sandbox/profiles/container.py) is around all of that. When bubblewrap ends, its process namespace
does, and all of that is gone: nothing of it was ever on a disk.
"""

from dataclasses import dataclass
from typing import Final, override

from mvmnix.errors import MvmnixError
from mvmnix.launch.container.oci_config import ROOT
from mvmnix.plan.backend import Backend
from mvmnix.sandbox.bubblewrap import BUBBLEWRAP, NOBODY
from mvmnix.sandbox.trusted_executables import Candidates, locate
from mvmnix.vmm.port import Acceleration, Hypervisor, Invocation, LaunchSpec, Monitor

CRUN: Final = Candidates("crun", ("/usr/bin/crun",), "apt-get install --no-install-recommends crun")
UNPACKER: Final = Candidates(
    "fsck.erofs", ("/usr/bin/fsck.erofs", "/usr/sbin/fsck.erofs"), "apt-get install erofs-utils"
)
PROGRAMS: Final = (CRUN, BUBBLEWRAP, UNPACKER)

#: What is needed beside the files of an image, in bytes, and how often compression may have made them smaller.
_ROOM: Final = 64 << 20
_RATIO: Final = 8
#: Arguments: the unpacker, image, marker, standard input, output and error as descriptors, crun. A whole /proc has to
#: be there for the kernel to let a user namespace mount one of its own. The marker gets an empty line once the image is
#: unpacked, and behind it what crun itself complains about, so that it is not taken for the command's output.
_SCRIPT: Final = f"""
mount -t proc proc /whole
setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \\
  prlimit --as=2147483648 --core=0 --cpu=300 \\
  "$1" -d0 --no-preserve-owner --preserve-perms --extract={ROOT} "/proc/self/fd/$2"
echo >"/proc/self/fd/$3"
exec "$7" --log="file:/proc/self/fd/$3" --root /bundle/state --cgroup-manager=disabled run --bundle /bundle mvm \\
  <"/proc/self/fd/$4" >"/proc/self/fd/$5" 2>"/proc/self/fd/$6"
"""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What a container's jail inherits: memfds of the image (sealed), config.json, the filter; ends of four pipes."""

    image: int
    configuration: int
    filter: int
    marker: int
    stdin: int
    stdout: int
    stderr: int

    @property
    def all(self) -> tuple[int, ...]:
        """Every one of them."""
        return (self.image, self.configuration, self.filter, self.marker, self.stdin, self.stdout, self.stderr)


@dataclass(frozen=True, slots=True)
class Crun(Hypervisor):
    """crun and what it needs, as absolute paths that only root can change. It stands where a hypervisor would."""

    executable: str
    bubblewrap: str
    unpacker: str

    @classmethod
    def find(cls) -> "Crun":
        """Those of this host. Raises MvmnixError when one is missing, RefusedError when others could change it."""
        return cls(*map(locate, PROGRAMS))

    @property
    @override
    def backend(self) -> Backend:
        return Backend.CONTAINER

    @property
    @override
    def firmware(self) -> tuple[str, ...]:
        return (self.bubblewrap, self.unpacker)

    @property
    @override
    def files(self) -> tuple[str, ...]:
        return ()

    @override
    def emulation(self, acceleration: Acceleration) -> None:
        """None: it saves no guest."""

    @override
    def monitor(self) -> Monitor:
        raise MvmnixError("a container has no monitor, as it is not a machine")

    @override
    def invocation(self, spec: LaunchSpec) -> Invocation:
        raise MvmnixError("a container isn't booted, as it is not a machine")

    def container(self, given: Descriptors, size: int) -> Invocation:
        """How a container is started whose image has `size` bytes."""
        pipes = map(str, (given.image, given.marker, given.stdin, given.stdout, given.stderr))
        argv = (
            *(self.bubblewrap, "--die-with-parent", "--new-session", "--cap-add", "ALL"),
            *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--hostname", "mvm"),
            *("--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/sbin", "/sbin"),
            *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"),
            *("--proc", "/proc", "--dir", "/whole", "--dev", "/dev", "--tmpfs", "/sys/fs/cgroup"),
            *("--size", str(size * _RATIO + _ROOM), "--tmpfs", "/bundle", "--perms", "0777", "--dir", "/bundle/room"),
            *("--perms", "0600", "--file", str(given.configuration), "/bundle/config.json", "--chdir", "/bundle"),
            *("--clearenv", "--setenv", "PATH", "/usr/bin:/usr/sbin", "--setenv", "LC_ALL", "C"),
            *("--seccomp", str(given.filter)),
            *("--", "/bin/sh", "-euc", _SCRIPT, "sh", self.unpacker, *pipes, self.executable),
        )
        return Invocation(argv, ())
