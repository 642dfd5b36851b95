"""The only writer of the words that make a helper's sandbox: of setpriv, unshare, bubblewrap and sh.

It starts nothing. Numbers are those of helper.py.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mvmnix.sandbox import bubblewrap, git, landlock
from mvmnix.sandbox.child import GATE
from mvmnix.sandbox.trusted_executables import Candidates, locate
from mvmnix.system import process

#: Where a helper works; what it writes stays there, and is gone with it.
WORK: Final = "/work"
HOME, TEMPORARY = f"{WORK}/home", f"{WORK}/temporary"
#: Where the gateway's socket is, if there is one.
GATEWAY: Final = "/gateway"
SH: Final = Candidates("sh", ("/bin/sh",), "apt-get install dash")
UNSHARE: Final = Candidates("unshare", ("/usr/bin/unshare",), "apt-get install util-linux")

_MIB: Final = 1 << 20
_DESCRIPTORS: Final = 1024
#: Bytes in what `ulimit` counts (POSIX, ulimit): files in blocks, memory in KiB.
_BLOCK, _KIB = 512, 1024
#: A script for sh(1): the limits that its first arguments name, soft and hard. By a program of its own a spawn would
#: take 0.9 ms more. Processes are `-u` for bash and `-p` for dash.
_LIMITS: Final = (
    'ulimit -c 0 && ulimit -f "$1" && ulimit -n "$2" && ulimit -v "$3" || exit 125\n'
    '{ ulimit -u "$4" || ulimit -p "$4"; } 2>/dev/null || exit 125\n'
    "shift 4\n"
)
#: What all helpers have in their environment: whichever of them starts git, git's settings are mvm's.
_ENVIRONMENT: Final = {"PATH": process.PATH, "HOME": HOME, "TMPDIR": TEMPORARY, "LC_ALL": "C"} | git.environment()
#: What the kernel tells of keys and memory that aren't a helper's (proc(5)).
_HIDDEN: Final = ("/proc/keys", "/proc/key-users", "/proc/kcore", "/proc/timer_list")
_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
#: Directories beside /usr, or links into it (merged directories).
_DIRECTORIES: Final = ("/bin", "/lib", "/lib32", "/lib64", "/sbin")
#: NixOS has its programs there; elsewhere the store holds what users built, and isn't shown.
_NIXOS: Final = ("/nix/store", "/run/current-system")
#: Certificates, links of programs' names, the loader's cache.
_SETTINGS: Final = ("/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/alternatives", "/etc/ld.so.cache")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a helper may take: wall time in seconds, processes, and sizes in bytes.

    `room` is for all of its files, `memory` the address space of each process, `output` what it writes to standard
    output, and the size of each file. Of memory, its processes and files take no more than `memory_of_all` together
    where a control group can be made.
    """

    seconds: float = 900
    room: int = 2048 * _MIB
    memory: int = 4096 * _MIB
    output: int = 2048 * _MIB
    processes: int = 256

    @property
    def memory_of_all(self) -> int:
        """All of its files, and one process that has its whole address space."""
        return self.room + self.memory


@dataclass(frozen=True, slots=True)
class Programs:
    """What makes a sandbox, by absolute paths."""

    bubblewrap: str
    sh: str
    setpriv: str
    unshare: str

    @classmethod
    def find(cls) -> Self:
        """Raises MvmnixError where one is missing, RefusedError [state-permissions] when others could change one."""
        return cls(*map(locate, (bubblewrap.BUBBLEWRAP, SH, landlock.SETPRIV, UNSHARE)))


@dataclass(frozen=True, slots=True)
class Command:
    """What one helper is given: its files by their path inside, its bounds."""

    programs: Programs
    files: Mapping[str, Path | int | bytes]
    bounds: Bounds

    def words(self, binds: tuple[str, ...], filter_: int) -> tuple[str, ...]:
        """What stands before the helper's own words.

        `binds` are bubblewrap's for its files, `filter_` a descriptor of its filter (seccomp.py).
        """
        return (*self._process_one(), *self._bubblewrap(binds, filter_), "--", *self._inside())

    def _process_one(self) -> tuple[str, ...]:
        """Have bubblewrap itself be process 1 of a PID namespace: with it the kernel kills all others at once.

        bubblewrap's own namespace, within that one, isn't enough: killed while it sets up, it leaves a child that
        waits for it for ever. It looks for that child in /proc by its number, so there is one of this namespace.
        """
        namespaces = ("--user", "--map-current-user", "--pid", "--mount-proc")
        return (
            *(self.programs.setpriv, "--pdeathsig", "KILL", "--"),
            *(self.programs.unshare, *namespaces, "--fork", "--kill-child=KILL", "--"),
        )

    def _bubblewrap(self, binds: tuple[str, ...], filter_: int) -> tuple[str, ...]:
        room = ("--size", str(self.bounds.room), "--tmpfs", WORK, "--dir", HOME, "--dir", TEMPORARY)
        return (
            # 3. namespaces
            *(self.programs.bubblewrap, *bubblewrap.FLOOR, "--disable-userns"),
            # 4. the root; read-only at last: it and /dev are memory too, and of no bounded size
            *(*_system_mounts(), "--proc", "/proc", "--dev", "/dev", *room, *binds, "--chdir", WORK),
            *(word for path in _HIDDEN if Path(path).exists() for word in ("--ro-bind", "/dev/null", path)),
            *(word for path in ("/proc", "/dev", "/") for word in ("--remount-ro", path)),
            # 5. the filter
            *("--seccomp", str(filter_)),
        )

    def _inside(self) -> tuple[str, ...]:
        """The programs that run one after another in the sandbox before the helper does."""
        bounds = self.bounds
        limits = (-(-bounds.output // _BLOCK), _DESCRIPTORS, bounds.memory // _KIB, bounds.processes)
        return (
            # 6. Landlock
            *(landlock.command(self.programs.setpriv, self._rules()) if landlock.abi() else ()),
            # 7. limits
            *(self.programs.sh, "-c", _LIMITS + GATE, "sh", *map(str, limits)),
        )

    def _rules(self) -> dict[str, str]:
        """By path, what Landlock lets it do there."""
        files: dict[str, Path | int | bytes] = {str(path): path for path in _mounted()} | dict(self.files)
        shown = {inside: landlock.SHOWN if _is_directory(path) else landlock.EXECUTE for inside, path in files.items()}
        devices = {f"/dev/{name}": landlock.WRITE for name in _DEVICES}
        return {"/": landlock.LIST_ONLY, **shown, **devices, "/proc": landlock.LIST, WORK: landlock.own()}


def environment(own: Mapping[str, str], *, gateway: bool) -> dict[str, str]:
    """8. all of a helper's variables, with its `own`; bubblewrap passes them on."""
    proxy = {"ALL_PROXY": f"socks5h://localhost{GATEWAY}"} if gateway else {}
    return _ENVIRONMENT | proxy | dict(own)


def _is_directory(path: Path | int | bytes) -> bool:
    return not isinstance(path, bytes) and stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 - or a descriptor


def _system_mounts() -> tuple[str, ...]:
    """The words that have bubblewrap mount what a helper sees of the host's system, read-only (bwrap(1))."""
    links = [path for path in _places() if path.is_symlink()]
    return (
        *(word for path in _mounted() for word in ("--ro-bind", str(path), str(path))),
        *(word for path in links for word in ("--symlink", str(path.readlink()), str(path))),
    )


def _mounted() -> Iterator[Path]:
    """The directories and files of it, by their names on both sides: programs, libraries, certificates."""
    yield from (path for path in _places() if path.is_dir() and not path.is_symlink())
    yield from (path for path in map(Path, _SETTINGS) if path.exists())


def _places() -> Iterator[Path]:
    nixos = _NIXOS if Path(_NIXOS[1]).exists() else ()
    yield from (Path("/usr"), *map(Path, (*_DIRECTORIES, *nixos)))
