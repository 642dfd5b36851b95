"""The sandbox of a process of a machine's network, the gateway or the dialler: Python and mvm's own code are in there.

It is a hypervisor's sandbox (jail.py) but for four things: its root holds Python's library and directories of code,
read-only, for those who may read them here; files of settings lie there as they were when it was made; its filter of
system calls is of its own (sandbox/profiles/network.py); and the dialler is in the host's network.
"""

import os
import resource
from pathlib import Path
from typing import Final, override

from mvmnix.launch.jail.sandbox import BubblewrapSandbox, SandboxParts
from mvmnix.launch.vmm import NetworkService
from mvmnix.privileges import client
from mvmnix.sandbox import check_program, landlock
from mvmnix.store import memfd

#: Where Python's library is, by the name of its program without links.
_LIBRARY: Final = "/usr/lib"


class NetworkSandbox(BubblewrapSandbox):
    """One such sandbox."""

    def __init__(self, parts: SandboxParts, filter_: bytes, service: NetworkService) -> None:
        """Made by `BubblewrapJail.network` only. Raises RefusedError [state-permissions], OSError, MvmnixError."""
        self._service = service
        program = os.path.realpath(service.program)
        self._library = check_program(f"{_LIBRARY}/{Path(program).name}")
        self._settings = {inside: memfd(data, name="mvmnix-settings") for inside, data in service.settings.items()}
        super().__init__(parts, filter_)

    @override
    def trees(self, uid: int) -> tuple[int, ...]:
        rights = client.current()
        return () if rights is None else tuple(rights.tree(fd, uid, None) for fd in self._service.code.values())

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
