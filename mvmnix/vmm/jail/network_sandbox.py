"""The sandbox of a process of a machine's network, the gateway or the dialer: Python and mvm's own code are in there.

It is a hypervisor's sandbox (jail.py) but for five things: its root holds Python's library and directories of code,
read-only; files of settings lie there as they were when it was made; its filter of system calls is of its own, and it
stacks another one upon that before it serves (sandbox/profiles/network.py); the dialer is in the host's network; and
where a user's subordinate uid couldn't read the code, it has the caller's uid.
"""

import functools
import os
import resource
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, override

from mvmnix.errors import MvmnixError
from mvmnix.sandbox import landlock
from mvmnix.sandbox.trusted_executables import check_program
from mvmnix.system.store import memfd
from mvmnix.vmm.confinement import NetworkService
from mvmnix.vmm.jail.sandbox import BubblewrapSandbox, SandboxParts

#: Where Python's library is, by the name of its program without links.
_LIBRARY: Final = "/usr/lib"
#: What everybody may do with a directory: list it, and get into it.
_LISTED: Final = stat.S_IROTH | stat.S_IXOTH


class NetworkSandbox(BubblewrapSandbox):
    """One such sandbox."""

    def __init__(self, parts: SandboxParts, filter_: bytes, service: NetworkService) -> None:
        """Made by `BubblewrapJail.network` only. Raises RefusedError [state-permissions], OSError, MvmnixError."""
        self._service = service
        self._library = check_program(_find_library(service.program))
        self._settings = {inside: memfd(data, name="mvmnix-settings") for inside, data in service.settings.items()}
        super().__init__(parts, filter_)

    @property
    @override
    def directories(self) -> tuple[int, ...]:
        return tuple(self._service.code.values())

    @property
    @override
    def descriptors(self) -> tuple[int, ...]:
        code = tuple(self._service.code.values()) if self._entry is None else ()
        return (*super().descriptors, *code, *self._settings.values())

    @property
    @override
    def floor(self) -> tuple[str, ...]:
        return (*super().floor, *(("--share-net",) if self._service.dials else ()))

    @property
    @override
    def mounts(self) -> tuple[str, ...]:
        service = self._service
        if self._entry is None:
            code = [("--ro-bind-fd", str(fd), inside) for inside, fd in service.code.items()]
        else:
            code = [("--ro-bind", path, inside) for path, inside in zip(self._entry.paths, service.code, strict=True)]
        settings = [("--ro-bind-data", str(fd), inside) for inside, fd in self._settings.items()]
        words = (word for three in (*code, *settings) for word in three)
        return (*super().mounts, "--ro-bind", self._library, self._library, *words)

    @override
    def opened(self, setpriv: str) -> dict[str, str]:
        above = {os.path.dirname(inside): landlock.LIST_ONLY for inside in self._service.code}  # noqa: PTH120 - a text
        directories = dict.fromkeys((self._library, *self._service.code), landlock.LIST)
        settings = dict.fromkeys(self._settings, landlock.READ)
        return {**super().opened(setpriv), **above, **directories, **settings}

    @override
    def process_limits(self) -> dict[int, int]:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return {
            **super().process_limits(),
            # what it can't have, it refuses; beyond the group's memory the kernel would end it
            resource.RLIMIT_DATA: self._service.memory,
            resource.RLIMIT_NOFILE: min(hard, self._service.descriptors),
            # bubblewrap writes them, in memory; what it starts has no file that it may write
            resource.RLIMIT_FSIZE: max(map(len, self._service.settings.values()), default=0),
        }

    @override
    def release(self) -> None:
        settings, self._settings = self._settings, {}
        for fd in settings.values():
            os.close(fd)
        super().release()


def find_extension(python: str, name: str) -> str:
    """Find the file of a compiled module of Python's own. Raises MvmnixError without one."""
    found = next(Path(_find_library(python), "lib-dynload").glob(f"{name}.*.so"), None)
    if found is None:
        raise MvmnixError(f"{python} has no module {name}", hint="apt-get install python3")
    return str(found)


@functools.cache
def is_readable_by_all(directory: str) -> bool:
    """Whether every user who gets into a directory of code may read it, and the modules at any depth.

    Not if it can't be told. It is asked for a gateway, and again for its dialer.
    """
    with suppress(OSError), os.scandir(directory) as entries:
        if os.stat(directory).st_mode & _LISTED != _LISTED:  # noqa: PTH116 - a text
            return False
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__" and not is_readable_by_all(entry.path):
                    return False
            elif entry.name.endswith(".py") and not entry.stat().st_mode & stat.S_IROTH:
                return False
        return True
    return False


def _find_library(python: str) -> str:
    return f"{_LIBRARY}/{Path(os.path.realpath(python)).name}"
