"""What is still done with root's rights once mvm has given them up: a list of requests, and the process that serves it.

There are these requests and no others, each done in a module of its own:

1. `namespace_of`, `container_namespace`: a user namespace with uids of mvm's own in it (user_namespaces.py).
2. `tree`: a mount of a file or directory that the caller has open, for a uid of the pool (tree.py).
3. `parents`, `make_group`, `add_to_group`, `remove_group`: control groups, with names of mvm's own
   (control_groups.py).
4. `io`: what a process of mvm's has written, which the kernel tells that process's uid alone.
5. `tun`: `/dev/net/tun`, open in a network namespace of mvm's own (tun.py).

A request is one packet: JSON, and descriptors, of which the first is the end of a socket pair for the answer. So
processes and threads that share the broker need no lock. It ends when no process is left that can ask it. It reads
nothing else, opens no file by a name that it is told, and starts no program of the caller's choice.
"""

import errno
import os
import signal
import socket
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from mvmnix.privileges.control_groups import Controller, GroupLimits, Parent
from mvmnix.privileges.descriptors import received
from mvmnix.privileges.rights import Rights
from mvmnix.privileges.tree import ServedDirectory
from mvmnix.strict import MAX_INTEGER, MalformedError, Record, canonical, parse_json, read

#: How long a line of an error may be.
_LONGEST: Final = 1000


def serve(asked: socket.socket, rights: Rights) -> None:
    """Answer requests until every other end of this SOCK_SEQPACKET socket is closed."""
    while True:
        packet, descriptors, flags = received(asked)
        if not packet and not descriptors:
            return
        try:
            if descriptors and stat.S_ISSOCK(os.fstat(descriptors[0]).st_mode):
                # one that takes no answer: the sender gets none
                with suppress(OSError), socket.socket(fileno=os.dup(descriptors[0])) as answer:
                    _answer(answer, packet if flags & socket.MSG_TRUNC == 0 else b"", descriptors[1:], rights)
        finally:
            for fd in descriptors:
                os.close(fd)


def _answer(answer: socket.socket, packet: bytes, descriptors: list[int], rights: Rights) -> None:
    """Do what one packet asks for, and say what came of it."""
    held: tuple[int, ...] = ()
    try:
        do = read(parse_json(packet), "request", lambda it: _parsed(it, descriptors, rights))
        value, held = do()  # only now: a parser goes on, with stand-ins, where something is missing
        said: Mapping[str, object] = {"value": value}
    except OSError as error:
        said = {"errno": error.errno or errno.EIO, "error": str(error.strerror)[:_LONGEST], "file": str(error.filename)}
    except Exception as error:  # noqa: BLE001 - a process of another uid sent it: nothing in it ends the broker
        said = {"errno": errno.EINVAL, "error": f"{type(error).__name__}: {error}"[:_LONGEST], "file": ""}
    try:
        answer.setblocking(False)
        socket.send_fds(answer, [canonical(said)], held)
    finally:
        for fd in held:
            os.close(fd)


type _Done = tuple[object, tuple[int, ...]]


def _parsed(it: Record, descriptors: list[int], rights: Rights) -> Callable[[], _Done]:
    """What does one request; it answers with the value of the answer and its descriptors."""
    name = it.text("request")
    if name not in _REQUESTS:
        raise MalformedError(f"there is no request {name!r}")
    return _REQUESTS[name](it, descriptors, rights)


def _namespace(it: Record, _: list[int], rights: Rights) -> Callable[[], _Done]:
    uid = _uid(it)
    return lambda: (None, (rights.namespace_of(uid),))


def _container(_it: Record, _: list[int], rights: Rights) -> Callable[[], _Done]:
    return lambda: (None, (rights.container_namespace(),))


def _tree(it: Record, descriptors: list[int], rights: Rights) -> Callable[[], _Done]:
    uid = _uid(it)
    served = ServedDirectory(it.flag("writable"), it.integer("lowest-group", 0, 1)) if it.flag("served") else None
    (source,) = descriptors
    return lambda: (None, (rights.tree(source, uid, served),))


def _parents(_it: Record, _: list[int], rights: Rights) -> Callable[[], _Done]:
    def record(parent: Parent) -> dict[str, object]:
        return {"path": parent.path, "version": parent.version, "controllers": list(parent.controllers)}

    return lambda: ([record(parent) for parent in rights.parents()], ())


def _make_group(it: Record, _: list[int], rights: Rights) -> Callable[[], _Done]:
    name, controllers = it.text("name"), frozenset(map(Controller, it.texts("controllers")))
    thousandths = it.integer("processors-thousandths", 0, MAX_INTEGER)
    limits = GroupLimits(
        memory=it.integer("memory", 1, MAX_INTEGER),
        tasks=it.integer("tasks", 1, MAX_INTEGER),
        processors=thousandths / 1000 if thousandths else None,
        weight=it.integer("weight", 0, 10_000) or None,
    )

    def make() -> _Done:
        rights.make_group(name, limits, controllers)
        return None, ()

    return make


def _io(it: Record, _: list[int], rights: Rights) -> Callable[[], _Done]:
    process = it.integer("process", 1, MAX_INTEGER)
    return lambda: (rights.io(process), ())


def _tun(_it: Record, descriptors: list[int], rights: Rights) -> Callable[[], _Done]:
    (namespace,) = descriptors
    return lambda: (None, (rights.tun(namespace),))


def _add_to_group(it: Record, _: list[int], rights: Rights) -> Callable[[], _Done]:
    path, process = it.text("path"), it.integer("process", 1, MAX_INTEGER)

    def add() -> _Done:
        rights.add_to_group(path, process)
        return None, ()

    return add


def _remove_group(it: Record, _: list[int], rights: Rights) -> Callable[[], _Done]:
    path = it.text("path")
    return lambda: (rights.remove_group(path), ())


#: By the name of a request, what parses the rest of it and does it.
_REQUESTS: Final[Mapping[str, Callable[[Record, list[int], Rights], Callable[[], _Done]]]] = {
    "namespace": _namespace,
    "container": _container,
    "tree": _tree,
    "parents": _parents,
    "make-group": _make_group,
    "add-to-group": _add_to_group,
    "io": _io,
    "remove-group": _remove_group,
    "tun": _tun,
}


def _uid(it: Record) -> int:
    return it.integer("uid", 0, MAX_INTEGER)


def start(rights: Rights) -> socket.socket:
    """Fork the broker, as root; the socket for requests. Only for a process without threads. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        return ours
    try:
        ours.close()
        _settle(theirs, rights)
        serve(theirs, rights)
    except BaseException:  # noqa: BLE001 - it has no caller, and nothing to say to a terminal
        os._exit(1)
    os._exit(0)


def _settle(asked: socket.socket, rights: Rights) -> None:
    """Leave the caller's session, its terminal, its directory and everything that it has open."""
    os.setsid()
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    kept = {0, 1, 2, asked.fileno(), *(it.fd for it in (rights.grants.all if rights.grants else ()))}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) not in kept:
            with suppress(OSError):
                os.close(int(name))
