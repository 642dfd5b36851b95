"""The only starter of a machine's gateway and dialler: sandboxed, beside the hypervisor, and gone with it.

Each is given mvm's code, read-only; the plan's network and the filter of system calls that it serves under, in memory;
its sockets. The gateway also has the code of the libraries that it parses by; the dialler the settings of the host's
resolver, as they were when the machine started.
"""

import importlib.util
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import mvmnix
from mvmnix.errors import MvmnixError
from mvmnix.launch.vmm.confinement import Jail, NetworkService, ProcessSandbox
from mvmnix.launch.vmm.port import Invocation
from mvmnix.launch.vmm.process import HypervisorProcess
from mvmnix.launch.vmm.service_process import ServiceProcess
from mvmnix.sandbox import seccomp
from mvmnix.sandbox.profiles.network import DIALLER_SERVING, GATEWAY_SERVING
from mvmnix.store import memfd

_CODE: Final = "/code"
#: asyncio does without ssl where there is none, and is imported sooner.
_START: Final = f"""
import sys
sys.modules["ssl"] = None
sys.path.append({_CODE!r})
from mvmnix.launch.network.%s import main
main(*map(int, sys.argv[1:]))
"""
_MIB: Final = 1 << 20
#: Libraries that the gateway parses by; the dialler needs none.
LIBRARIES: Final = ("dns", "h11")
#: What the C library's resolver reads (resolver(5), nsswitch.conf(5), gai.conf(5)).
_RESOLVER: Final = "/etc/resolv.conf"
_SETTINGS: Final = (_RESOLVER, "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/host.conf")
_LARGEST_SETTING: Final = 1 << 20
#: Descriptors: a connection has its two sockets, and a pipe for each direction in which bytes wait.
DESCRIPTORS: Final = 8192
GATEWAY_MEMORY: Final = 256 * _MIB
DIALLER_MEMORY: Final = 128 * _MIB


class NetworkProcess(ServiceProcess):
    """A gateway or a dialler: made first, started beside the hypervisor."""

    def __init__(self, jail: Jail, module: str, service: NetworkService) -> None:
        """Raises what `Jail.network` raises."""
        super().__init__()
        self.module, self._service = module, service
        self._sandbox: ProcessSandbox = jail.network(service)

    def start(self, descriptors: tuple[int, ...]) -> None:
        """Start it with these, which stay the caller's. Raises ProcessError."""
        profile = DIALLER_SERVING if self._service.dials else GATEWAY_SERVING
        with os.fdopen(memfd(seccomp.program(profile), name="mvmnix-filter"), "rb") as filter_:
            given = (filter_.fileno(), *descriptors)
            argv = (self._service.program, "-I", "-S", "-c", _START % self.module, *map(str, given))
            self._process = HypervisorProcess.spawn(Invocation(argv, ()), given, self._sandbox)

    def close(self) -> None:
        """End it, and let go of all that it had."""
        if self._process is None:
            self._sandbox.release()
        else:
            self._process.close()


def code(*libraries: str) -> Mapping[str, int]:
    """By their paths inside, descriptors of directories of code, mvm's own among them; the caller closes them.

    Raises MvmnixError.
    """
    places = {"mvmnix": str(Path(mvmnix.__file__).parent)}
    for name in libraries:
        found = importlib.util.find_spec(name)
        if found is None or not found.submodule_search_locations:
            raise MvmnixError(
                f"the Python package {name} is missing", hint="install mvmnix again, with its dependencies"
            )
        places[name] = found.submodule_search_locations[0]
    return {
        f"{_CODE}/{name}": os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for name, path in places.items()
    }


def settings() -> Mapping[str, bytes]:
    """The files of the host's resolver, as they are now, but for its search list (resolv.conf(5)).

    A name with a dot is what the rules say that it is; with a list, the resolver would try other names once it isn't
    found. The last such line counts, and a dot is the root.
    """
    found = dict(host_settings())
    found[_RESOLVER] = found.get(_RESOLVER, b"") + b"\nsearch .\n"
    return found


def host_settings() -> Mapping[str, bytes]:
    """The files that the host's own programs resolve names by."""
    found: dict[str, bytes] = {}
    for path in _SETTINGS:
        with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123
            found[path] = file.read(_LARGEST_SETTING)
    return found
