"""The guest agent, compiled and started in its test mode, and the two ways to talk to it; shared by its tests."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.frames import Config, Failed, Frame, Hello, Ready
from mvmnix.launch.agent.requests import ExecRequest, GuestConfig
from mvmnix.launch.agent.transport import FrameDecoder, encode
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.model import User, Verb, Workload
from mvmnix.system.loop import Loop
from tests import patience
from tests.patience import EVENT_PATIENCE
from tests.repository import ROOT
from tests.unit.launch.channel_house import Collect, Services

SOURCES = ROOT / "modules" / "agent"
IDLE = float(patience.EVENT_PATIENCE)
USER = User(65534, 65534) if os.geteuid() == 0 else User(os.getuid(), os.getgid())
#: A root directory of the test's own, for the agent makes a directory there; the machine's directories are below it.
OWN_ROOT = """
set -e; mkdir -p machine; mount -t tmpfs none machine
for path in /*; do
  if [ -L "$path" ]; then cp -P "$path" "machine$path"
  elif [ -d "$path" ]; then mkdir "machine$path"; mount --rbind "$path" "machine$path"; fi
done
exec /usr/sbin/chroot machine sh -c 'cd "$1"; eval "$2"' sh "$PWD" "$1"
"""
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def workload(*argv: str, directory: str = "/", **environment: str) -> Workload:
    return Workload(argv, ENVIRONMENT | environment, directory, USER)


def shell(script: str, *, timeout_ms: int = 0) -> ExecRequest:
    return ExecRequest(workload("sh", "-c", script), timeout_ms)


def config(*, verbs: frozenset[Verb] = frozenset(Verb), ports: tuple[int, ...] = ()) -> GuestConfig:
    return GuestConfig("guest", 1, bytes(32), 4096, USER, (), verbs, ports, workload("echo", "planned"), 5000)


@contextmanager
def process(
    agent: Path, *words: Path | int, fds: tuple[int, ...] = ()
) -> Iterator[tuple[socket.socket, "subprocess.Popen[bytes]"]]:
    """The agent and our end of its socket; perhaps with a directory that stands for the kernel's control groups.

    Behind that, one of `fds` may stand for its keeper, and another directory for the workload's root.
    """
    ours, theirs = socket.socketpair()
    argv = [str(agent), "--serve", str(theirs.fileno()), *map(str, words)]
    os.set_blocking(theirs.fileno(), False)
    with subprocess.Popen(argv, pass_fds=[theirs.fileno(), *fds], stderr=subprocess.PIPE) as child, theirs:
        theirs.close()
        try:
            yield ours, child
        finally:
            ours.close()
            assert child.wait(EVENT_PATIENCE) == 0


@contextmanager
def talk(
    agent: Path, guest: GuestConfig | None = None, *groups: Path, services: Services | None = None
) -> Iterator[tuple[Channel, Loop]]:
    loop, guest = Loop(), guest or config()
    with process(agent, *groups) as (sock, _):
        channel = Channel(sock, loop, services=dict.fromkeys(guest.ports, services or Services()))
        hello = channel.wait_hello(idle=IDLE)
        assert (hello.agent, hello.kernel) == ("0.3.0", os.uname().release)
        channel.configure(guest, idle=IDLE)
        yield channel, loop
        if channel.failure is None:
            channel.shutdown(grace_ms=1000, idle=IDLE)
        channel.close()
    loop.close()


def execute(channel: Channel, request: ExecRequest, stdin: bytes | None = None) -> tuple[ExitStatus, bytes, bytes]:
    out, err = Collect(), Collect()
    status = channel.exec(request, stdout=out, stderr=err, stdin=stdin, idle=IDLE)
    return status, out.data, err.data


class Raw:
    """The host's end without its manners."""

    def __init__(self, sock: socket.socket, portion: int) -> None:
        self._sock = sock
        self._portion = portion
        self._sock.settimeout(IDLE)
        self._frames: list[Frame] = []
        self._decoder = FrameDecoder()

    def says(self, *frames: Frame | bytes) -> None:
        for frame in frames:
            self._sock.sendall(frame if isinstance(frame, bytes) else encode(frame))

    def hears(self) -> Frame | None:
        """The next frame, None at the end."""
        while not self._frames:
            try:
                data = self._sock.recv(self._portion)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)


@contextmanager
def raw(agent: Path, *groups: Path, ready: bool = True, portion: int = 65536) -> Iterator[Raw]:
    with process(agent, *groups) as (sock, _):
        host = Raw(sock, portion)
        assert isinstance(host.hears(), Hello)
        if ready:
            host.says(Config(config()))
            assert host.hears() == Ready()
        yield host


def failure(agent: Path, said: Frame | bytes) -> str:
    """What the agent says of a configuration that it refuses, after which it says nothing more."""
    with raw(agent, ready=False) as host:
        host.says(said)
        failed = host.hears()
        assert isinstance(failed, Failed)
        assert host.hears() is None
    return failed.message.decode()


def takes(agent: Path, said: Frame | bytes) -> bool:
    """Whether the agent is ready with a configuration."""
    with raw(agent, ready=False) as host:
        host.says(said)
        return host.hears() == Ready()


def hangs_up(agent: Path, said: bytes) -> None:
    """Break the protocol: whatever the agent says to what came before, it ends."""
    with raw(agent) as host:
        with suppress(BrokenPipeError):
            host.says(said)
        while host.hears() is not None:
            pass


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


def until(loop: Loop, done: Callable[[], bool]) -> None:
    patience.until(done, rest=lambda: loop.turn(patience.POLL))


def config_bytes(**changes: object) -> bytes:
    """A configuration that our own constructor would refuse."""
    guest = config()
    for name, value in changes.items():
        object.__setattr__(guest, name, value)
    return encode(Config(guest))
