"""What the guest agent itself refuses, and how it ends: hosts without manners, configurations without sense."""

import socket
import struct
from pathlib import Path

import pytest

from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.encoding import ChannelClosedError, GuestFailedError
from mvmnix.launch.agent.frames import Config, FrameKind, Ping, Pong, Ready, Shutdown
from mvmnix.launch.agent.operations import CopyDirection, FileOperation
from mvmnix.launch.agent.requests import CopyRequest, FilesRequest, Mount, ShellRequest
from mvmnix.launch.agent.stream_frames import Copy, Data, Exec, Exit, Files, Run, Shell, Signal, Started, Stdin, Window
from mvmnix.launch.agent.transport import encode
from mvmnix.machines.exit_status import End, Step
from mvmnix.model import DirectoryOrder, Verb
from mvmnix.plan.secret_reference import LARGEST_SECRET, MOST_SECRETS, Secret, SecretTarget
from mvmnix.plan.share import MOST_SHARES, ShareKind
from mvmnix.system.loop import Loop
from tests.integration.agent_house import (
    IDLE,
    USER,
    Raw,
    config,
    config_bytes,
    failure,
    hangs_up,
    process,
    raw,
    shell,
    takes,
    talk,
    workload,
)
from tests.patience import EVENT_PATIENCE
from tests.support.processes import gone

pytestmark = pytest.mark.integration


def test_a_sealed_guest_refuses_every_command_but_its_own(agent: Path) -> None:
    with raw(agent, ready=False) as host:
        host.says(Config(config(verbs=frozenset({Verb.STREAM}))))
        assert host.hears() == Ready()
        host.says(Exec(3, shell("echo no")))
        assert host.hears() == Exit(3, End.REFUSED, Step.NONE, 1)
        host.says(Run(1), Stdin(1, b""))
        assert host.hears() == Started(1)
        host.says(Run(1))
        while (frame := host.hears()) is not None:
            assert frame.KIND in {FrameKind.STDOUT, FrameKind.EXIT}


def test_no_command_runs_as_root(agent: Path) -> None:
    payload = bytearray(encode(Exec(3, shell("id"))))
    payload[12:16] = bytes(4)
    with raw(agent) as host:
        host.says(bytes(payload))
        assert host.hears() == Exit(3, End.REFUSED, Step.NONE, 2)
        host.says(Ping(7))
        assert host.hears() == Pong(7)


def test_there_is_room_for_so_many_commands(agent: Path) -> None:
    with raw(agent) as host:
        for number in range(65):
            host.says(Exec(3 + 2 * number, shell("read x")))
        frames = [host.hears() for _ in range(65)]
        assert sorted(type(frame).__name__ for frame in frames) == ["Exit"] + ["Started"] * 64
        assert Exit(131, End.REFUSED, Step.NONE, 3) in frames


MALFORMED = "a configuration that can't be taken apart"
BAD_CONFIGS = {
    "the verb stream is not granted": config_bytes(verbs=frozenset({Verb.EXEC}), ports=(8080,)),
    "128 MiB to 1 TiB": config_bytes(order=DirectoryOrder.REVERSED, scratch=(1 << 27) - 1),
    "reversed directories need": config_bytes(order=DirectoryOrder.REVERSED, scratch=(1 << 40) + 1),
    "unknown verbs": config_bytes(verbs=frozenset({Verb.EXEC})).replace(
        struct.pack(">III", USER.uid, USER.gid, 1), struct.pack(">III", USER.uid, USER.gid, 0x8001)
    ),
    "without scratch space": config_bytes(writable=("/tmp",), scratch=0),
    "can't be taken apart": config_bytes(writable=("tmp",)),
    "or well-formed environment": config_bytes().replace(b"PATH=", b"PATH_"),
    "a configuration that can't be": config_bytes(ports=(0,)),
}
#: Secrets that would lie elsewhere, or take more memory than they may.
BAD_SECRETS = {
    "above its directory": (Secret("../x", SecretTarget.FILE, b"x"),),
    "hidden": (Secret(".x", SecretTarget.FILE, b"x"),),
    "an option": (Secret("-x", SecretTarget.FILE, b"x"),),
    "nameless": (Secret("", SecretTarget.FILE, b"x"),),
    "in a directory": (Secret("a/b", SecretTarget.FILE, b"x"),),
    "with a long name": (Secret("x" * 65, SecretTarget.FILE, b"x"),),
    "too large": (Secret("x", SecretTarget.FILE, b"x" * (LARGEST_SECRET + 1)),),
    "too many": tuple(Secret(f"x{number}", SecretTarget.FILE, b"x") for number in range(MOST_SECRETS + 1)),
}


def shared(tag: bytes = b"share0", place: bytes = b"/data", tail: bytes = b"\1\0") -> bytes:
    """A list of one share, as CONFIG has it."""
    return b"\0\0\0\1" + b"".join(len(text).to_bytes(4) + text for text in (tag, place)) + tail


@pytest.mark.parametrize(("why", "data"), BAD_CONFIGS.items(), ids=BAD_CONFIGS.keys())
def test_a_bad_configuration_is_a_failure_and_the_end(agent: Path, why: str, data: bytes) -> None:
    assert why in failure(agent, data)


#: What a host may have said before it hears that the configuration failed.
AFTER_A_FAILURE = {
    "RUN": encode(Run(1)),
    "EXEC": encode(Exec(3, shell("echo run; kill -9 $PPID"))),
    "SHELL": encode(Shell(3, ShellRequest(workload(), 0, 24, 80))),
    "COPY": encode(Copy(3, CopyRequest(workload("/etc/passwd"), way=CopyDirection.OUT, replaces=False))),
    "FILES": encode(Files(3, FilesRequest(workload("/tmp"), operation=FileOperation.LIST))),
    "SHUTDOWN": encode(Shutdown(0)),
    "SHUTDOWN, EXEC": encode(Shutdown(1000)) + encode(Exec(3, shell("true"))),
    "another CONFIG, RUN": encode(Config(config())) + encode(Run(1)),
    "PING": encode(Ping(1)),
    "STDIN": encode(Stdin(1, b"x")),
    "DATA": encode(Data(2, b"x")),
    "nothing that is known": bytes([99]) + bytes(11),
}


@pytest.mark.parametrize("rest", AFTER_A_FAILURE.values(), ids=AFTER_A_FAILURE.keys())
@pytest.mark.parametrize("bad", [config_bytes(ports=(0,)), config_bytes(verbs=frozenset({Verb.EXEC}), ports=(8080,))])
def test_nothing_that_follows_a_failed_configuration_has_an_effect(agent: Path, bad: bytes, rest: bytes) -> None:
    failure(agent, bad + rest)


@pytest.mark.parametrize("rest", AFTER_A_FAILURE.values(), ids=AFTER_A_FAILURE.keys())
def test_nor_what_follows_one_that_failed_in_its_last_step(agent: Path, port: int, rest: bytes) -> None:
    with socket.create_server(("127.0.0.1", port)):
        assert failure(agent, config_bytes(ports=(port,)) + rest)


@pytest.mark.parametrize("secrets", BAD_SECRETS.values(), ids=BAD_SECRETS.keys())
def test_secrets_stay_in_their_directory_and_bounds(agent: Path, secrets: tuple[Secret, ...]) -> None:
    assert failure(agent, config_bytes(secrets=secrets)) == MALFORMED


@pytest.mark.parametrize("count", [0, 1, 3, 2**32 - 1])
def test_a_count_of_secrets_that_lies(agent: Path, count: int) -> None:
    data = config_bytes(secrets=(Secret("one", SecretTarget.FILE, b"x"), Secret("two", SecretTarget.FILE, b"y")))
    at = data.index(b"one") - 8
    failure(agent, data[:at] + struct.pack(">I", count) + data[at + 4 :])


def test_secrets_are_taken(agent: Path) -> None:
    secrets = tuple(Secret(f"a-{number}.pem", SecretTarget.FILE, b"\0" * 1024) for number in range(MOST_SECRETS))
    assert takes(agent, config_bytes(secrets=secrets))


def test_directories_may_be_asked_for_in_reverse(agent: Path) -> None:
    assert takes(agent, config_bytes(order=DirectoryOrder.REVERSED, scratch=1 << 27))


def test_a_port_that_is_taken_is_reported(agent: Path, port: int) -> None:
    failure = pytest.raises(GuestFailedError, match="can't listen on")
    with socket.create_server(("127.0.0.1", port)), failure, talk(agent, config(ports=(port,))):
        pass


BROKEN: dict[str, bytes] = {
    "a second CONFIG": encode(Config(config())),
    "unknown type": bytes([99]) + bytes(11),
    "flags": struct.pack(">BBHIIQ", FrameKind.PING, 1, 0, 0, 8, 0),
    "endless length": struct.pack(">BBHII", FrameKind.STDIN, 0, 0, 3, 2**32 - 1),
    "a guest's frame": encode(Ready()),
    "EXEC on an even stream": struct.pack(">BBHIIB", FrameKind.EXEC, 0, 0, 4, 1, 0),
    "EXEC twice on a stream": encode(Exec(3, shell("true"))) * 2,
    "EXEC backwards": encode(Exec(5, shell("true"))) + encode(Exec(3, shell("true"))),
    "EXEC of nothing": struct.pack(">BBHIIB", FrameKind.EXEC, 0, 0, 3, 1, 0),
    "EXEC with a list too long": encode(Exec(3, shell("true")))[:-8] + b"\xff" * 8,
    "RUN twice": encode(Run(1)) * 2,
    "STDIN for nobody": encode(Stdin(9, b"x")),
    "SIGNAL 65": encode(Exec(3, shell("read x"))) + encode(Signal(3, 65)),
    "DATA for nobody": encode(Data(2, b"x")),
    "WINDOW too wide": encode(Exec(3, shell("read x"))) + encode(Window(3, FrameKind.STDOUT, 1)),
    "WINDOW of stdin": encode(Exec(3, shell("read x"))) + encode(Window(3, FrameKind.STDIN, 1)),
    "STDIN beyond its window": encode(Exec(3, shell("sleep 60"))) + encode(Stdin(3, b"x" * 65536)) * 10,
    "STDIN after its end": encode(Exec(3, shell("sleep 60"))) + encode(Stdin(3, b"")) + encode(Stdin(3, b"x")),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_host_that_breaks_the_protocol_ends_the_agent(agent: Path, data: bytes) -> None:
    hangs_up(agent, data)


@pytest.mark.parametrize("data", [encode(Run(1)), encode(Exec(3, shell("true"))), encode(Stdin(1, b""))])
def test_nothing_happens_before_the_configuration(agent: Path, data: bytes) -> None:
    with raw(agent, ready=False) as host:
        host.says(data)
        assert host.hears() is None


def test_a_flood_of_pings_is_answered_in_bounded_memory(agent: Path) -> None:
    with raw(agent) as host:
        for portion in range(100):
            host.says(b"".join(encode(Ping(portion * 1000 + number)) for number in range(1000)))
            assert [host.hears() for _ in range(1000)][-1] == Pong(portion * 1000 + 999)


def test_commands_die_with_the_host(agent: Path) -> None:
    with process(agent) as (sock, child):
        host = Raw(sock, 65536)
        host.hears()
        host.says(Config(config()))
        host.hears()
        host.says(Exec(3, shell("sleep 600 & echo $!; sleep 600")))
        assert host.hears() == Started(3)
        out = host.hears()
        assert out is not None
        sock.shutdown(socket.SHUT_RDWR)
        assert child.wait(EVENT_PATIENCE) == 0
        assert gone(int(out.payload()))


def test_the_agent_says_why_it_ends(agent: Path) -> None:
    with process(agent) as (sock, child):
        sock.sendall(bytes(12))
        assert child.wait(EVENT_PATIENCE) == 0
        assert child.stderr is not None
        assert child.stderr.read() == b"mvm agent: the host broke the protocol\n"


def test_a_guest_that_ends_is_noticed(agent: Path) -> None:
    loop = Loop()
    with process(agent) as (sock, child):
        channel = Channel(sock, loop)
        channel.wait_hello(idle=IDLE)
        child.kill()
        with pytest.raises(ChannelClosedError):
            channel.configure(config(), idle=IDLE)
        child.wait()
        child.returncode = 0
    loop.close()


BAD_SHARES = {
    "none": b"\0\0\0\0",
    "more than there may be": (MOST_SHARES + 1).to_bytes(4),
    "a count that lies": b"\0\0\0\2",
    "a tag with a slash": shared(tag=b"../x"),
    "a tag without a letter": shared(tag=b""),
    "a long tag": shared(tag=b"x" * 17),
    "a relative place": shared(place=b"data"),
    "the root": shared(place=b"/"),
    "a long place": shared(place=b"/" + b"x" * 4096),
    "a kind that is not known": shared(tail=b"\3\0"),
    "neither yes nor no": shared(tail=b"\1\2"),
}


@pytest.mark.parametrize("wrong", BAD_SHARES.values(), ids=BAD_SHARES.keys())
def test_shares_stay_in_their_bounds(agent: Path, wrong: bytes) -> None:
    data = config_bytes(shares=(Mount("share0", "/data", ShareKind.VIRTIOFS, read_only=False),))
    right, header = shared(), 12
    payload = data[header:].replace(right, wrong if len(wrong) > 4 else wrong + right[4:])
    assert failure(agent, data[: header - 4] + len(payload).to_bytes(4) + payload) == MALFORMED


def test_shares_are_taken(agent: Path) -> None:
    mounts = tuple(Mount(f"share{n}", f"/data/{n}", kind, read_only=True) for n, kind in enumerate(ShareKind))
    assert takes(agent, config_bytes(shares=mounts, secrets=(Secret("one", SecretTarget.FILE, b"x"),)))
