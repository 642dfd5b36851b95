"""An agent whose kernel and keeper are the test's: what it writes to its control group, and what it has renewed."""

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mvmnix.launch.agent.frames import Config, Frame, Freeze, Frozen, Hello, NotFrozen, Ready, Thaw, Thawed
from mvmnix.launch.agent.requests import GuestConfig
from mvmnix.launch.agent.stream_frames import Started, Stdout
from tests import patience
from tests.integration.agent_house import Raw, config, process
from tests.patience import EVENT_PATIENCE

#: Milliseconds in which commands are frozen wherever that is possible.
IN_TIME = EVENT_PATIENCE * 1000
ENTROPY, CLOCK, NAME = 1, 2, 4
#: struct keeper_request and keeper_answer of modules/agent/keeper.c.
REQUEST, ANSWER = struct.Struct("@Iq32s65s7x"), struct.Struct("@ii")
NOW = 1_800_000_000_000_000_000
SECRET = bytes(range(32))
THAWED, RUNS = Thawed(run_goes_on=False), Thawed(run_goes_on=True)
#: Says its number, then a line for each that it reads.
TALKS = 'echo "$$"; while read -r line; do echo "$line"; done'
#: Says its number, and once it is signaled more, and ends.
SPEAKS_LATE = 'trap "echo late; kill -9 $$" USR1; echo $$; while :; do sleep 0.02; done'


class Kernel:
    """A directory that stands for control groups: a thread freezes the one that commands are in, if it `obeys`."""

    def __init__(self, path: Path, *, obeys: bool = True) -> None:
        self.path = path
        self.words: list[bytes] = []
        #: Called when commands are to go on, before they do.
        self.thaws: Callable[[], object] = lambda: None
        self._group, self._obeys = path / "workload", obeys
        self._group.mkdir(parents=True)
        self._group.joinpath("cgroup.procs").touch()
        self._group.joinpath("cgroup.events").write_text("populated 1\nfrozen 0\n")
        os.mkfifo(self._group / "cgroup.freeze")
        self._switch = os.open(self._group / "cgroup.freeze", os.O_RDWR | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.heard()
        os.close(self._switch)

    def heard(self) -> list[bytes]:
        """All that was ever written to the group's switch, once nothing more is."""
        if self._thread.is_alive():
            os.write(self._switch, b"q")
            self._thread.join()
        return self.words

    def hears(self, *words: bytes) -> None:
        """Wait until the agent has written these to the group's switch, and no others."""
        patience.until(lambda: len(self.words) >= len(words))
        assert self.words == list(words)

    def has(self, *pids: int) -> None:
        """Say which processes the group has."""
        self._group.joinpath("cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def freezes(self) -> None:
        """Say that all of them stand, as one does that obeys."""
        self._group.joinpath("cgroup.events").write_text("populated 1\nfrozen 1\n")

    def _serve(self) -> None:
        while (word := os.read(self._switch, 1)) != b"q":
            if word == b"0":
                self.thaws()
                self._group.joinpath("cgroup.events").write_text("populated 1\nfrozen 0\n")
            self.words.append(word)
            if word == b"1" and self._obeys:
                self.freezes()


@dataclass(frozen=True)
class Renewal:
    """What the keeper was asked for."""

    parts: int
    offset: int
    entropy: bytes
    hostname: bytes


class Keeper:
    """Keeps nothing, and answers as it is told to: which part failed, and errno."""

    def __init__(self) -> None:
        self.asked: list[Renewal] = []
        self.answer = (0, 0)
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.dies()
        self.theirs.close()
        self._ours.close()

    def dies(self) -> None:
        """Answer nothing any more."""
        self._ours.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _serve(self) -> None:
        while data := self._ours.recv(4096):
            parts, offset, entropy, hostname = REQUEST.unpack(data)
            self.asked.append(Renewal(parts, offset, entropy, hostname.rstrip(b"\0")))
            self._ours.send(ANSWER.pack(*self.answer))


class Machine(Raw):
    """The host's end of an agent that is ready, and what stands for its kernel, its keeper and its root."""

    def __init__(self, sock: socket.socket, kernel: Kernel, keeper: Keeper, root: Path) -> None:
        super().__init__(sock, 65536)
        self.kernel, self.keeper, self.root = kernel, keeper, root
        self.sock = sock

    @property
    def generation(self) -> str:
        """What programs in the guest read."""
        return self.root.joinpath("run/mvm/generation").read_text()

    def hears_until(self, *last: type[Frame]) -> list[Frame]:
        """All frames up to one of these kinds, with it."""
        frames: list[Frame] = []
        while not (frames and isinstance(frames[-1], last)):
            frame = self.hears()
            assert frame is not None, frames
            frames.append(frame)
        return frames

    def freezes(self, milliseconds: int = IN_TIME) -> list[Frame]:
        """Freeze the commands; what comes until the agent says how it went, with that."""
        self.says(Freeze(milliseconds))
        return self.hears_until(Frozen, NotFrozen)

    def thaws(self, *, is_renewed: bool = False, hostname: str = "") -> Frame | None:
        """Have the commands go on; the agent's very next frame."""
        self.says(Thaw(is_renewed, NOW, SECRET, hostname))
        return self.hears()


@contextmanager
def machine(agent: Path, directory: Path, guest: GuestConfig | None = None, *, obeys: bool = True) -> Iterator[Machine]:
    """An agent that is ready."""
    root = directory / "root"
    root.mkdir()
    with Kernel(directory / "groups", obeys=obeys) as kernel, Keeper() as keeper:
        keeping = keeper.theirs.fileno()
        with process(agent, kernel.path, keeping, root, fds=(keeping,)) as (sock, _):
            keeper.theirs.close()
            host = Machine(sock, kernel, keeper, root)
            assert isinstance(host.hears(), Hello)
            host.says(Config(guest or config()))
            assert host.hears() == Ready()
            yield host


def starts(host: Machine, frame: Frame) -> int:
    """A command that says its number first."""
    host.says(frame)
    said = host.hears_until(Stdout)
    assert isinstance(said[-1], Stdout)
    assert Started(frame.stream) in said
    return int(said[-1].data)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; the agent may not have collected it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except FileNotFoundError:
        return True
