"""Makes a machine's network namespace, in a process of its own that becomes nft(8) at its end; imports little.

It is started by namespace.py with a socket and the ranges that are taken, and reads nothing else.

1. A user namespace in which this user is root, and in it a network namespace: there are no devices of the host in it.
2. What the kernel takes from the host's settings is set: nothing is forwarded, no route is chosen by a sender, no IPv6.
3. The guest's device: a tap without ARP, whose two ends have fixed addresses, by netlink (rtnetlink(7)).
4. Synthetic addresses, and ranges that the plan lists, are addresses of this namespace: a route of the type `local`.
5. The sockets that the gateway listens on: one that any connection is handed to (IP_TRANSPARENT, ip(7)), DNS by UDP
   and TCP; one that hears what the rules refuse (NFLOG); and unconnected ones, for connections into the guest.
6. All of them are sent to mvm. Then nft puts the rules in force, from standard input, and ends.

From then on the namespace has no process: it is there as long as one of these descriptors is.
"""

import _socket as socket  # what `socket` has besides takes as long to import as all else here
import fcntl
import os
import struct
import sys
from typing import Final

GUEST: Final = "198.19.255.2"
GATEWAY: Final = "198.19.255.1"
PREFIX: Final = 30
GATEWAY_MAC: Final = "02:6d:76:6d:00:01"
GUEST_MAC: Final = "02:6d:76:6d:00:02"
MTU: Final = 1500
DEVICE: Final = "guest"
#: Where connections to any address arrive; the guest's own packets to this port don't (host/packet_rules.py).
PORT: Final = 1
DNS: Final = 53
#: Ports of connections into the guest begin here (ip(7), ip_local_port_range).
FIRST_LOCAL_PORT: Final = 32768
_BACKLOG: Final = 1024
TUN: Final = "/dev/net/tun"

#: linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
#: rtnetlink(7), netlink(7), linux/neighbour.h
_NEWLINK, _NEWADDR, _NEWROUTE, _NEWNEIGH = 16, 20, 24, 28
_REQUEST, _ACK, _CREATE, _EXCLUSIVE, _REPLACE = 0x1, 0x4, 0x400, 0x200, 0x100
_ERROR: Final = 2
_UP, _NOARP = 0x1, 0x80
_PERMANENT: Final = 0x80
_MAIN, _STATIC, _HOST, _LOCAL = 254, 4, 254, 2
_IP_TRANSPARENT: Final = 19
#: linux/netfilter/nfnetlink_log.h: NFULNL_MSG_CONFIG of NFNL_SUBSYS_ULOG; NFULA_CFG_CMD, _MODE and _QTHRESH; what the
#: first two say.
_NETFILTER: Final = 12
_LOG_CONFIG: Final = 4 << 8 | 1
_LOG_COMMAND, _LOG_MODE, _LOG_THRESHOLD = 1, 2, 5
_LOG_BIND, _LOG_PACKETS = 1, 2
#: Where the rules tell what they refused, and how much of it: an IPv4 header and two ports.
NFLOG_GROUP: Final = 1
NFLOG_COPIED: Final = 24

#: Below /proc/sys/net: what has to be so. A new namespace has some of the host's (core/devconf_inherit_init_net).
SETTINGS: Final = (
    *((f"ipv6/conf/{which}/disable_ipv6", "1") for which in ("all", "default")),
    ("ipv4/ip_forward", "0"),
    *(
        (f"ipv4/conf/{which}/{name}", value)
        for which in ("all", "default")
        for name, value in (
            ("forwarding", "0"),
            ("rp_filter", "1"),
            ("accept_source_route", "0"),
            ("accept_redirects", "0"),
            ("send_redirects", "0"),
            ("route_localnet", "0"),
            ("proxy_arp", "0"),
            ("accept_local", "0"),
        )
    ),
    # a refusal is told each time, and takes nothing of what the whole host may tell in a second
    ("ipv4/icmp_ratemask", "0"),
)


def main(told: socket.socket, nft: str, ranges: list[str], inbound: int) -> None:
    """Make it, and become nft; raises OSError. `inbound` is how many sockets there are for connections into it."""
    enter()  # 1
    for name, value in SETTINGS:  # 2
        _set(name, value)
    tap = _tap()  # 3
    _configure(ranges)  # 4
    sockets = _sockets(inbound)  # 5
    fds = (tap, *(one.fileno() for one in sockets))
    _send(told, bytes([len(fds)]), fds)  # 6
    os.execve(nft, [nft, "-j", "-f", "-"], {"LC_ALL": "C"})  # noqa: S606 - an absolute path, constants


def enter() -> None:
    """Steps 1. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        _write(f"/proc/self/{name}", text)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _set(name: str, value: str) -> None:
    path = f"/proc/sys/net/{name}"
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            if file.read().strip() == value:
                return
    except FileNotFoundError:
        return  # a kernel without IPv6
    _write(path, value)


def _tap() -> int:
    fd = os.open(TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), flags))
    return fd


def _send(end: socket.socket, packet: bytes, fds: tuple[int, ...]) -> None:
    """A packet with descriptors (unix(7), SCM_RIGHTS)."""
    end.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"={len(fds)}i", *fds))])


def _configure(ranges: list[str]) -> None:
    """Steps 3 and 4, by netlink. Raises OSError."""
    index = socket.if_nametoindex(DEVICE)
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    try:
        netlink.bind((0, 0))
        mac = _attribute(1, _mac(GATEWAY_MAC))  # IFLA_ADDRESS
        ask(netlink, _NEWLINK, 0, struct.pack("=BxHiII", 0, 0, index, _NOARP, _NOARP), mac)
        mtu = _attribute(4, struct.pack("=I", MTU))  # IFLA_MTU
        ask(netlink, _NEWLINK, 0, struct.pack("=BxHiII", 0, 0, index, _UP, _UP), mtu)
        own = socket.inet_aton(GATEWAY)
        local = _attribute(2, own) + _attribute(1, own)  # IFA_LOCAL, IFA_ADDRESS
        head = struct.pack("=BBBBI", socket.AF_INET, PREFIX, 0, 0, index)
        ask(netlink, _NEWADDR, _CREATE | _EXCLUSIVE, head, local)
        guest = _attribute(1, socket.inet_aton(GUEST)) + _attribute(2, _mac(GUEST_MAC))  # NDA_DST, NDA_LLADDR
        head = struct.pack("=BxxxiHBB", socket.AF_INET, index, _PERMANENT, 0, 0)
        ask(netlink, _NEWNEIGH, _CREATE | _REPLACE, head, guest)
        for text in ranges:
            address, _, bits = text.partition("/")
            head = struct.pack("=BBBBBBBBI", socket.AF_INET, int(bits), 0, 0, _MAIN, _STATIC, _HOST, _LOCAL, 0)
            route = _attribute(1, socket.inet_aton(address)) + _attribute(4, struct.pack("=I", index))  # RTA_DST, _OIF
            ask(netlink, _NEWROUTE, _CREATE | _EXCLUSIVE, head, route)
    finally:
        netlink.close()


def ask(netlink: socket.socket, kind: int, flags: int, head: bytes, attributes: bytes) -> None:
    """One request of rtnetlink(7), answered. Raises OSError."""
    size = 16 + len(head) + len(attributes)
    netlink.send(struct.pack("=IHHII", size, kind, _REQUEST | _ACK | flags, 1, 0) + head + attributes)
    answer = netlink.recv(4096)
    _, answered, *_ = struct.unpack_from("=IHHII", answer)
    (number,) = struct.unpack_from("=i", answer, 16)
    if answered != _ERROR or number != 0:
        raise OSError(-number, os.strerror(-number), f"netlink message {kind}")


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _sockets(inbound: int) -> list[socket.socket]:
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
    taken.bind(("0.0.0.0", PORT))  # noqa: S104 - of this namespace
    asked = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    asked.bind((GATEWAY, DNS))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((GATEWAY, DNS))
    for one in (taken, asked):
        one.listen(_BACKLOG)
    unconnected = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(inbound)]
    made = [taken, asked, datagrams, _heard(), *unconnected]
    for one in made:
        one.setblocking(False)
    return made


def _heard() -> socket.socket:
    """Hears the beginning of each packet that is refused, at once (linux/netfilter/nfnetlink_log.h). Raises OSError."""
    heard = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
    heard.bind((0, 0))
    head = struct.pack(">BBH", 0, 0, NFLOG_GROUP)
    for attribute in (
        _attribute(_LOG_COMMAND, bytes([_LOG_BIND])),
        _attribute(_LOG_MODE, struct.pack(">IBx", NFLOG_COPIED, _LOG_PACKETS)),
        _attribute(_LOG_THRESHOLD, struct.pack(">I", 1)),
    ):
        ask(heard, _LOG_CONFIG, 0, head, attribute)
    return heard


if __name__ == "__main__":
    told = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(told.fileno(), False)
    try:
        main(told, sys.argv[2], sys.argv[4:], int(sys.argv[3]))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"error: {where}{error.strerror}\n")
        sys.exit(error.errno if error.errno and 0 < error.errno < 126 else 1)
