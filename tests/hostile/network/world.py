"""A world without uplink: servers with global addresses, a resolver's settings, and a guest without a VM.

The test's own thread has a network namespace of its own while a world is open, so that what it starts is in there: the
dialler, and the servers, at addresses of the Internet that are its loopback's. The guest is another namespace, with its
own tap, and frames are carried between both taps. Nothing of it leads to this machine's network.
"""

import fcntl
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import dns.message
import dns.rcode
import pytest

from mvmnix.launch.jail.jail import BubblewrapJail
from mvmnix.launch.loop import Loop
from mvmnix.launch.network import setup
from mvmnix.launch.network.messages import NetworkEvent, NetworkEventKind
from mvmnix.launch.network.namespace_setup import GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC
from mvmnix.launch.plan import Network, PublishedPort
from mvmnix.launch.plan.network import parse_rules
from mvmnix.private_dirs import Directory
from mvmnix.process import is_readable
from mvmnix.sandbox.uid_pool import UidPool

#: Of the world: names, and where they lead. They are well known, and here they are this namespace's own.
PUBLIC = "93.184.216.34"
OTHER = "151.101.1.140"
_TUNSETIFF = 0x400454CA
_FLAGS = 0x0002 | 0x1000 | 0x4000  # IFF_TAP | IFF_NO_PI | IFF_VNET_HDR


def ip(*words: str) -> None:
    """ip(8), in the namespace of the calling thread."""
    subprocess.run(["/usr/sbin/ip", *words], check=True, capture_output=True)


@contextmanager
def own_network(addresses: Sequence[str]) -> Iterator[None]:
    """A namespace for the calling thread, whose loopback has these addresses."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    os.unshare(os.CLONE_NEWNET)
    try:
        ip("link", "set", "lo", "up")
        for one in addresses:
            ip("address", "add", f"{one}/32", "dev", "lo")
        yield
    finally:
        os.setns(before, os.CLONE_NEWNET)
        os.close(before)


class Guest:
    """Runs programs where a guest would run them."""

    def __init__(self, tap: int) -> None:
        self._far = tap
        self._stop, self._stopped = os.pipe()
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        os.unshare(os.CLONE_NEWNET)
        try:
            self._near = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self._near, _TUNSETIFF, struct.pack("16sH22x", b"eth0", _FLAGS))
            Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
            ip("link", "set", "lo", "up")
            ip("link", "set", "eth0", "address", GUEST_MAC, "up")
            ip("address", "add", f"{GUEST}/30", "dev", "eth0")
            ip("neighbour", "replace", GATEWAY, "lladdr", GATEWAY_MAC, "dev", "eth0", "nud", "permanent")
            ip("route", "add", "default", "via", GATEWAY)
            self.namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        finally:
            os.setns(before, os.CLONE_NEWNET)
            os.close(before)
        self._thread = threading.Thread(target=self._pump)
        self._thread.start()

    def _pump(self) -> None:
        poll = select.poll()
        other = {self._near: self._far, self._far: self._near}
        for fd in (*other, self._stop):
            poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._stop:
                    return
                with suppress(OSError):
                    while True:
                        os.write(other[fd], os.read(fd, 70000))

    def run(self, *argv: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
        """A program to its end."""
        words = ["/usr/bin/nsenter", f"--net=/proc/{os.getpid()}/fd/{self.namespace}", *argv]
        return subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in the guest's namespace: sockets that it makes are the guest's."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        os.setns(self.namespace, os.CLONE_NEWNET)
        try:
            yield
        finally:
            os.setns(before, os.CLONE_NEWNET)
            os.close(before)

    def connect(self, address: str, port: int, seconds: float = 10.0) -> socket.socket:
        """A connection of the guest's."""
        with self.inside():
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(seconds)
        try:
            made.connect((address, port))
        except BaseException:
            made.close()
            raise
        return made

    def close(self) -> None:
        """End it."""
        os.write(self._stopped, b"x")
        self._thread.join()
        for fd in (self._near, self.namespace, self._stop, self._stopped):
            os.close(fd)


class World:
    """What a test has of it."""

    def __init__(self, network: setup.MachineNetwork, guest: Guest, loop: Loop) -> None:
        self.network, self.guest, self.loop = network, guest, loop
        self.events: list[NetworkEvent] = []
        self.ended: list[None] = []
        network.watch(loop, self.events.append, lambda: self.ended.append(None))

    def until(self, found: Callable[[], object], seconds: float = 10.0) -> None:
        """Turn the loop until something is so."""
        end = time.monotonic() + seconds
        while not found():
            assert time.monotonic() < end, self.describe()
            self.loop.turn(0.05)

    def turn(self) -> None:
        """Take in what was told."""
        for _ in range(3):
            self.loop.turn(0.02)

    def resolve(self, name: str, kind: str = "A") -> str | None:
        """What the guest is answered: an address, "" for a name without one, None for no such name."""
        with self.guest.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(10)
            asking.connect((GATEWAY, 53))
            asking.send(dns.message.make_query(name, kind).to_wire())
            answer = dns.message.from_wire(asking.recv(4096))
        if answer.rcode() == dns.rcode.NXDOMAIN:
            return None
        return next((str(record) for found in answer.answer for record in found), "")

    def describe(self) -> str:
        """For a failing test."""
        return f"{self.events} {self.network.last_words}"

    def event(self, kind: NetworkEventKind, **fields: object) -> NetworkEvent:
        """The first event of this kind, with these fields."""

        def found() -> list[NetworkEvent]:
            return [it for it in self.events if it.kind is kind and all(getattr(it, k) == v for k, v in fields.items())]

        self.until(found)
        return found()[0]


@contextmanager
def world(
    where: Path,
    allow: Sequence[str],
    deny: Sequence[str] = (),
    *,
    hosts: str = "",
    ports: Sequence[str] = (),
    addresses: Sequence[str] = (PUBLIC, OTHER),
) -> Iterator[World]:
    """A world with a running network, by these rules."""
    with ExitStack() as stack:
        leases = stack.enter_context(Directory.create(str(where / "cells")))
        cache = stack.enter_context(Directory.create(str(where / "cache")))
        stack.enter_context(own_network(addresses))
        network = made_network(
            Network(parse_rules(allow, deny), tuple(map(PublishedPort.parse, ports))),
            BubblewrapJail(UidPool(leases), cache),
            hosts,
        )
        loop = Loop()
        stack.callback(loop.close)
        stack.callback(network.close, loop)
        guest = Guest(os.dup(network.attachment.tap))
        stack.callback(guest.close)
        network.start()
        network.release()
        made = World(network, guest, loop)
        made.until(lambda: sum(it.kind is NetworkEventKind.READY for it in made.events) == 2)
        yield made


def made_network(network: Network, jail: BubblewrapJail, hosts: str) -> setup.MachineNetwork:
    """A network whose dialler has these names; it isn't started."""
    files = {
        "/etc/hosts": hosts.encode(),
        "/etc/resolv.conf": b"nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        "/etc/host.conf": b"multi on\n",
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("mvmnix.launch.network.setup.settings", lambda: files)
        return setup.MachineNetwork.ready(network, jail)


class Server:
    """A server in the world: each connection is given to a function, in a thread of its own."""

    def __init__(self, address: str, port: int, serve: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server((address, port), backlog=256)
        self._serve = serve
        self._closed = False
        self.peers: list[str] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while is_readable(self._listener.fileno(), 3600) and not self._closed:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            self.peers.append(peer[0])
            threading.Thread(target=self._served, args=(connection,), daemon=True).start()

    def _served(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._serve(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
