"""Every verb by the real agent, which was told once what is granted: refused and allowed; and a shell's terminal."""

import os
import re
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.commands import Command
from mvmnix.launch.agent.frames import Config, Frame, FrameKind, Ready
from mvmnix.launch.agent.operations import CopyDirection
from mvmnix.launch.agent.requests import CopyRequest, ShellRequest
from mvmnix.launch.agent.stream_frames import Copy, Exec, Exit, Resize, Shell, Started
from mvmnix.launch.agent.transport import encode
from mvmnix.machines.exit_status import End, Step
from mvmnix.model import Verb, Workload
from mvmnix.system.loop import Loop
from tests.integration.agent_house import (
    ENVIRONMENT,
    IDLE,
    USER,
    config,
    config_bytes,
    free_port,
    hangs_up,
    raw,
    shell,
    takes,
    talk,
    until,
    workload,
)
from tests.support.processes import gone
from tests.unit.launch.channel_house import Collect

pytestmark = pytest.mark.integration


def terminal(*argv: str, rows: int = 24, columns: int = 80) -> ShellRequest:
    return ShellRequest(Workload(argv, ENVIRONMENT | {"TERM": "vt220"}, "/", USER), 0, rows, columns)


ASKED: dict[Verb, Frame] = {
    Verb.EXEC: Exec(3, shell("true")),
    Verb.SHELL: Shell(3, terminal("true")),
    Verb.COPY: Copy(3, CopyRequest(workload("/etc/hostname"), way=CopyDirection.OUT, replaces=False)),
}
#: As in tests/unit/launch/control/test_verbs.py; of a sealed machine the agent knows that nothing is granted.
MATRIX = [
    pytest.param(verb, verbs, allowed, id=f"{verb}-{name}")
    for verb in Verb
    if verb is not Verb.SNAPSHOT  # the supervisor grants it, and tells no guest
    for name, verbs, allowed in (
        ("none", frozenset[Verb](), False),
        ("others", frozenset(Verb) - {verb}, False),
        ("this", frozenset({verb}), True),
    )
]


@pytest.mark.parametrize(("verb", "verbs", "allowed"), MATRIX)
def test_each_verb_is_granted_by_itself(agent: Path, verb: Verb, verbs: frozenset[Verb], *, allowed: bool) -> None:
    if verb is Verb.STREAM:
        assert takes(agent, config_bytes(verbs=verbs, ports=(free_port(),))) is allowed
        return
    with raw(agent, ready=False) as host:
        host.says(Config(config(verbs=verbs)))
        assert host.hears() == Ready()
        host.says(ASKED[verb])
        assert host.hears() == (Started(3) if allowed else Exit(3, End.REFUSED, Step.NONE, 1))


class Screen:
    """A shell by the real agent: what it shows, and what is typed."""

    def __init__(self, channel: Channel, loop: Loop, request: ShellRequest) -> None:
        self.loop, self.out, self._seen = loop, Collect(), 0
        reading, self.typing = os.pipe()
        self.reading = reading
        self.command: Command = channel.start_exec(request, stdout=self.out, stderr=self.out, stdin=reading)

    def types(self, data: bytes) -> None:
        os.write(self.typing, data)

    def until(self, pattern: bytes) -> re.Match[bytes]:
        """What comes next on the screen."""
        until(self.loop, lambda: re.search(pattern, self.out.data[self._seen :]) is not None)
        found = re.search(pattern, self.out.data[self._seen :])
        assert found is not None
        self._seen += found.end()
        return found

    def ends(self) -> tuple[End, int]:
        until(self.loop, lambda: self.command.status is not None)
        assert self.command.status is not None
        os.close(self.typing)
        os.close(self.reading)
        return self.command.status.end, self.command.status.code


@pytest.fixture
def channel(agent: Path) -> Iterator[tuple[Channel, Loop]]:
    with talk(agent) as it:
        yield it


def test_a_shell_has_a_terminal_of_its_own(channel: tuple[Channel, Loop]) -> None:
    screen = Screen(
        *channel, terminal("sh", "-c", "tty; stty size; echo $TERM; ps -o tty= -p $$; stat -c %a:%u $(tty)")
    )
    name = screen.until(rb"/dev/(pts/\d+)\r\n")[1]
    screen.until(rb"24 80\r\nvt220\r\n" + name + rb"\s+600:%d\r\n" % USER.uid)
    assert screen.ends() == (End.EXITED, 0)


def test_what_is_typed_and_shown(channel: tuple[Channel, Loop]) -> None:
    screen = Screen(*channel, terminal("sh", "-c", "read line; echo got:$line; exit 9"))
    screen.types("Grüße\x7f\n".encode())  # as a terminal does, the last letter is rubbed out
    screen.until("got:Grüß\r\n".encode())
    assert screen.ends() == (End.EXITED, 9)


def test_keys_are_signals(channel: tuple[Channel, Loop]) -> None:
    screen = Screen(*channel, terminal("sh", "-c", "trap 'echo interrupted; exit 3' INT; echo ready; sleep 600 & wait"))
    screen.until(b"ready\r\n")
    screen.types(b"\x03")
    screen.until(b"interrupted\r\n")
    assert screen.ends() == (End.EXITED, 3)


def test_a_resized_terminal(channel: tuple[Channel, Loop]) -> None:
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done"
    screen = Screen(*channel, terminal("sh", "-c", script, rows=1, columns=4096))
    screen.until(b"ready\r\n")
    screen.command.resize(50, 132)
    screen.until(b"50 132\r\n")
    assert screen.ends() == (End.EXITED, 0)
    screen.command.resize(1, 1)  # nobody is there any more


def test_the_images_own_shell(channel: tuple[Channel, Loop]) -> None:
    screen = Screen(*channel, terminal())
    screen.types(b"echo $((6 * 7))-$0; exit 4\n")
    screen.until(rb"42-\S*sh\r\n")
    assert screen.ends() == (End.EXITED, 4)


def test_all_that_a_shell_said_comes(channel: tuple[Channel, Loop]) -> None:
    """Its last words lie in buffers of the kernel when it is gone; more than one of those holds."""
    screen = Screen(*channel, terminal("sh", "-c", "seq 1 60000; echo the end"))
    assert screen.ends() == (End.EXITED, 0)
    assert screen.out.data == b"".join(b"%d\r\n" % number for number in range(1, 60001)) + b"the end\r\n"


def test_a_stranger_who_keeps_the_terminal_does_not_keep_the_shell(channel: tuple[Channel, Loop]) -> None:
    script = "setsid sh -c 'trap \"\" HUP; echo $$; exec sleep 600' & sleep 0.3; exit 5"
    screen = Screen(*channel, terminal("sh", "-c", script))
    pid = int(screen.until(rb"(\d+)\r\n")[1])
    assert screen.ends() == (End.EXITED, 5)
    if not gone(pid):
        os.kill(pid, signal.SIGKILL)


def test_hanging_up_ends_the_session(channel: tuple[Channel, Loop]) -> None:
    screen = Screen(*channel, terminal("sh", "-c", "trap 'exit 6' HUP; sleep 600 & echo $!; wait"))
    pid = int(screen.until(rb"(\d+)\r\n")[1])
    screen.command.signal(signal.SIGHUP)
    assert screen.ends() == (End.EXITED, 6)
    assert gone(pid)


def test_a_shell_that_is_not_there(channel: tuple[Channel, Loop]) -> None:
    assert Screen(*channel, terminal("/bin/nosuch")).ends() == (End.NOT_STARTED, 2)


def test_other_commands_have_no_terminal(channel: tuple[Channel, Loop]) -> None:
    out = Collect()
    status = channel[0].exec(shell("tty; exec 3</dev/tty"), stdout=out, stderr=Collect(), idle=IDLE)
    assert (out.data, status.code) == (b"not a tty\n", 2)


def bare(payload: bytes) -> bytes:
    return struct.pack(">BBHII", FrameKind.SHELL, 0, 0, 3, len(payload)) + payload


BROKEN: dict[str, bytes] = {
    "no rows": encode(Shell(3, terminal("true"))).replace(b"\0\x18\0\x50", b"\0\0\0\x50"),
    "too many columns": encode(Shell(3, terminal("true"))).replace(b"\0\x18\0\x50", b"\0\x18\x10\x01"),
    "a command without a program": bare(terminal("true").encode().replace(b"\0\0\0\4true", b"\0\0\0\0")),
    "a size for nobody": encode(Resize(9, 24, 80)),
    "a size for a command": encode(Exec(3, shell("read x"))) + encode(Resize(3, 24, 80)),
    "a size of nothing": encode(Shell(3, terminal())) + encode(Resize(3, 24, 80)).replace(b"\0\x18", b"\0\0"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_host_that_breaks_the_protocol_ends_the_agent(agent: Path, data: bytes) -> None:
    hangs_up(agent, data)


def test_no_shell_runs_as_root(agent: Path) -> None:
    payload = bytearray(encode(Shell(3, terminal("id"))))
    payload[16:20] = bytes(4)
    with raw(agent) as host:
        host.says(bytes(payload))
        assert host.hears() == Exit(3, End.REFUSED, Step.NONE, 2)
