"""The launcher's program: leaves its starter behind, imports what starts machines once, and serves callers.

It is started by `api.launchers` alone, isolated, in `/`, with listed variables. It parses nothing, and holds no key, no
secret and no policy: each request is read by a fork of it.
"""

import gc
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mvmnix.launch.control import launcher_socket
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launcher import server, session
from mvmnix.launcher.held_templates import HeldTemplates
from mvmnix.launcher.pools import Pools
from mvmnix.system import prctl, process_identity
from mvmnix.system.descriptors import close_listening
from mvmnix.system.private_dirs import Directory
from mvmnix.system.roots import Roots

#: What a fork would otherwise import by itself, each time.
_IMPORTED: Final = (
    "mvmnix.launcher.start",
    "mvmnix.launcher.waiting",
    "mvmnix.launcher.pool_requests",
    "mvmnix.launch.container.run",
    "mvmnix.api.failure_log",
    "mvmnix.machines.names",
    "mvmnix.network.host.setup",
    "mvmnix.provenance.policy.policy_files",
    "shutil",
)


def main(kind: str, *arguments: str) -> None:
    """Be a launcher: `shared` for the callers of a key, `private` for the one at the other end of a descriptor."""
    os.umask(0o077)
    if kind == "private":
        (descriptor,) = arguments
        _serve_private(int(descriptor))
    else:
        key, reply_fd = arguments
        _serve_shared(key, int(reply_fd))


def _serve_private(descriptor: int) -> None:
    """Serve one caller in this process itself, which stays the caller's child."""
    check = CallerCheck.for_parent()
    prctl.set_dumpable(dumpable=False)
    session.serve(socket.socket(fileno=descriptor), check)


def _serve_shared(key: str, reply_fd: int) -> None:
    """Serve the callers of a key, once this process keeps nothing of the caller that started it."""
    if os.fork():
        os._exit(0)  # the starter waits for this process, and not for a launcher
    os.setsid()
    process_identity.reset_soft_limits()
    with Roots.from_environment(os.environ) as roots, roots.state.child(launcher_socket.DIRECTORY) as directory:
        check = CallerCheck.of_this_process()

        def find_key() -> str:
            return launcher_socket.launcher_key(check.own, roots, os.environ)

        if find_key() != key:
            _say(reply_fd, "this program's files, limits or directories changed meanwhile: start it once more")
            return
        if (lock := launcher_socket.lock(directory, key)) is None:
            _say(reply_fd, "ready")  # there is one
            return
        prctl.set_dumpable(dumpable=False)
        with lock:
            _listen(directory, key, check, reply_fd, find_key)


def _listen(directory: Directory, key: str, check: CallerCheck, reply_fd: int, find_key: Callable[[], str]) -> None:
    with launcher_socket.listen(directory, key) as listening:
        _say(reply_fd, "ready")
        _import()
        if not _is_still(key, find_key):  # what was imported is of two states of the code: callers try again
            close_listening(listening)
            launcher_socket.forget(directory, key)
            return
        gc.collect()
        gc.freeze()  # forks share what was imported, and no collection writes to it
        try:
            held, pools = HeldTemplates(), Pools()
            server.Server(
                listening,
                lambda connection: session.serve(connection, check, held, pools),
                held,
                pools,
                wait=lambda end, plan: _wait(end, plan, check, held),
                is_current=lambda: _is_still(key, find_key),
            ).run()
        finally:
            launcher_socket.forget(directory, key)


def _wait(end: socket.socket, plan: int, check: CallerCheck, held: HeldTemplates) -> int:
    """Supervise a machine that waits, in a fork, which has this module already."""
    from mvmnix.launcher.waiting import wait_for_claim  # noqa: PLC0415 - after the starter was told

    return wait_for_claim(end, plan, check, held)


def _is_still(key: str, find_key: Callable[[], str]) -> bool:
    """Whether this launcher's key is what it was; also where that can't be told, for want of memory."""
    try:
        return find_key() == key
    except MemoryError:
        return True
    except OSError:  # files are gone
        return False


def _import() -> None:
    """Import what forks share. What fails here, for want of memory, fails in a fork again, which tells its caller."""
    import importlib  # noqa: PLC0415 - after the starter was told

    with suppress(ImportError, OSError, SyntaxError, MemoryError):
        for name in _IMPORTED:
            importlib.import_module(name)


def _say(reply_fd: int, words: str) -> None:
    """Tell the starter, which may be gone."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        os.write(reply_fd, f"{words}\n".encode())
    except OSError:
        return
    finally:
        os.close(reply_fd)
