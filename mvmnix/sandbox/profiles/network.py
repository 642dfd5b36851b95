"""What the two processes of a machine's network may ask the kernel for: the gateway, and the dialler; pure.

Written from traces of both (docs/jail.md), and held to what each of them is for.
"""

import socket
from typing import Final

from mvmnix.sandbox.profiles import common
from mvmnix.sandbox.profiles.profile import INT, Profile, names, only

_FASTOPEN: Final = int(socket.MSG_FASTOPEN)
#: Without connect(2) and MSG_FASTOPEN no socket that was handed in leads anywhere else (helpers.py, HELPERS_CONNECTED);
#: nor do its packets without options of IPv4 and IPv6, of which a routing header is one (RFC 8754).
_CONNECTED: Final = {
    "sendto": only(3, _FASTOPEN, [0]),
    "sendmsg": only(2, _FASTOPEN, [0]),
    "setsockopt": only(1, INT, [socket.SOL_SOCKET, socket.IPPROTO_TCP]),
}
#: The gateway accepts from sockets that listen already, and carries bytes. asyncio wakes itself by a pair.
_GATEWAY: Final = names("accept4 splice")
#: The dialler resolves names and connects; by bind(2) it learns which addresses are this host's, and there is no
#: listen(2). The C library's resolver asks for A and AAAA at once (sendmmsg).
_DIALLER: Final = names("bind connect sendmmsg")

GATEWAY: Final = Profile(
    allowed=(common.ORDINARY | _GATEWAY).difference(_CONNECTED),
    refused=common.REFUSED,
    conditions={
        **_CONNECTED,
        **common.OWN_LIMITS,
        **common.requests(),
        "socketpair": only(0, INT, [socket.AF_UNIX]),
    },
)
#: No AF_UNIX: abstract sockets of the host are in its network namespace (unix(7)).
DIALLER: Final = Profile(
    allowed=common.ORDINARY | _DIALLER,
    refused=common.REFUSED,
    conditions={
        **common.THREADS,
        **common.OWN_LIMITS,
        **common.requests(),
        "socket": only(0, INT, [socket.AF_INET, socket.AF_INET6]),
    },
)
