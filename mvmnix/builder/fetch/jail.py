"""Runs git and Nix on bytes from strangers, in a jail without network, home or host files; nothing else runs here.

What a jailed program finds (bwrap(1)):

1. The system's programs and libraries, read-only, and the files that the caller names, read-only.
2. An empty `/work` in memory of a bounded size, gone with it: home, temporary directory and Nix store lie there.
3. No network device but a loopback of its own. A gateway's socket, where the caller names one, is the only way out.
4. Exactly the environment that is written here: no configuration of the user or the system, no hooks, no prompts.
5. Namespaces of its own for everything, no capability, a number that isn't the caller's; it dies with the caller.
6. Limits on time, memory, processes and the size of each file, what it says on stdout and stderr included.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from mvmnix import process
from mvmnix.sandbox import bubblewrap
from mvmnix.sandbox.trusted_executables import BUBBLEWRAP, locate

#: Where a jailed program works; everything that it writes stays there.
WORK: Final = "/work"
_HOME, _TEMPORARY = f"{WORK}/home", f"{WORK}/temporary"
#: Where the gateway's socket appears, if there is one.
GATEWAY: Final = "/gateway"

_MIB: Final = 1 << 20
#: A program says no more than this on stderr, in bytes; nobody reads more.
_STDERR: Final = 64 << 10
#: What belongs to the system besides /usr: links of merged directories (or what they were), Nix's own programs,
#: certificates, and the loader's cache.
_SYSTEM: Final = ("/bin", "/lib", "/lib32", "/lib64", "/sbin", "/nix/store", "/run/current-system")
_SETTINGS: Final = ("/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/alternatives", "/etc/ld.so.cache")
#: The jail's own Nix: a store of its own, no substituter, no registry, no user's or system's configuration.
_NIX_CONFIG: Final = "\n".join(
    (
        "experimental-features = nix-command flakes",
        "build-users-group =",
        "substitute = false",
        "flake-registry =",
        "use-registries = false",
        "accept-flake-config = false",
        f"store = {WORK}/store",
    )
)
#: Git without configuration, hooks, helpers, prompts, filters of a user's choice, or protocols beside http.
_GIT_CONFIG: Final = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "credential.helper": "",
    "protocol.allow": "never",
    "protocol.https.allow": "always",
    "protocol.http.allow": "always",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.fsckObjects": "true",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "safe.bareRepository": "all",
}
_ENVIRONMENT: Final = {
    "PATH": "/usr/bin:/bin:/usr/sbin:/sbin:/run/current-system/sw/bin",
    "HOME": _HOME,
    "TMPDIR": _TEMPORARY,
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "NIX_CONF_DIR": f"{WORK}/none",
    "NIX_USER_CONF_FILES": "",
    "NIX_CONFIG": _NIX_CONFIG,
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a jailed program may take: wall time in seconds, processes, and sizes in bytes.

    `room` is for all of its files, `memory` the address space of each process, `output` what it says on stdout. The
    kernel exempts root's children from the number of processes (kernel/fork.c); time ends them too.
    """

    seconds: float = 900
    room: int = 2048 * _MIB
    memory: int = 4096 * _MIB
    output: int = 2048 * _MIB
    processes: int = 256


@dataclass(frozen=True, slots=True)
class Jail:
    """What is put into a jail besides the system.

    `files` are the caller's, by their path inside; `gateway` a listening unix socket that speaks SOCKS 5 (RFC 1928),
    on which curl and git connect; `git` more configuration, which goes through the environment and so may be secret.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    gateway: Path | None = None
    git: Mapping[str, str] = field(default_factory=dict)
    bounds: Bounds = Bounds()

    def run(self, *argv: str, output: IO[bytes] | None = None) -> process.Completed:
        """Run a program; as `script` does."""
        return self.script('exec "$@"', *argv, output=output)

    def script(self, script: str, *arguments: str, output: IO[bytes] | None = None) -> process.Completed:
        """Run a constant script of ours by the system's sh; whatever varies is among the `arguments`, never in it.

        What it says on stdout goes to the file `output`, if one is given. Raises process.ProcessError when it fails,
        takes too long or says too much, and MvmnixError where there is no bubblewrap.
        """
        argv = (*_bubblewrap(), *self._mounts(), "--", *self._limits(), "/bin/sh", "-euc", script, "sh", *arguments)
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
            stdout = said if output is None else output
            try:
                done = process.run(
                    argv,
                    env=self._environment(),
                    timeout=self.bounds.seconds,
                    check=False,
                    stdout=stdout,
                    stderr=complained,
                )
            except process.ProcessError as error:
                raise process.ProcessError(_shown(error.done, script, arguments, complained)) from error
            done = _shown(done, script, arguments, complained)
            if done.status != 0:
                raise process.ProcessError(done)
            said.seek(0)
            return process.Completed(done.argv, done.status, said.read(), done.stderr)

    def _mounts(self) -> tuple[str, ...]:
        gateway = {GATEWAY: self.gateway} if self.gateway else {}
        given = [
            word
            for inside, path in sorted((dict(self.files) | gateway).items())
            for word in ("--ro-bind", str(path), inside)
        ]
        room = ("--size", str(self.bounds.room), "--tmpfs", WORK, "--dir", _HOME, "--dir", _TEMPORARY)
        # read-only at last: both are memory too, and of no bounded size
        return (*given, *room, "--chdir", WORK, "--remount-ro", "/dev", "--remount-ro", "/")

    def _limits(self) -> tuple[str, ...]:
        bounds = self.bounds
        return (
            *("prlimit", "--core=0", f"--fsize={max(bounds.output, _STDERR)}", f"--nproc={bounds.processes}"),
            *("--nofile=1024", f"--as={bounds.memory}"),
        )

    def _environment(self) -> dict[str, str]:
        """All of it: bubblewrap passes its own on, and so nothing of it stands on a command line."""
        config = _GIT_CONFIG | dict(self.git)
        pairs = {"GIT_CONFIG_COUNT": str(len(config))}
        for number, (name, value) in enumerate(config.items()):
            pairs |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        proxy = {"ALL_PROXY": f"socks5h://localhost{GATEWAY}"} if self.gateway else {}
        return _ENVIRONMENT | pairs | proxy


def _bubblewrap() -> tuple[str, ...]:
    return (
        *(locate(BUBBLEWRAP), *bubblewrap.FLOOR, "--disable-userns"),
        *("--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"),
        *(word for path in _SYSTEM for word in _system(path)),
        *(word for path in _SETTINGS if Path(path).exists() for word in ("--ro-bind", path, path)),
    )


def _system(path: str) -> tuple[str, ...]:
    """A directory of the system as it is there: a link or a place of its own."""
    here = Path(path)
    if here.is_symlink():
        return ("--symlink", str(here.readlink()), path)
    return ("--ro-bind", path, path) if here.is_dir() else ()


def _shown(done: process.Completed, script: str, arguments: Sequence[str], complained: IO[bytes]) -> process.Completed:
    """How it ended, without the jail's own arguments, which would bury the rest."""
    complained.seek(0)
    stderr = complained.read(_STDERR) or done.stderr
    return process.Completed(("sh", "-euc", script, "sh", *arguments), done.status, b"", stderr)
