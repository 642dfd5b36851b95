"""What the two processes of a machine's network may ask the kernel for: the gateway, and the dialer; pure.

Written from traces of both (docs/explanation/isolation.md), and held to what each of them is for. Each has two lists:
one to start by, under which the sandbox begins, and one to serve by, which it stacks upon that itself before a guest's
first byte is read (network/host/setup.py). A call passes that both let through.
"""

import fcntl
import socket
from collections.abc import Mapping, Sequence
from typing import Final

from mvmnix.sandbox.profiles import common
from mvmnix.sandbox.profiles.profile import (
    INT,
    Argument,
    Condition,
    Profile,
    SocketKinds,
    SocketOptions,
    among,
    names,
    only,
)

_FASTOPEN: Final = int(socket.MSG_FASTOPEN)
#: How a connection is ended, and how it is noticed that its peer is gone (network/sockets.py). None of them
#: chooses an interface, a route or another address, attaches a program, or takes more memory for a socket.
_CONNECTIONS: Final = {
    socket.SOL_SOCKET: (socket.SO_LINGER, socket.SO_KEEPALIVE),
    socket.IPPROTO_TCP: (socket.TCP_NODELAY, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT),
}
#: The C library's resolver wants to be told of ICMP errors: IP_RECVERR, IPV6_RECVERR (linux/in.h, linux/in6.h).
_ERRORS: Final = {socket.IPPROTO_IP: (11,), socket.IPPROTO_IPV6: (25,)}
#: Without connect(2) and MSG_FASTOPEN no socket that was handed in leads anywhere else (helpers.py, HELPERS_CONNECTED).
#: Without sendmsg(2) no descriptor is sent away: those in flight are counted by user (unix(7), ETOOMANYREFS).
_CONNECTED: Final[Mapping[str, Condition]] = {
    "sendto": only(3, _FASTOPEN, [0]),
    "setsockopt": SocketOptions(_CONNECTIONS),
}
#: The gateway accepts from sockets that listen already, and carries bytes. asyncio wakes itself by a pair.
_GATEWAY: Final = names("accept4 splice")
#: TCP and UDP. For another protocol the kernel would load its module, as of SCTP and DCCP.
_PROTOCOLS: Final[Mapping[int, Sequence[int]]] = {
    socket.SOCK_STREAM: (0, socket.IPPROTO_TCP),
    socket.SOCK_DGRAM: (0, socket.IPPROTO_UDP),
}
#: The dialer resolves names and connects; by bind(2) it learns which addresses are this host's, and there is no
#: listen(2). The C library's resolver asks for A and AAAA at once (sendmmsg).
_DIALER: Final = names("bind connect sendmmsg")
#: Used by no process that serves: another program, further filters, and what the kernel counts by user or keeps beside
#: a process's memory. One that polls has its instance of epoll by then. A descriptor that can't be copied is watched
#: once; with copies, each open file could be watched under each number (epoll(7)).
_STARTING: Final = names(
    "execve arch_prctl prctl seccomp capset landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    "socketpair epoll_create epoll_create1 eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime",
    "signalfd signalfd4 memfd_create pipe prlimit64 wait4 waitid dup dup2 dup3",
)
#: Flags of descriptors.
_FLAGS: Final[Mapping[str, Argument]] = {
    "fcntl": among(1, [fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL]),
}

GATEWAY: Final = Profile(
    allowed=(common.ORDINARY | _GATEWAY).difference(_CONNECTED, ["sendmsg"]),
    refused=common.REFUSED,
    conditions={
        **_CONNECTED,
        **common.OWN,
        **common.commands(),
        **common.requests(),
        "socketpair": only(0, INT, [socket.AF_UNIX]),
    },
)
#: A pipe holds bytes that wait (network/gateway/relay.py).
GATEWAY_SERVING: Final = GATEWAY.without(*_STARTING).extended(_FLAGS)
#: No AF_UNIX: abstract sockets of the host are in its network namespace (unix(7)).
DIALER: Final = Profile(
    allowed=common.ORDINARY | _DIALER,
    refused=common.REFUSED,
    conditions={
        **common.THREADS,
        **common.OWN,
        **common.commands(),
        **common.requests(),
        "socket": SocketKinds([socket.AF_INET, socket.AF_INET6], _PROTOCOLS),
        "setsockopt": SocketOptions({**_CONNECTIONS, **_ERRORS}),
    },
)
DIALER_SERVING: Final = DIALER.without(*_STARTING, "pipe2").extended(_FLAGS)
