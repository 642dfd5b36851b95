"""Finds the launcher that starts machines for this process, or starts one; ends launchers, and lists them.

A launcher is shared by callers that could do the same by themselves (launch/control/launcher_socket.py). A process that
is confined, or that can't be compared with others, gets one of its own, which is its child and serves it once: whatever
confines it confines that too.
"""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from mvmnix.errors import MvmnixError
from mvmnix.launch.control import launcher_socket
from mvmnix.launch.control.connection import Connection, ConnectionLostError
from mvmnix.system import own_interpreter, prctl, process
from mvmnix.system.descriptors import ask_for_senders
from mvmnix.system.private_dirs import Directory
from mvmnix.system.process import Child, is_readable
from mvmnix.system.process_identity import ProcessIdentity, is_thread_confined
from mvmnix.system.roots import Roots

#: The program (launcher/main.py).
_MODULE: Final = "mvmnix.launcher.main"
#: Seconds that a launcher has to listen, on a loaded machine.
_PATIENCE: Final = 60.0
#: Seconds that one has to end.
_END: Final = 5.0
#: Attempts to reach one that ends at this very moment, or that another process starts.
_TRIES: Final = 5

#: Private launchers that were started here and may have ended.
_children: list[Child] = []


def reach(roots: Roots, *, private: bool) -> Connection:
    """Connect to a launcher: the shared one, started where there is none; with `private` one of this process's own.

    A shared one that this process can't be sure of is passed over for one of its own. Raises ConnectionLostError.
    """
    reap()
    identity = ProcessIdentity.read(os.getpid())
    if private or identity.is_confined or is_thread_confined() or not prctl.is_dumpable():
        return _start_private(roots)
    key = launcher_socket.launcher_key(identity, roots, os.environ)
    with roots.state.child(launcher_socket.DIRECTORY) as directory:
        for _ in range(_TRIES):
            if (found := launcher_socket.connect(directory, key)) is None:
                _start_shared(roots, key)
                continue
            connection, launcher = found
            if _is_like(identity, launcher):
                return Connection(connection)
            connection.close()
            return _start_private(roots)
    return _start_private(roots)


def _is_like(identity: ProcessIdentity, launcher: int) -> bool:
    """Whether a process has this identity, as far as that of a launcher can be read, which isn't dumpable.

    In this process's user namespace, without capabilities and without no-new-privileges, no process of this user's gets
    other mounts, another root directory or a Landlock domain by itself.
    """
    try:
        return identity.public == ProcessIdentity.read_public(launcher)
    except OSError:
        return False


def _start_shared(roots: Roots, key: str) -> None:
    """Start the launcher of this key, and wait until it or another one listens. Raises ConnectionLostError."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        child = _spawn(roots, ("shared", key, str(writing)), writing)
    finally:
        os.close(writing)
    try:
        child.wait()  # it forks at once, and leaves its parent's family
        if not is_readable(reading, _PATIENCE):
            raise ConnectionLostError(
                "the launcher doesn't begin to listen", hint="see `mvm doctor`, or: --private-launcher"
            )
        words = os.read(reading, 1024)
    finally:
        os.close(reading)
    if words and words != b"ready\n":
        why = words.decode(errors="replace").strip()
        raise ConnectionLostError(f"no launcher can be started: {why}", hint="see `mvm doctor`, or: --private-launcher")


def _start_private(roots: Roots) -> Connection:
    """Start a launcher that is this process's child, and serves this one connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ask_for_senders(theirs)
        try:
            _children.append(_spawn(roots, ("private", str(theirs.fileno())), theirs.fileno()))
        except BaseException:
            ours.close()
            raise
    return Connection(ours)


def _spawn(roots: Roots, arguments: tuple[str, ...], descriptor: int) -> Child:
    variables = {**launcher_socket.kept_variables(os.environ, roots), **process.FIXED}
    argv = own_interpreter.command(_MODULE, "main", *arguments)
    return process.spawn(argv, env=variables, pass_fds=(descriptor,))


def reap() -> None:
    """Collect the exit status of private launchers that have ended, so that they leave no zombie."""
    _children[:] = [child for child in _children if child.poll() is None]


@dataclass(frozen=True, slots=True)
class Launcher:
    """A launcher that runs, by its key and process id (0: it can't be seen from here)."""

    key: str
    process: int


def list_launchers(roots: Roots) -> tuple[Launcher, ...]:
    """Return the launchers of these directories that run."""
    with roots.state.child(launcher_socket.DIRECTORY) as directory:
        return tuple(_running(directory))


def stop_launchers(roots: Roots) -> Iterator[Launcher]:
    """End them, and yield each; the machines that they started go on. Raises MvmnixError for one that doesn't end."""
    with roots.state.child(launcher_socket.DIRECTORY) as directory:
        for launcher in tuple(_running(directory)):
            if launcher.process == 0:
                why = f"the launcher {launcher.key} lives in another PID namespace"
                raise MvmnixError(why, hint="stop it from where it was started")
            with suppress(ProcessLookupError):
                os.kill(launcher.process, signal.SIGTERM)
            deadline = time.monotonic() + _END
            while launcher_socket.holder(directory, launcher.key) == launcher.process:
                if time.monotonic() > deadline:
                    raise MvmnixError(f"the launcher doesn't end (process {launcher.process})", hint="see dmesg")
                time.sleep(0.01)
            yield launcher


def _running(directory: Directory) -> Iterator[Launcher]:
    for key in launcher_socket.keys(directory):
        if (found := launcher_socket.holder(directory, key)) is not None:
            yield Launcher(key, found)
