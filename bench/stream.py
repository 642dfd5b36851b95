"""Bytes out of a guest: through the agent's channel, and by a program that writes to the port itself, in turns."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measurement import Figure
from bench.place import TRUE, Place
from bench.raw_qemu import PATIENCE, RawQemu
from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.model import User, Workload
from tests.support.archives import member, padded

_HERE = Path(__file__).parent
_USER = User(1000, 1000)
#: As much as writer.c and printer.c write: so much that starting a command is little of what is measured.
_BYTES = 128 << 20
_PRINTER = "/tmp/printer"
_INSTALL = f"busybox cat > {_PRINTER} && busybox chmod 755 {_PRINTER}"
#: Its bytes get into the pipe by sendfile(2), as pages of a file that the guest has in memory.
_CAT = ("/bin/busybox", "cat", *["/bin/busybox"] * 66)


def stream(place: Place, *, rounds: int) -> Iterator[Figure]:
    """Measure megabytes a second of a program that prints, of `cat`, and of a writer to the port."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-bench-") as name:
        raw = RawQemu.of(_writing(Path(name), place.hello))
        with raw.connected() as port, RawQemu.of(place.hello, *TRUE).channel() as channel:
            _install(channel, Path(name))
            _read(port)
            rows = [(_sent(channel, _PRINTER), _sent(channel, *_CAT), _read(port)) for _ in range(rounds)]
    program, cat, writer = (tuple(row[at] for row in rows) for at in range(3))
    for what, values in (("a program's output", program), ("cat of a file", cat)):
        yield Figure(f"{what}, out of a guest", "MB/s", values, "a writer to the port", writer, "ratio at least 0.7")


def _writing(where: Path, hello: Path) -> Path:
    """The image, with a first process that writes to the port whenever it is told."""
    for name in ("kernel", "rootfs", "manifest.json"):
        (where / name).symlink_to(hello / name)
    sources = where / "sources"
    shutil.copytree(_HERE.parent / "modules/agent", sources)
    shutil.copy(_HERE / "writer.c", sources / "main.c")
    subprocess.run(["make", "-s", "-C", sources, "agent"], check=True)
    made = member("init", 0o100755, (sources / "agent").read_bytes()) + member("TRAILER!!!", 0)
    (where / "initrd").write_bytes(padded((hello / "initrd").read_bytes()) + made)
    return where


def _install(channel: Channel, where: Path) -> None:
    subprocess.run(["musl-gcc", "-O2", "-static", "-s", "-o", where / "printer", _HERE / "printer.c"], check=True)
    work = Workload(("/bin/busybox", "sh", "-c", _INSTALL), {}, "/", _USER)
    program = (where / "printer").read_bytes()
    if channel.exec(ExecRequest(work), stdout=print, stderr=print, stdin=program, idle=PATIENCE).exit_code != 0:
        raise RuntimeError("the guest didn't take the program")


def _sent(channel: Channel, *argv: str) -> float:
    """Megabytes a second through pipe, agent, port and the host's end of the channel."""
    got = 0

    def take(data: bytes) -> None:
        nonlocal got
        got += len(data)

    begin = time.monotonic()
    channel.exec(ExecRequest(Workload(argv, {}, "/", _USER)), stdout=take, stderr=take, idle=PATIENCE)
    return got / 1e6 / (time.monotonic() - begin)


def _read(port: socket.socket) -> float:
    """Megabytes a second of a bare reader."""
    memory, left = bytearray(1 << 18), _BYTES
    begin = time.monotonic()
    port.sendall(b"\n")
    while left > 0:
        left -= port.recv_into(memory) or left
    return _BYTES / 1e6 / (time.monotonic() - begin)
