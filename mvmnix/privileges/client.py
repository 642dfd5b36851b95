"""Where mvm asks for what takes root's rights: the broker, or in a process of root's the same code; else there is none.

`current` is None for a plain user.
"""

import errno
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from mvmnix import procfs
from mvmnix.errors import MvmnixError
from mvmnix.privileges import control_groups, ids
from mvmnix.privileges.control_groups import ControlGroups, Controller, GroupLimits, Parent
from mvmnix.privileges.descriptors import received
from mvmnix.privileges.rights import Rights
from mvmnix.privileges.tree import ServedDirectory
from mvmnix.strict import MalformedError, Record, canonical, parse_json, read


@dataclass(frozen=True, slots=True)
class Broker:
    """The broker by its socket: what `Rights` does, asked for. Descriptors are the caller's to close.

    Each method raises OSError as `Rights` does, and MvmnixError when the broker is gone.
    """

    socket: socket.socket

    def namespace_of(self, uid: int) -> int:
        """The user namespace of a uid of the pool."""
        return self._one({"request": "namespace", "uid": uid})

    def container_namespace(self) -> int:
        """The user namespace of containers."""
        return self._one({"request": "container"})

    def tree(self, source: int, reader: int, served: ServedDirectory | None) -> int:
        """A detached mount of what `source` names, for a uid of the pool."""
        asked: dict[str, object] = {"request": "tree", "uid": reader, "served": served is not None}
        if served is not None:
            asked |= {"writable": served.writable, "lowest-group": served.lowest_group}
        return self._one(asked, source)

    def tun(self, namespace: int) -> int:
        """`/dev/net/tun`, opened in a network namespace of mvm's own."""
        return self._one({"request": "tun"}, namespace)

    def parents(self) -> tuple[Parent, ...]:
        """Where control groups can be made."""
        value, _ = self._ask({"request": "parents"})
        return read({"parents": value}, "answer", lambda it: it.each("parents", _parent))

    def make_group(self, name: str, limits: GroupLimits, controllers: frozenset[Controller]) -> None:
        """Make groups of that name that limit these."""
        thousandths = 0 if limits.processors is None else max(1, round(limits.processors * 1000))
        asked: dict[str, object] = {"request": "make-group", "name": name, "controllers": sorted(controllers)}
        asked |= {"memory": limits.memory, "tasks": limits.tasks}
        self._ask(asked | {"processors-thousandths": thousandths, "weight": limits.weight or 0})

    def io(self, process: int) -> str:
        """What a process of mvm's has read and written (proc_pid_io(5))."""
        value, _ = self._ask({"request": "io", "process": process})
        return str(value)

    def add_to_group(self, path: str, process: int) -> None:
        """Put a process of mvm's into a group of mvm's."""
        self._ask({"request": "add-to-group", "path": path, "process": process})

    def remove_group(self, path: str) -> bool:
        """Whether a group is gone."""
        return self._ask({"request": "remove-group", "path": path})[0] is True

    def _one(self, asked: Mapping[str, object], *descriptors: int) -> int:
        (fd,) = self._ask(asked, *descriptors)[1]
        return fd

    def _ask(self, asked: Mapping[str, object], *descriptors: int) -> tuple[object, tuple[int, ...]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            try:
                with theirs:
                    socket.send_fds(self.socket, [canonical(asked)], [theirs.fileno(), *descriptors])
                packet, found, _ = received(ours)
            except (BrokenPipeError, ConnectionError) as error:
                raise _gone() from error
        if not packet:
            raise _gone()
        try:
            return read(parse_json(packet), "answer", _value), tuple(found)
        except (OSError, MalformedError):
            for fd in found:
                os.close(fd)
            raise


def _parent(it: Record) -> Parent:
    controllers = tuple(map(Controller, it.texts("controllers")))
    return Parent(it.text("path"), it.integer("version", 1, 2), controllers)


def _value(it: Record) -> object:
    if it.has("errno"):
        number, text, file = it.integer("errno", 0, 4095), it.text("error"), it.text("file")
        raise OSError(number, text, file)
    return it.value("value")


def _gone() -> MvmnixError:
    return MvmnixError("the process that keeps root's rights for mvm has ended", hint="run the command again")


_broker: list[Broker] = []


def use(broker: Broker) -> None:
    """Called by `give_up` alone."""
    _broker[:] = [broker]


def current() -> Broker | Rights | None:
    """Who does what takes root's rights: the broker, this process as root, or for a plain user None.

    Raises MvmnixError for a root that can't give uids away.
    """
    if _broker:
        return _broker[0]
    if os.geteuid() != 0:
        return None
    if not ids.owned(ids.FIRST_OF_POOL, ids.POOL_COUNT):
        uids = f"{ids.FIRST_OF_POOL} to {ids.FIRST_OF_POOL + ids.POOL_COUNT - 1}"
        why = f"this root can't give away the uids {uids}: its user namespace lacks them"
        raise MvmnixError(why, hint="run mvm as root of the machine itself, or as a plain user")
    return Rights()


def broker() -> Broker | None:
    """The broker, where this process gave up root's rights."""
    return _broker[0] if _broker else None


def groups() -> ControlGroups:
    """Where control groups can be made, with root's rights or this user's own."""
    asked = broker()
    return ControlGroups.find() if asked is None else ControlGroups(asked.parents(), asked)


def io(process: int) -> str:
    """What a process that mvm started has read and written (proc_pid_io(5)). Raises OSError, also without a broker."""
    if not _broker:
        return procfs.io(process)
    try:
        return _broker[0].io(process)
    except MvmnixError as error:
        raise OSError(errno.EPIPE, error.message) from error


def remove_group(path: str) -> bool:
    """Whether a control group is gone; what is still in it is killed.

    Raises PermissionError where root would remove what is no group of mvm's: the path may be one that a process without
    root's rights wrote down.
    """
    if _broker:
        return _broker[0].remove_group(path)
    return Rights().remove_group(path) if os.geteuid() == 0 else control_groups.remove(path)
