"""What is done with root's rights for mvm: the requests, each checked here; broker.py has them asked for.

In a process of root's that keeps its rights (a library, a test) this is used as it is.
"""

import errno
import os
import re
from dataclasses import dataclass
from typing import Final

from mvmnix import procfs
from mvmnix.privileges import control_groups, ids, tree, tun, user_namespaces
from mvmnix.privileges.control_groups import ControlGroups, Controller, GroupLimits, Parent
from mvmnix.privileges.grants import Grants
from mvmnix.privileges.tree import ServedDirectory
from mvmnix.process import is_readable

#: What uid_pool.py and helper_group.py call what belongs to one sandbox.
GROUP: Final = re.compile(r"mvmnix-([0-9]{1,4}-[0-9a-f]{8}|helper-[0-9a-f]{16})")
#: Each has a uid of the pool.
MOST_GROUPS: Final = ids.POOL_COUNT
#: The uids that mvm has and gives to what it starts.
_OURS: Final = frozenset({ids.MVM, *range(ids.FIRST_OF_POOL, ids.FIRST_OF_POOL + ids.POOL_COUNT)})


@dataclass(frozen=True, slots=True)
class Rights:
    """Root's rights, used for these requests. Each raises OSError where the system or a rule says no.

    `grants` are what the caller was granted; None where the caller is root itself, and every file is its own.
    """

    grants: Grants | None = None

    def namespace_of(self, uid: int) -> int:
        """The user namespace of a uid of the pool; the caller closes it."""
        return user_namespaces.for_uid(self._checked(uid))

    def container_namespace(self) -> int:
        """The user namespace of containers; the caller closes it."""
        return user_namespaces.for_container()

    def tree(self, source: int, reader: int, served: ServedDirectory | None) -> int:
        """A detached mount of what `source` names, for a uid of the pool (`tree.made`); the caller closes it."""
        return tree.made(source, self._checked(reader), served, self.grants)

    def tun(self, namespace: int) -> int:
        """`/dev/net/tun`, opened in a network namespace that the caller's uid made; the caller closes it."""
        return tun.opened_in(namespace, 0 if self.grants is None else ids.MVM)

    def _checked(self, uid: int) -> int:
        if self.grants is not None and not ids.FIRST_OF_POOL <= uid < ids.FIRST_OF_POOL + ids.POOL_COUNT:
            raise PermissionError(errno.EPERM, "it is not a uid of the pool", str(uid))
        return uid

    def parents(self) -> tuple[Parent, ...]:
        """Where control groups can be made."""
        return ControlGroups.find().parents

    def make_group(self, name: str, limits: GroupLimits, controllers: frozenset[Controller]) -> None:
        """Make groups of that name that limit these. mvm may read and lock their directories, and make nothing there.

        A machine has only so many groups (65,535 of memory), so there are never more than MOST_GROUPS of mvm's.
        """
        found = ControlGroups.find().limiting(*controllers)
        for parent in found.parents:
            if sum(map(bool, map(GROUP.fullmatch, os.listdir(parent.path)))) >= MOST_GROUPS:  # noqa: PTH208 - a text
                raise OSError(errno.ENOSPC, f"there are {MOST_GROUPS} control groups of mvm's", parent.path)
        group = found.group(_own_name(name), limits)
        group.close()
        try:
            for path in found.paths(name):
                os.chown(path, 0, ids.MVM)
                os.chmod(path, 0o750)  # noqa: PTH101, S103 - a kernel interface, by its path
        except BaseException:
            group.remove()
            raise

    def io(self, process: int) -> str:
        """What a process of mvm's has read and written (proc_pid_io(5)), which its own uid alone may read."""
        with open(f"/proc/{process}/io", encoding="ascii") as file:  # noqa: PTH123
            if not procfs.uids(process) <= _OURS:
                raise PermissionError(errno.EPERM, "it is not a process of mvm's", str(process))
            return file.read()  # of the process that was opened, or of none any more

    def add_to_group(self, path: str, process: int) -> None:
        """Put a process of mvm's into a group of mvm's."""
        group, pidfd = self._own_group(path), os.pidfd_open(process)
        try:
            if not procfs.uids(process) <= _OURS or is_readable(pidfd, 0):
                raise PermissionError(errno.EPERM, "it is not a process of mvm's", str(process))
            with open(f"{group}/cgroup.procs", "w", encoding="ascii") as file:  # noqa: PTH123
                file.write(str(process))
        finally:
            os.close(pidfd)

    def remove_group(self, path: str) -> bool:
        """Whether a group is gone that `make_group` made, for any command of root's; what is still in it is killed.

        Another command may have stood in another group, so where it is can't be told: only what it is, and whose.
        """
        parent, _, name = path.rpartition("/")
        try:
            owner = os.lstat(path).st_uid
        except FileNotFoundError:
            return True  # one of another boot
        if owner not in {0, ids.MVM} or not control_groups.is_group(parent):
            raise PermissionError(errno.EPERM, "it is not a control group of mvm's", path)
        return control_groups.remove(f"{parent}/{_own_name(name)}")

    def _own_group(self, path: str) -> str:
        parent, _, name = path.rpartition("/")
        if not os.path.lexists(path):
            raise FileNotFoundError(errno.ENOENT, "there is no such control group", path)
        if parent not in {it.path for it in self.parents()}:
            raise PermissionError(errno.EPERM, "no control group of mvm's can be there", path)
        return f"{parent}/{_own_name(name)}"


def _own_name(name: str) -> str:
    if not GROUP.fullmatch(name):
        raise PermissionError(errno.EPERM, "it is not the name of a control group of mvm's", name)
    return name
