"""The other end of a guest's link, in a network namespace of its own: `python -m tests.tap_peer FD`.

The tap's descriptor goes out over the socket FD. It answers DNS (each name is at one address) and HTTP, takes bulk in,
and says at the end of its input which kinds of frames the guest sent, by EtherType.
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass

from tests.patience import EVENT_PATIENCE
from tests.repository import ROOT

#: What the gateway has, and what it tells of every name.
GATEWAY, NAMED, GUEST = "198.19.255.1", "198.18.0.1", "198.19.255.2"
GATEWAY_MAC, GUEST_MAC = "02:6d:76:6d:00:01", "02:6d:76:6d:00:02"
GREETING = b"HTTP/1.0 200 OK\r\n\r\nhello from outside\n"
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x2, 0x1000, 0x4000
ETH_P_ALL = 3

COMMANDS = f"""
link set lo up
address add {NAMED}/32 dev lo
link set tap0 address {GATEWAY_MAC}
address add {GATEWAY}/30 dev tap0
link set tap0 up
neighbour add {GUEST} lladdr {GUEST_MAC} nud permanent dev tap0
"""


@dataclass
class Peer:
    """The process that is the other end, which lives until it is asked what it saw; and the tap's descriptor."""

    process: "subprocess.Popen[str]"
    tap: int

    @classmethod
    def start(cls) -> "Peer":
        """Only root may."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.tap_peer", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            theirs.close()
            _, (tap,), _, _ = socket.recv_fds(ours, 8, 1)
        return cls(process, tap)

    def frames(self) -> dict[str, int]:
        """End it: how many frames came out of the guest, by EtherType."""
        said, _ = self.process.communicate("", timeout=EVENT_PATIENCE)
        seen: dict[str, int] = json.loads(said)
        return seen


def tap() -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH14x", b"tap0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    return device


def bound(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    if kind is socket.SOCK_STREAM:
        made.listen()
    return made


def names(server: socket.socket) -> None:
    """Each question of one name is answered by one A record (RFC 1035, section 4.1), whatever was asked."""
    while True:
        question, asker = server.recvfrom(512)
        end = question.index(b"\0", 12) + 5
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(NAMED)
        wants_a = question[end - 4 : end - 2] == b"\0\1"
        head = question[:2] + struct.pack(">HHHHH", 0x8180, 1, wants_a, 0, 0)
        server.sendto(head + question[12:end] + (record if wants_a else b""), asker)


def pages(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(GREETING)


def sink(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        with connection:
            while connection.recv(1 << 20):
                pass


def frames(server: socket.socket, seen: "Counter[str]") -> None:
    while True:
        try:
            data, where = server.recvfrom(128)
        except OSError:  # the interface is gone, with its hypervisor
            return
        if where[2] != socket.PACKET_OUTGOING:
            seen[f"{data[12:14].hex()}"] += 1


def main(number: int) -> None:
    os.unshare(os.CLONE_NEWNET)
    device = tap()
    subprocess.run(["ip", "-batch", "-"], input=COMMANDS, text=True, check=True)
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    listener.bind(("tap0", 0))
    seen: Counter[str] = Counter()
    threading.Thread(target=frames, args=(listener, seen), daemon=True).start()
    for target, server in (
        (names, bound(socket.SOCK_DGRAM, GATEWAY, 53)),
        (pages, bound(socket.SOCK_STREAM, NAMED, 80)),
        (sink, bound(socket.SOCK_STREAM, NAMED, 81)),
    ):
        threading.Thread(target=target, args=(server,), daemon=True).start()
    with socket.socket(fileno=number) as out:
        socket.send_fds(out, [b"tap"], [device])
    os.close(device)
    sys.stdin.read()
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main(int(sys.argv[1]))
