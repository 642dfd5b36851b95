"""Judges who sent a packet to a launcher or a supervisor: the process itself, not the one that once connected.

A socket may be handed on, and its owner may confine itself later. So of each packet it is looked at:

1. The kernel says who sent it, and that process lives until the last step is done: its number is not another's.
2. It runs as this process's user, and none of its four uids is another one.
3. For a start: it has this process's identity (system/process_identity.py), all of it. For a call to a running machine:
   it has the same root directory, mounts, network, user namespace and security label, and each of this process's
   groups and capabilities; it may have more of those, and other limits and control groups, for they bound what the
   caller does and not what the machine does.
4. It is not confined in a way that this process isn't: a process with no-new-privileges or with filters of system calls
   may have Landlock domains, which nothing shows.

A process that isn't dumpable can't be looked at (proc(5)), and is refused. One has a launcher that is its child and
serves it alone: of that very process what is public counts (`ProcessIdentity.read_public`), for without capabilities,
no-new-privileges and another user namespace, which are public, it has the root directory and the mounts that it began
with.
"""

import os
from dataclasses import dataclass
from typing import Final, Self

from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.system.descriptors import Sender
from mvmnix.system.process import is_readable
from mvmnix.system.process_identity import CONFINEMENT, SAME_REACH, ProcessIdentity

_NAMED: Final = 4


@dataclass(frozen=True, slots=True)
class CallerCheck:
    """Compares senders with `own`, the identity of the process that is called.

    `parent` is the process id of the one caller whose child the called process is; 0 where it serves others.
    """

    own: ProcessIdentity
    parent: int = 0

    @classmethod
    def of_this_process(cls) -> Self:
        """Read the identity that this process has now, which is the one that it was started with."""
        return cls(ProcessIdentity.read(os.getpid()))

    @classmethod
    def for_parent(cls) -> Self:
        """Read the same, in a process that its parent started to be served."""
        return cls(ProcessIdentity.read(os.getpid()), os.getppid())

    def check_start(self, sender: Sender | None) -> None:
        """Judge who asks for a start. Raises RefusedError [caller-refused]."""
        self._check(sender, None)

    def check_call(self, sender: Sender | None) -> None:
        """Judge who calls a running machine. Raises RefusedError [caller-refused]."""
        self._check(sender, SAME_REACH)

    def _check(self, sender: Sender | None, names: frozenset[str] | None) -> None:
        if sender is None or sender.process <= 0:
            raise _refused("the kernel doesn't say which process it is: it lives in another PID namespace")  # 1
        if sender.user != os.geteuid():
            raise _refused(f"it runs as uid {sender.user}")  # 2
        try:
            pidfd = os.pidfd_open(sender.process) if sender.pidfd is None else sender.pidfd
            try:
                found = self._read(sender.process)
                if is_readable(pidfd, 0):
                    raise _refused("it has ended")  # 1
            finally:
                if sender.pidfd is None:
                    os.close(pidfd)
        except OSError as error:
            why = f"it can't be looked at: {error.strerror}; a process that isn't dumpable is such a one"
            raise _refused(why) from error
        if different := self.own.differences(found, names):
            more = ", …" if len(different) > _NAMED else ""
            raise _refused(f"it differs from this process in: {', '.join(different[:_NAMED])}{more}")  # 2, 3
        if missing := sorted(self.own.rights - found.rights):
            raise _refused(f"it lacks what this process has: {', '.join(missing[:_NAMED])}")  # 3
        if found.is_confined and self.own.differences(found, CONFINEMENT):
            raise _refused("it is confined, by no-new-privileges or a filter of system calls")  # 4

    def _read(self, process: int) -> ProcessIdentity:
        """Read a sender's identity. Raises OSError."""
        try:
            return ProcessIdentity.read(process)
        except PermissionError:
            if process != self.parent or os.getppid() != process:
                raise
            return self.own.with_public(ProcessIdentity.read_public(process))


def _refused(why: str) -> RefusedError:
    hint = "call from a process that isn't confined, of the same user; or start the machine with --private-launcher"
    return refuse(ReasonCode.CALLER_REFUSED, "the calling process", why, hint)
