"""What a command writes, on its way through the guest agent: handed on by pages or copied, whole and in its order."""

import hashlib
import os
from pathlib import Path

import pytest

from mvmnix.launch.agent.frames import OUTPUT_WINDOW
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.launch.agent.stream_frames import Exec, Exit, Started, Stdout
from tests.integration.agent_house import execute, raw, shell, talk, workload

pytestmark = pytest.mark.integration

#: Writes that fill pages, that end within one, and that are gathered in one.
_WRITER = "import os, sys; data = open(sys.argv[1], 'rb').read(); size = int(sys.argv[2])\n"
_WRITES = _WRITER + "left = memoryview(data)\nwhile left: left = left[os.write(1, left[:size]):]"
_SENDS = _WRITER + "f, sent = os.open(sys.argv[1], 0), 0\nwhile sent < len(data): sent += os.sendfile(1, f, sent, size)"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = Path("/tmp") / f"{tmp_path.name}-{os.urandom(8).hex()}"
    path.write_bytes(os.urandom(5 * OUTPUT_WINDOW // 2 + 11))
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("size", [999, 4096, 70_001, 1 << 20])
@pytest.mark.parametrize("program", [_WRITES, _SENDS], ids=["write", "sendfile"])
def test_much_output_arrives_as_it_was_written(agent: Path, file: Path, program: str, size: int) -> None:
    with talk(agent) as (channel, _):
        request = ExecRequest(workload("/usr/bin/python3", "-c", program, str(file), str(size)))
        status, out, err = execute(channel, request)
    assert (status.exit_code, err) == (0, b"")
    assert hashlib.sha256(out).digest() == hashlib.sha256(file.read_bytes()).digest()
    file.unlink()


def test_two_lanes_and_small_frames_keep_their_order(agent: Path, file: Path) -> None:
    with talk(agent) as (channel, _):
        status, out, err = execute(channel, shell(f"cat {file} & cat {file} >&2; wait; exit 5"))
    assert status.exit_code == 5
    assert out == err == file.read_bytes()
    file.unlink()


def test_a_command_that_reads_its_own_pipe_can_break_no_frame(agent: Path) -> None:
    """A frame's length is said when its bytes can't be taken away any more: what comes behind it is a frame again."""
    thief = "exec 3</proc/$$/fd/1; cat <&3 >/dev/null & dd if=/dev/zero bs=5000 count=4000 2>/dev/null; kill $!; exit 3"
    with talk(agent) as (channel, _):
        for _ in range(5):
            status, out, _ = execute(channel, shell(thief))
            assert status.exit_code == 3
            assert len(out) <= 5000 * 4000
            assert execute(channel, shell("echo whole"))[1] == b"whole\n"
        assert channel.failure is None


def test_a_command_gets_no_more_than_its_window(agent: Path) -> None:
    with raw(agent) as host:
        host.says(Exec(3, shell("head -c 3000000 /dev/zero")))
        assert host.hears() == Started(3)
        got = 0
        while got < OUTPUT_WINDOW:
            frame = host.hears()
            assert isinstance(frame, Stdout)
            got += len(frame.data)
        assert got == OUTPUT_WINDOW
        host.says(Exec(5, shell("exit 7")))
        heard = [host.hears(), host.hears()]
        assert heard[0] == Started(5)  # and not another byte of the other one
        assert isinstance(heard[1], Exit)
        assert (heard[1].stream, heard[1].code) == (5, 7)
