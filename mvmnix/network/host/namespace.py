"""The only starter of what makes a machine's network namespace (namespace_setup.py); holds it by its descriptors.

There is no process in the namespace, and no name of it: it is gone with the last of its sockets and its tap, however
mvm ends. What is missing on this host is refused [network-unavailable], and said with what to do; nothing is opened
instead.
"""

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.network.host import namespace_setup
from mvmnix.network.host.packet_rules import Taken, ruleset
from mvmnix.network.host.published_ports import disconnect
from mvmnix.sandbox.trusted_executables import PYTHON, Candidates, locate
from mvmnix.system import process
from mvmnix.system.descriptors import received
from mvmnix.system.process import is_readable
from mvmnix.system.store import memfd

NFT: Final = Candidates("nft", ("/usr/sbin/nft", "/run/current-system/sw/bin/nft"), "apt-get install nftables")
#: Connections into the guest at a time: their sockets are made in the namespace while there is a process in it.
INBOUND: Final = 64
#: Seconds until the namespace is there.
_SECONDS: Final = 20.0
#: A packet has so many descriptors at most (SCM_MAX_FD).
_MOST: Final = 253
#: The tap and four sockets.
_FIXED: Final = 5
_WORDS: Final = 4096


@dataclass(frozen=True, slots=True)
class Namespace:
    """What is left of the process that made it: the guest's device, and sockets that only its guest can reach.

    `connections` accepts what the guest connects to: the socket's own address is what was asked for. `questions` and
    `datagrams` are for DNS. `refused` hears of packets that the rules refused (refused_packets.py). `inbound` are
    unconnected, for connections into the guest.
    """

    tap: int
    connections: socket.socket
    questions: socket.socket
    datagrams: socket.socket
    refused: socket.socket
    inbound: tuple[socket.socket, ...] = ()

    def release_served(self) -> None:
        """Let go of what the gateway has now."""
        for one in (self.connections, self.questions, self.datagrams, self.refused):
            one.close()

    def close(self) -> None:
        """Let go of all of it but the tap; of connections without waiting for what their peers don't take."""
        for one in self.inbound:
            disconnect(one)
        for one in (self.connections, self.questions, self.datagrams, self.refused, *self.inbound):
            one.close()


class Making:
    """A namespace that is being made, beside what else a machine needs."""

    def __init__(self, taken: Sequence[Taken], *, inbound: int = 0) -> None:
        """Begin one in which the gateway gets connections to these, and all else is refused.

        `inbound` is how many connections into the guest there may be at a time. Raises MvmnixError where a program is
        missing.
        """
        python, nft = locate(PYTHON), locate(NFT)
        ranges = dict.fromkeys(str(it.network) for it in taken)
        words = (python, "-I", "-S", namespace_setup.__file__)
        self._count = _FIXED + inbound
        self._stack = ExitStack()
        with ExitStack() as stack:
            self._ours, theirs = map(stack.enter_context, socket.socketpair())
            text = stack.enter_context(os.fdopen(memfd(ruleset(taken, inbound=inbound > 0), name="mvmnix-rules")))
            self._said = stack.enter_context(os.fdopen(os.memfd_create("said", os.MFD_CLOEXEC), "rb"))
            self._child = process.spawn(
                (*words, str(theirs.fileno()), nft, str(inbound), *ranges),
                env={"LC_ALL": "C"},
                pass_fds=(theirs.fileno(),),
                stdin=text.fileno(),
                stderr=self._said,
            )
            theirs.close()
            text.close()
            self._stack = stack.pop_all()

    def finish(self) -> Namespace:
        """Wait for it; once. Raises RefusedError [network-unavailable]."""
        with self._stack:
            found = _received(self._ours)
            if not _has_ended(self._child.pid, _SECONDS):
                self._child.kill()
            status = self._child.wait()
            if status == 0 and len(found) == self._count:
                tap, *rest = found
                connections, questions, datagrams, refused, *unconnected = (socket.socket(fileno=fd) for fd in rest)
                return Namespace(tap, connections, questions, datagrams, refused, tuple(unconnected))
            for fd in found:
                os.close(fd)
            self._said.seek(0)
            said = process.first_cause(self._said.read(_WORDS)).removeprefix("error: ")
            raise _refusal(said or f"it ended with status {status}")

    def abandon(self) -> None:
        """End it, where `finish` isn't called."""
        with self._stack:
            self._child.kill()
            self._child.wait()


def _has_ended(process_id: int, seconds: float) -> bool:
    """Whether a child of ours that wasn't reaped yet ends in time."""
    pidfd = os.pidfd_open(process_id)
    try:
        return is_readable(pidfd, seconds)
    finally:
        os.close(pidfd)


def _received(ours: socket.socket) -> list[int]:
    """What the child sent; none where it failed, and says why on standard error."""
    if not is_readable(ours.fileno(), _SECONDS):
        return []
    try:
        return received(ours, 16, _MOST)[1]
    except OSError:
        return []


def _refusal(why: str) -> RefusedError:
    hint = "`mvm doctor` says what this host lacks for it; or make a plan without a network"
    if (tun := namespace_setup.TUN) in why:
        hint = f"let users open {tun}, as udev(7) does on Debian: modprobe tun; chmod 0666 {tun}"
    return refuse(ReasonCode.NETWORK_UNAVAILABLE, "the plan's network", f"no namespace can be made: {why}", hint)
