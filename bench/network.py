"""A guest's network through the gateway, against the same guest with QEMU's own user-mode network, in turns.

The servers are one process, in a network namespace with addresses of the Internet; what a guest runs is the same
program (peer.c). Three guests are there: one behind a gateway and a dialer, one with `-netdev user`, and one whose tap
is in the servers' own namespace, with nothing between: what is added to that is ours, or that of QEMU's stack.

Then a machine of a signed plan makes 10,000 connections, and its processes are looked at before and after; and machines
are started, with a network and without.
"""

import fcntl
import os
import shutil
import ssl
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.commands import opened
from bench.measurement import Figure, in_turns_with
from bench.memory import descendants
from bench.pairs import Pair, Times
from bench.place import TRUE, Place
from bench.raw_qemu import PATIENCE, RawQemu
from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.launch.runtime.machine import Machine as Started
from mvmnix.launch.runtime.start import GUEST_NETWORK
from mvmnix.model import User, Workload
from mvmnix.network.host.namespace_setup import GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC
from mvmnix.plan.network import Network, parse_rules
from mvmnix.plan.network_endpoints import ConnectionRate
from tests.conftest import commit
from tests.hostile.network.world import PUBLIC, beyond, ip, own_network
from tests.vm.networked import FLAKE, Machine, boot

_PEER = Path(__file__).with_name("peer.c")
_USER = User(1000, 1000)
_PLAIN, _NAMED = "tcp.example.com", "tls.example.com"
_HOSTS = f"{PUBLIC} {_PLAIN} {_NAMED}\n"
_RULES = [
    f"{protocol}:{name}:{port}" for protocol, name in (("tcp", _PLAIN), ("tls", _NAMED)) for port in range(7001, 7004)
]
_RATE = ConnectionRate(10_000, 65_535)
_RULE = ("--allow", f"tcp:{PUBLIC}:7003", "--connection-rate", _RATE.typed)
_BYTES = 64 << 20
_CONNECTIONS, _AT_ONCE = 300, 16
_ECHOES = 200
_TUNSETIFF, _TAP = 0x400454CA, 0x0002 | 0x1000 | 0x4000
#: libslirp's own hardware address in its network: this prefix, and its IPv4 address.
_SLIRP_MAC = "52:55:" + bytes(map(int, GATEWAY.split("."))).hex(":")


@dataclass(frozen=True, slots=True)
class Peer:
    """The program in a guest; `hosts` are the names of the servers there, of `tcp` and of `tls`."""

    channel: Channel
    hosts: tuple[str, str]

    def does(self, what: str, *words: object, tls: bool = False) -> list[int]:
        """What it prints. Raises RuntimeError."""
        return self.run("/tmp/peer", what, self.hosts[tls], "/tmp/hello" if tls else "-", *map(str, words))

    def run(self, *argv: str, stdin: bytes = b"") -> list[int]:
        """A program in the guest, and the numbers that it prints."""
        said, complained = bytearray(), bytearray()
        work = Workload(argv, {"PATH": "/bin"}, "/", _USER)
        end = self.channel.exec(
            ExecRequest(work), stdout=said.extend, stderr=complained.extend, stdin=stdin, idle=PATIENCE
        )
        if end.exit_code != 0:
            raise RuntimeError(f"{argv}: {end} {complained.decode(errors='replace')}")
        return [int(line) for line in said.split()]

    def install(self, program: bytes, hello: bytes) -> None:
        """Bring it, and what a TLS client says first."""
        for name, data in (("peer", program), ("hello", hello)):
            self.run("/bin/busybox", "sh", "-c", f"cat > /tmp/{name}; chmod 755 /tmp/{name}", stdin=data)


@dataclass(frozen=True, slots=True)
class Measured:
    """What is measured of each guest: a number that is better if it is higher, or lower."""

    name: str
    take: Callable[[Peer], float]
    unit: str


def _speed(what: str, peer: Peer, *, tls: bool) -> float:
    return _BYTES / 1e6 / (peer.does(what, _BYTES, tls=tls)[0] / 1e9)


def _connections(at_once: int, peer: Peer, *, tls: bool) -> float:
    return _CONNECTIONS / (peer.does("connect", _CONNECTIONS, at_once, tls=tls)[0] / 1e9)


def _latency(peer: Peer, *, tls: bool) -> float:
    return statistics.median(peer.does("echo", _ECHOES, tls=tls)) / 1e6


_TAKEN: tuple[tuple[str, str, Callable[..., float]], ...] = (
    ("guest to server", "MB/s", partial(_speed, "send")),
    ("server to guest", "MB/s", partial(_speed, "receive")),
    (f"connections, {_AT_ONCE} at once", "1/s", partial(_connections, _AT_ONCE)),
    ("connections, one by one", "1/s", partial(_connections, 1)),
    ("round trip of a byte, p50", "ms", _latency),
)
_MEASURED = tuple(
    Measured(f"{name}, {'tls' if tls else 'tcp'}", partial(take, tls=tls), unit)
    for name, unit, take in _TAKEN
    for tls in (False, True)
)


def network(place: Place, *, rounds: int) -> Iterator[Figure]:
    """Starts, processes, and connections: a guest behind the gateway, with `-netdev user`, and with a bare tap."""
    image = connected(place)
    yield from _starts(place, rounds)
    yield from _loaded_processes(place)
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mvmnix-bench-")))
        peers, _ = guests(stack, where, image)
        found = [{it.name: [it.take(peer) for peer in peers] for it in _MEASURED} for _ in range(rounds + 1)][1:]
    for it in _MEASURED:
        ours, *others = (tuple(each[it.name][at] for each in found) for at in range(3))
        for compared, theirs in zip(("-netdev user", "direct tap"), others, strict=True):
            yield Figure(it.name, it.unit, ours, compared, theirs)


def connected(place: Place) -> Path:
    """An image whose machines may be in a network, exported."""
    out = place.hello.parent / "connected"
    if not out.exists():
        guest = place.tree / "guests/connected"
        guest.mkdir(parents=True, exist_ok=True)
        (guest / "flake.nix").write_text(FLAKE)
        shutil.copy2(place.tree / "examples/hello/flake.lock", guest / "flake.lock")
        commit(place.tree)
        place.mvm("build", "./guests/connected", "--out", out)
    return out


def guests(stack: ExitStack, where: Path, image: Path) -> tuple[list[Peer], Machine]:
    """The three of them, in a world with a server; and the one that is ours."""
    stack.enter_context(own_network([PUBLIC]))
    program = _compiled(where)
    stack.enter_context(_serving(program))
    machine = boot(stack, where, image, Network(parse_rules(_RULES, []), connection_rate=_RATE), _HOSTS)
    peers = [Peer(machine.guest.channel, (_PLAIN, _NAMED))]
    for options, fds, mac in (_user(), _direct(stack)):
        raw = replace(RawQemu.of(image, "/bin/busybox", "true"), options=options, descriptors=fds)
        peers.append(Peer(stack.enter_context(raw.channel(replace(GUEST_NETWORK, gateway_mac=mac))), (PUBLIC, PUBLIC)))
    for peer in peers:
        peer.install(program.read_bytes(), _hello())
    peers[1].run("/tmp/peer", "lease", GATEWAY)
    return peers, machine


def _compiled(where: Path) -> Path:
    program = where / "peer"
    subprocess.run(["musl-gcc", "-O2", "-static", "-s", "-o", program, _PEER], check=True)
    return program


def _user() -> tuple[tuple[str, ...], tuple[int, ...], str]:
    net = f"user,id=net,ipv6=off,net={GUEST}/24,host={GATEWAY},dhcpstart={GUEST}"
    return ("-netdev", net, "-device", f"virtio-net-device,netdev=net,mac={GUEST_MAC}"), (), _SLIRP_MAC


def _direct(stack: ExitStack) -> tuple[tuple[str, ...], tuple[int, ...], str]:
    """A tap in the namespace of the servers."""
    with beyond(PUBLIC):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        stack.callback(os.close, fd)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", b"direct", _TAP))
        ip("link", "set", "direct", "address", GATEWAY_MAC, "up")
        ip("address", "add", f"{GATEWAY}/30", "dev", "direct")
        ip("neighbour", "replace", GUEST, "lladdr", GUEST_MAC, "dev", "direct", "nud", "permanent")
    options = ("-netdev", f"tap,id=net,fd={fd}", "-device", f"virtio-net-device,netdev=net,mac={GUEST_MAC}")
    return options, (fd,), GATEWAY_MAC


@contextmanager
def _serving(program: Path) -> Iterator[None]:
    argv = [str(program), "serve", str(_BYTES), PUBLIC]
    with beyond(PUBLIC):
        server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    with server:
        try:
            if server.stdout is None or server.stdout.readline() != "ready\n":
                raise RuntimeError("the server doesn't serve")
            yield
        finally:
            server.kill()


def _hello() -> bytes:
    said = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname=_NAMED).do_handshake()
    return said.read()


#: By process: its PSS in MiB, its descriptors, its threads.
type _Taken = dict[str, tuple[float, int, int]]


def _loaded_processes(place: Place) -> Iterator[Figure]:
    """What the processes of a machine take before, and after connections, of which the first thousand warm them up.

    The supervisor is this process.
    """
    bundle = _plan(place, *_RULE)
    looks: list[tuple[str, _Taken]] = []
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mvmnix-bench-")))
        stack.enter_context(own_network([PUBLIC]))
        program = _compiled(where)
        stack.enter_context(_serving(program))
        _, machine = stack.enter_context(opened(place, bundle))
        install = ("/bin/busybox", "sh", "-c", "cat > /tmp/peer; chmod 755 /tmp/peer")
        _run(machine, *install, stdin=program.read_bytes())
        looks.append(("ready", _processes()))
        for count in (1000, 10_000):
            _run(machine, "/tmp/peer", "connect", PUBLIC, "-", str(count), str(_AT_ONCE))
            looks.append((f"{count} connections later", _processes()))
    for when, taken in looks:
        for name, values in taken.items():
            for what, unit, value in zip(("PSS", "descriptors", "threads"), ("MiB", "", ""), values, strict=True):
                yield Figure(f"{name}, {when}: {what}", unit, (float(value),))


def _plan(place: Place, *options: str) -> bytes:
    """A signed plan for the image."""
    made, signed = (place.home.path / f"network.{name}" for name in ("json", "sigstore.json"))
    reference = f"path:{place.tree}?dir=guests/connected"
    place.mvm("plan", "create", *options, "--verb", "exec", "--out", made, reference, "--", *TRUE)
    place.mvm("plan", "sign", made, "--out", signed)
    return signed.read_bytes()


def _run(machine: Started, *argv: str, stdin: bytes = b"") -> None:
    said = bytearray()
    end = machine.exec(argv, environment={}, stdout=said.extend, stderr=said.extend, stdin=stdin)
    if end.exit_code != 0:
        raise RuntimeError(f"{argv}: {end} {said.decode(errors='replace')}")


def _processes() -> _Taken:
    found = {"supervisor": _taken(os.getpid())}
    for process in descendants(os.getpid()):
        words = Path(f"/proc/{process}/cmdline").read_text()
        if Path(words.split("\0", maxsplit=1)[0]).name.startswith("python") and "mvmnix.network" in words:
            found["gateway" if ".gateway " in words else "dialer"] = _taken(process)
    return found


def _taken(process: int) -> tuple[float, int, int]:
    proc = Path(f"/proc/{process}")
    pss = next(line for line in (proc / "smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
    return int(pss.split()[1]) / 1024, len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir()))


def _starts(place: Place, rounds: int) -> Iterator[Figure]:
    """From a signed plan to a machine that is ready: with a network, and without."""
    plans = [_plan(place, *_RULE), _plan(place)]
    taken: list[list[float]] = [[], []]
    for _ in range(rounds + 1):
        for plan, times in zip(plans, taken, strict=True):
            begin = time.monotonic()
            with opened(place, plan):
                times.append(time.monotonic() - begin)
    found = Pair(*(Times(tuple(times[1:])) for times in taken))
    yield in_turns_with("machine start with a network", "without", found, "difference at most 0.060")
