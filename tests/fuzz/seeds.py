"""Writes the seed corpora: what an honest guest and an honest host say. `python -m tests.fuzz.seeds`, in the checkout.

A corpus that grew by hand or by a finding may hold more; what is written here is always part of it.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mvmnix.launch.agent.frames import (
    PROTOCOL_VERSION,
    Bye,
    Config,
    Failed,
    FrameKind,
    Freeze,
    Frozen,
    Hello,
    NotFrozen,
    Ping,
    Pong,
    Ready,
    Shutdown,
    Thaw,
    Thawed,
    Time,
)
from mvmnix.launch.agent.guest_network import GuestNetwork
from mvmnix.launch.agent.operations import CopyDirection, FileOperation
from mvmnix.launch.agent.requests import CopyRequest, ExecRequest, FilesRequest, Mount, ShellRequest
from mvmnix.launch.agent.stream_frames import (
    Copy,
    Data,
    Eof,
    Exec,
    Exit,
    Files,
    Open,
    Reset,
    Resize,
    Run,
    Shell,
    Signal,
    Started,
    Stderr,
    Stdin,
    Stdout,
    Window,
)
from mvmnix.launch.agent.transport import encode
from mvmnix.launch.snapshots.statement import snapshot_statement
from mvmnix.launch.templates.guest_memory import BLOCK, pack
from mvmnix.machines.exit_status import End, Step
from mvmnix.model import SystemCalls
from mvmnix.plan.secret_reference import Secret, SecretTarget
from mvmnix.plan.share import ShareKind
from tests.fuzz.control_seeds import control
from tests.fuzz.network_seeds import client_hello, http, resolver
from tests.unit.launch.channel_house import config, workload
from tests.unit.launch.snapshots.kept import claim_of

HERE = Path(__file__).parent
CHANNEL, AGENT, CONVERSATION, CLIENT_HELLO, RESOLVER, HTTP, CONTROL, SNAPSHOT = (
    HERE / "corpus" / name
    for name in ("channel", "agent", "conversation", "client-hello", "resolver", "http", "control", "snapshot")
)


def channel() -> Iterator[tuple[str, bytes]]:
    """What a guest says, behind the byte that says at which stage."""
    yield "hello", b"\0" + encode(Hello(PROTOCOL_VERSION, "agent", "6.12"))
    yield "another-version", b"\0" + encode(Hello(PROTOCOL_VERSION + 1, "agent", "6.12"))
    yield "failed", b"\1" + encode(Failed(b"no root"))
    yield "pong-and-bye", b"\1" + encode(Pong(1)) + encode(Bye())
    yield "ready-twice", b"\1" + encode(Ready())
    said = (Started(3), Stdout(3, b"out"), Stderr(3, b"err"), Exit(3, End.EXITED, Step.NONE, 0))
    yield "a-command", b"\2" + b"".join(map(encode, said))
    connection = (Open(2, 80), Data(2, b"question"), Window(2, FrameKind.DATA, 8), Eof(2), Reset(2))
    yield "a-connection", b"\2" + b"".join(map(encode, connection))
    yield "a-port-that-was-not-granted", b"\2" + encode(Open(2, 22))
    yield "cut-off", b"\2" + encode(Stdout(3, b"x" * 100))[:50]
    thawed = encode(Thawed(run_goes_on=False))
    yield "frozen-and-thawed", b"\3" + encode(Started(3)) + encode(Frozen()) + thawed + encode(Stdout(3, b"on"))
    yield "not-frozen", b"\3" + encode(NotFrozen(b"no group")) + encode(Started(3))
    yield "output-of-frozen", b"\3" + encode(Started(3)) + encode(Frozen()) + encode(Stdout(3, b"x"))
    yield "not-renewed", b"\4" + encode(Failed(b"no entropy"))
    adopted = (Thawed(run_goes_on=True), Stdout(1, b"on"), Open(2, 80), Exit(1, End.EXITED, Step.NONE, 0))
    yield "restored", b"\4" + b"".join(map(encode, adopted))


def agent() -> Iterator[tuple[str, bytes]]:
    """What a host says, behind the byte that says which parser it is for."""
    request = ExecRequest(workload("echo", "hello", ""), 5000)
    copy = CopyRequest(workload("/tmp", "name"), way=CopyDirection.IN, replaces=True)
    removal = FilesRequest(workload("/tmp/a"), operation=FileOperation.REMOVE, recursive=True)
    terminal = ShellRequest(workload(), 0, 24, 80)
    said = (
        Config(config()),
        Run(1),
        Exec(3, request),
        Stdin(3, b"in"),
        Signal(3, 15),
        Data(2, b"answer"),
        Eof(2),
        Reset(2),
        Window(3, FrameKind.STDOUT, 7),
        Ping(1),
        Time(1),
        Shutdown(1000),
        Resize(3, 24, 80),
        Shell(5, terminal),
        Copy(7, copy),
        Files(9, removal),
        Freeze(1000),
        Thaw(is_renewed=True, time_ns=1, entropy=bytes(range(32)), hostname="twin"),
    )
    yield "frames", b"\0" + b"".join(map(encode, said))
    for frame in said:
        yield f"frame-{frame.KIND.name.lower()}", b"\0" + encode(frame)
    yield from configurations()
    yield "request", b"\2" + request.encode()
    yield "shell", b"\3" + terminal.encode()
    yield "copy-in", b"\4" + copy.encode()
    yield "copy-out", b"\4" + CopyRequest(workload("a"), way=CopyDirection.OUT, replaces=False).encode()
    yield "files-remove", b"\5" + removal.encode()
    rename = FilesRequest(workload("a", "b"), operation=FileOperation.RENAME)
    yield "files-rename", b"\5" + rename.encode()
    yield "files-mkdir", b"\5" + FilesRequest(workload("a/b"), operation=FileOperation.MKDIR, parents=True).encode()


def configurations() -> Iterator[tuple[str, bytes]]:
    """What a CONFIG may hold, behind the byte of its parser."""
    yield "config", b"\1" + Config(config()).payload()
    yield "config-sealed", b"\1" + Config(config(verbs=frozenset(), ports=())).payload()
    secrets = (Secret("a.pem", SecretTarget.FILE, b"\0\xff"), Secret("b", SecretTarget.FILE, b"x" * 100))
    yield "config-secrets", b"\1" + Config(replace(config(), secrets=secrets)).payload()
    limited = replace(config(), secrets=secrets, system_calls=SystemCalls.STRICT, tasks=64)
    yield "config-limits", b"\1" + Config(limited).payload()
    mounts = tuple(
        Mount(f"share{number}", f"/data/{number}", kind, bool(number)) for number, kind in enumerate(ShareKind)
    )
    yield "config-shares", b"\1" + Config(replace(limited, shares=mounts)).payload()
    yield "config-data", b"\1" + Config(replace(limited, data="/tmp/data")).payload()
    network = GuestNetwork("198.19.255.2", 30, "198.19.255.1", "02:6d:76:6d:00:01", 1500, "198.19.255.1")
    yield "config-network", b"\1" + Config(replace(limited, network=network)).payload()


def conversation() -> Iterator[tuple[str, bytes]]:
    """What a host says from its first word on, behind the byte whose bits say which step of CONFIG fails."""
    request = ExecRequest(workload("echo"), 0)
    commands = {
        "run": Run(1),
        "exec": Exec(3, request),
        "shell": Shell(3, ShellRequest(workload(), 0, 24, 80)),
        "copy": Copy(3, CopyRequest(workload("a"), way=CopyDirection.OUT, replaces=False)),
        "files": Files(3, FilesRequest(workload("a"), operation=FileOperation.LIST)),
    }
    good, bad = encode(Config(config())), encode(Config(config()))[:-1] + b"\xff"
    for name, frame in commands.items():
        yield name, b"\0" + good + encode(frame) + encode(Ping(1)) + encode(Shutdown(0))
        yield f"{name}-unconfigured", b"\0" + encode(frame)
        yield f"{name}-malformed", b"\0" + bad + encode(frame)
        yield f"{name}-after-shutdown", b"\0" + good + encode(Shutdown(0)) + encode(frame)
        for step, bit in (("apply", 1), ("confine", 2), ("streams", 4)):
            yield f"{name}-failed-{step}", bytes([bit]) + good + encode(frame)
    rest = (Stdin(1, b"x"), Stdin(3, b""), Signal(1, 9), Resize(1, 24, 80), Window(1, FrameKind.STDOUT, 7))
    yield "after-a-failed-run", b"\0" + good + encode(Run(1)) + b"".join(map(encode, rest))
    yield "after-a-failed-config", b"\4" + good + b"".join(map(encode, (Run(1), *rest, Data(2, b"x"), Shutdown(0))))
    yield "ping-after-a-failed-config", b"\2" + good + encode(Ping(1))
    yield "data-after-a-failed-config", b"\1" + good + encode(Data(2, b"x"))
    freeze, thaws = encode(Freeze(1000)), [Thaw(is_renewed=it, time_ns=1, entropy=bytes(32)) for it in (False, True)]
    again = encode(Ping(1)) + encode(Exec(3, request)) + encode(Shutdown(0))
    for name, thaw in zip(("frozen", "restored"), map(encode, thaws), strict=True):
        yield name, b"\0" + good + encode(Exec(3, request)) + freeze + thaw + again
        yield f"{name}-not-renewed", b"\x20" + good + freeze + thaw + again
        yield f"{name}-after-a-failed-freeze", b"\x08" + good + freeze + thaw
    yield "not-frozen", b"\x08" + good + freeze + again
    yield "frozen-too-late", b"\x10" + good + encode(Freeze(0)) + again
    yield "frozen-and-shut-down", b"\0" + good + freeze + encode(Shutdown(1000))
    yield "frozen-and-asked", b"\0" + good + freeze + encode(Exec(3, request))
    yield "frozen-before-ready", b"\0" + freeze + good
    yield "config-again", b"\1" + good * 2
    yield "shutdown-first", b"\0" + encode(Shutdown(0)) + good + encode(Run(1))


def snapshot() -> Iterator[tuple[str, bytes]]:
    """What is signed about a snapshot, or packed in one, behind the byte that says which."""
    yield "claim", b"\0" + snapshot_statement(claim_of()).to_bytes()
    yield "claim-of-a-machine-that-ended", b"\0" + snapshot_statement(claim_of(parent="", ended_with=True)).to_bytes()
    yield "claim-with-secrets", b"\0" + snapshot_statement(claim_of(secrets=("1", "2"), additions=())).to_bytes()
    yield "blocks", b"\1" + b"".join(pack(((BLOCK, b"\2" * 100),)))
    yield "no-block", b"\1"


#: Each corpus, and what makes its seeds.
CORPORA = {
    CHANNEL: channel,
    AGENT: agent,
    CONVERSATION: conversation,
    CLIENT_HELLO: client_hello,
    RESOLVER: resolver,
    HTTP: http,
    CONTROL: control,
    SNAPSHOT: snapshot,
}


def main() -> None:
    for directory, seeds in ((directory, make()) for directory, make in CORPORA.items()):
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in seeds:
            (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
