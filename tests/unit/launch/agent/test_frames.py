"""The codec between frames and bytes: what comes out is what went in, and nothing else gets in."""

import struct
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.launch.agent.encoding import ChannelProtocolError, Writer
from mvmnix.launch.agent.frames import (
    INITIAL_WINDOW,
    MAX_TEXT,
    Bye,
    Config,
    Failed,
    Frame,
    FrameKind,
    Freeze,
    Frozen,
    GuestFailure,
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
from mvmnix.launch.agent.operations import MAX_PAYLOAD, CopyDirection, FileOperation
from mvmnix.launch.agent.requests import CopyRequest, ExecRequest, FilesRequest, GuestConfig, ShellRequest
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
from mvmnix.launch.agent.transport import FROM_GUEST, HEADER_BYTES, MAX_FRAME_BYTES, FrameDecoder, encode
from mvmnix.machines.exit_status import End, Step
from mvmnix.model import DirectoryOrder, SystemCalls, User, Verb, Workload
from mvmnix.plan.limits import MOST_TASKS
from mvmnix.plan.secret_reference import LARGEST_SECRET, LARGEST_SECRETS, MOST_SECRETS, Secret, SecretTarget
from tests.unit.launch.host_frames import HostDecoder, read_config

USER = User(1000, 1000)
WORK = Workload(("sh", "-c", "echo 'Grüße'\n"), {"PATH": "/bin", "RAW": "\udcff"}, "/tmp", USER)
NETWORK = GuestNetwork("198.19.255.2", 30, "198.19.255.1", "02:6d:76:6d:00:01", 1500, "198.19.255.1")


def config(**changes: object) -> GuestConfig:
    fields: dict[str, object] = {
        "hostname": "guest",
        "time_ns": 1_700_000_000_000_000_000,
        "entropy": bytes(range(32)),
        "scratch": 1 << 20,
        "owner": USER,
        "writable": ("/tmp", "/var/tmp"),
        "verbs": frozenset(Verb) - {Verb.SNAPSHOT},
        "ports": (80, 8080),
        "workload": WORK,
        "timeout_ms": 5000,
    }
    return GuestConfig(**(fields | changes))  # type: ignore[arg-type]


FROM_THE_GUEST: list[Frame] = [
    Hello(1, "0.1", "6.12.1"),
    Ready(),
    Failed(b"no disk"),
    Failed(b"/etc/passwd is a file of the image", GuestFailure.MOUNT_POINT),
    Started(3),
    Stdout(3, b"out"),
    Stderr(3, b"err"),
    Exit(3, End.EXITED, Step.NONE, 255),
    Exit(3, End.NOT_STARTED, Step.DIRECTORY, 2),
    Exit(3, End.SIGNALED, Step.NONE, 9, is_out_of_memory=True),
    Exit(3, End.EXITED, Step.NONE, 137, is_out_of_memory=True),
    Exit(3, End.TIMED_OUT, Step.NONE, 0, is_out_of_memory=True),
    Open(2, 80),
    Data(2, b"x" * MAX_PAYLOAD),
    Eof(2),
    Reset(2),
    Window(2, FrameKind.DATA, 1),
    Pong(0),
    Frozen(),
    NotFrozen(b""),
    NotFrozen(b"x" * MAX_TEXT),
    Thawed(run_goes_on=True),
    Thawed(run_goes_on=False),
    Bye(),
]
ONE_PATH = [operation for operation in FileOperation if operation is not FileOperation.RENAME]
FROM_THE_HOST: list[Frame] = [
    Config(config()),
    Config(config(workload=None, timeout_ms=0, ports=(), writable=())),
    Config(config(order=DirectoryOrder.REVERSED, scratch=1 << 27)),
    Config(config(system_calls=SystemCalls.STRICT, tasks=7)),
    Config(config(system_calls=SystemCalls.NAMESPACES)),
    Config(config(tasks=MOST_TASKS)),
    Config(config(network=NETWORK)),
    Config(config(network=replace(NETWORK, mtu=9000, resolver="223.255.255.254"))),
    Config(config(network=GuestNetwork("10.255.255.254", 8, "10.0.0.1", "fe:ff:ff:ff:ff:ff", 576, "1.1.1.1"))),
    Config(config(network=NETWORK, data="/data", workload=None, timeout_ms=0)),
    Config(config(secrets=(Secret("a.pem", SecretTarget.FILE, b"\0\xff\n"), Secret("b", SecretTarget.FILE, b"x")))),
    Run(1),
    Exec(3, ExecRequest(WORK, 7)),
    Stdin(3, b""),
    Stdin(3, b"in"),
    Signal(3, 15),
    Data(2, b"y"),
    Reset(4),
    Window(3, FrameKind.STDERR, INITIAL_WINDOW),
    Ping(2**64 - 1),
    Shutdown(1000),
    Time(2**63 - 1),
    Freeze(0),
    Freeze(2**32 - 1),
    Thaw(is_renewed=False, time_ns=2**63 - 1, entropy=bytes(range(32))),
    Thaw(is_renewed=True, time_ns=0, entropy=bytes(32), hostname="a" * 63),
    Resize(3, 1, 4096),
    Shell(3, ShellRequest(WORK, 0, 24, 80)),
    Copy(3, CopyRequest(replace(WORK, argv=("a/\udcff",)), way=CopyDirection.OUT, replaces=False)),
    Copy(5, CopyRequest(replace(WORK, argv=("/to", "name")), way=CopyDirection.IN, replaces=True)),
    Shell(5, ShellRequest(replace(WORK, argv=()), 7, 4096, 1)),
    *(Files(3, FilesRequest(replace(WORK, argv=("a\n/\udcff",)), operation=it)) for it in ONE_PATH),
    Files(5, FilesRequest(replace(WORK, argv=("/a", "../b")), operation=FileOperation.RENAME)),
    Files(7, FilesRequest(replace(WORK, argv=("a",)), operation=FileOperation.REMOVE, recursive=True)),
    Files(9, FilesRequest(replace(WORK, argv=("a",)), operation=FileOperation.MKDIR, parents=True)),
]


def raw(kind: int, *, stream: int = 0, payload: bytes = b"", flags: int = 0, reserved: int = 0) -> bytes:
    return struct.pack(">BBHII", kind, flags, reserved, stream, len(payload)) + payload


@pytest.mark.parametrize("frame", FROM_THE_GUEST, ids=lambda frame: type(frame).__name__)
def test_every_frame_of_a_guest_survives_the_way_there(frame: Frame) -> None:
    assert list(FrameDecoder().feed(encode(frame))) == [frame]


@pytest.mark.parametrize("frame", FROM_THE_HOST, ids=lambda frame: type(frame).__name__)
def test_every_frame_of_a_host_is_as_a_guest_reads_it(frame: Frame) -> None:
    assert list(HostDecoder().feed(encode(frame))) == [frame]


def test_every_kind_is_covered() -> None:
    assert {frame.KIND for frame in FROM_THE_GUEST} == set(FROM_GUEST)
    assert {frame.KIND for frame in (*FROM_THE_GUEST, *FROM_THE_HOST)} == set(FrameKind)


@given(st.lists(st.integers(1, 5000), max_size=40))
def test_any_cutting_gives_the_same_frames(cuts: list[int]) -> None:
    data, decoder, got = b"".join(map(encode, FROM_THE_GUEST)), FrameDecoder(), list[Frame]()
    for cut in [*cuts, len(data)]:
        got += decoder.feed(data[:cut])
        data = data[cut:]
        assert decoder.pending < MAX_FRAME_BYTES
    assert got == FROM_THE_GUEST
    assert decoder.pending == 0


@given(st.binary(max_size=200))
def test_noise_is_refused_or_waits_for_more(noise: bytes) -> None:
    with suppress(ChannelProtocolError):
        for frame in FrameDecoder().feed(noise):
            assert encode(frame)[:1] == bytes([frame.KIND])


@given(st.sampled_from(sorted(FrameKind)), st.sampled_from([0, 1, 2, 3]), st.binary(max_size=80))
def test_noise_behind_a_good_header_is_refused_or_round_trips(kind: FrameKind, stream: int, payload: bytes) -> None:
    data = raw(kind, stream=stream, payload=payload)
    with suppress(ChannelProtocolError):
        (frame,) = FrameDecoder().feed(data)
        assert encode(frame) == data


arguments = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50)


@given(st.lists(arguments, min_size=1, max_size=20), st.integers(1, 4096), st.integers(1, 4096))
def test_any_shell_survives(args: list[str], rows: int, columns: int) -> None:
    request = ShellRequest(Workload(tuple(args) if args[0] else (), {}, "/", USER), 0, rows, columns)
    assert list(HostDecoder().feed(encode(Shell(9, request)))) == [Shell(9, request)]
    assert list(HostDecoder().feed(encode(Resize(9, rows, columns)))) == [Resize(9, rows, columns)]


@pytest.mark.parametrize("size", [(0, 80), (24, 0), (4097, 80), (24, 65535)])
def test_no_terminal_has_such_a_size(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="size of a terminal"):
        ShellRequest(WORK, 0, *size)


@pytest.mark.parametrize(
    ("argv", "way"),
    [
        ((), CopyDirection.OUT),
        (("",), CopyDirection.OUT),
        (("a", "name"), CopyDirection.OUT),
        (("a", "b", "c"), CopyDirection.IN),
        (("a", ".."), CopyDirection.IN),
        (("a", "b/c"), CopyDirection.IN),
        (("a", "x" * 256), CopyDirection.IN),
    ],
)
def test_a_copy_refuses_what_a_guest_would(argv: tuple[str, ...], way: CopyDirection) -> None:
    with pytest.raises(ValueError, match=r"needs a path|not the name"):
        CopyRequest(replace(WORK, argv=argv), way=way, replaces=False)


@pytest.mark.parametrize(
    ("operation", "argv", "flags"),
    [
        *((operation, argv, {}) for operation in ONE_PATH for argv in ((), ("",), ("a", "b"))),
        *((FileOperation.RENAME, argv, {}) for argv in (("a",), ("a", ""), ("a", "b", "c"))),
        *((it, ("a",), {"recursive": True}) for it in ONE_PATH if it is not FileOperation.REMOVE),
        *((it, ("a",), {"parents": True}) for it in ONE_PATH if it is not FileOperation.MKDIR),
        (FileOperation.RENAME, ("a", "b"), {"recursive": True}),
        (FileOperation.RENAME, ("a", "b"), {"parents": True}),
    ],
)
def test_a_file_operation_refuses_what_a_guest_would(
    operation: FileOperation, argv: tuple[str, ...], flags: dict[str, bool]
) -> None:
    with pytest.raises(ValueError, match=r"needs . path|only remove|only mkdir"):
        FilesRequest(replace(WORK, argv=argv), operation=operation, **flags)


def test_a_file_operation_has_no_path_with_a_nul() -> None:
    with pytest.raises(ValueError, match="NUL"):
        FilesRequest(replace(WORK, argv=("a\0b",)))


@given(st.lists(arguments, max_size=20), st.dictionaries(arguments, arguments, max_size=20), st.integers(0, 2**63 - 1))
def test_any_command_survives(args: list[str], environment: dict[str, str], timeout_ms: int) -> None:
    clean = {name.replace("=", "_") or "X": value for name, value in environment.items()}
    request = ExecRequest(Workload(("prog", *args), clean, "/", USER), timeout_ms)
    assert list(HostDecoder().feed(encode(Exec(3, request)))) == [Exec(3, request)]


BAD_BYTES = {
    "unknown type": raw(99),
    "type zero": raw(0),
    "a host's frame": raw(FrameKind.PING, payload=bytes(8)),
    "flags": raw(FrameKind.READY, flags=1),
    "reserved": raw(FrameKind.READY, reserved=1),
    "too long": struct.pack(">BBHII", FrameKind.DATA, 0, 0, 2, MAX_PAYLOAD + 1),
    "longest length": struct.pack(">BBHII", FrameKind.DATA, 0, 0, 2, 2**32 - 1),
    "control on a stream": raw(FrameKind.READY, stream=1),
    "command on channel": raw(FrameKind.STARTED),
    "command on an even stream": raw(FrameKind.STDOUT, stream=2, payload=b"x"),
    "connection on an odd stream": raw(FrameKind.DATA, stream=1, payload=b"x"),
    "connection on channel": raw(FrameKind.EOF),
    "window on channel": raw(FrameKind.WINDOW, payload=struct.pack(">BI", FrameKind.DATA, 1)),
    "ready with payload": raw(FrameKind.READY, payload=b"x"),
    "empty stdout": raw(FrameKind.STDOUT, stream=1),
    "empty data": raw(FrameKind.DATA, stream=2),
    "short hello": raw(FrameKind.HELLO, payload=b"\0\0\0"),
    "long hello": raw(FrameKind.HELLO, payload=Writer().pack("I", 1).string("").string("").pack("B", 0).done()),
    "hello string beyond its end": raw(FrameKind.HELLO, payload=struct.pack(">III", 1, 4, 0)),
    "hello with a huge string": raw(
        FrameKind.HELLO, payload=Writer().pack("I", 1).string("a" * 2000).string("").done()
    ),
    "hello with NUL": raw(FrameKind.HELLO, payload=struct.pack(">II", 1, 1) + b"\0" + bytes(4)),
    "long failure": raw(FrameKind.FAILED, payload=bytes(4) + b"x" * (MAX_TEXT + 1)),
    "failure without a kind": raw(FrameKind.FAILED, payload=b"x"),
    "failure of no kind": raw(FrameKind.FAILED, payload=struct.pack(">I", 2) + b"x"),
    "exit of no kind": raw(FrameKind.EXIT, stream=1, payload=struct.pack(">BBHI", 9, 0, 0, 0)),
    "exit status 256": raw(FrameKind.EXIT, stream=1, payload=struct.pack(">BBHI", End.EXITED, 0, 0, 256)),
    "exit signal 65": raw(FrameKind.EXIT, stream=1, payload=struct.pack(">BBHI", End.SIGNALED, 0, 0, 65)),
    "exit with bad step": raw(FrameKind.EXIT, stream=1, payload=struct.pack(">BBHI", End.NOT_STARTED, 9, 0, 2)),
    "exit with step": raw(FrameKind.EXIT, stream=1, payload=struct.pack(">BBHI", End.EXITED, 1, 0, 2)),
    "exit with an unknown flag": raw(FrameKind.EXIT, stream=1, payload=struct.pack(">BBHI", End.EXITED, 0, 2, 2)),
    "success for want of memory": raw(FrameKind.EXIT, stream=1, payload=struct.pack(">BBHI", End.EXITED, 0, 1, 0)),
    "refused for want of memory": raw(FrameKind.EXIT, stream=1, payload=struct.pack(">BBHI", End.REFUSED, 0, 1, 1)),
    "not started for want of memory": raw(
        FrameKind.EXIT, stream=1, payload=struct.pack(">BBHI", End.NOT_STARTED, 1, 1, 12)
    ),
    "window of nothing": raw(FrameKind.WINDOW, stream=2, payload=struct.pack(">BI", FrameKind.DATA, 0)),
    "window too wide": raw(FrameKind.WINDOW, stream=2, payload=struct.pack(">BI", FrameKind.DATA, INITIAL_WINDOW + 1)),
    "window on a wrong flow": raw(FrameKind.WINDOW, stream=2, payload=struct.pack(">BI", FrameKind.STDIN, 1)),
    "window on no flow": raw(FrameKind.WINDOW, stream=1, payload=struct.pack(">BI", 200, 1)),
    "frozen with payload": raw(FrameKind.FROZEN, payload=b"x"),
    "frozen on a stream": raw(FrameKind.FROZEN, stream=1),
    "long reason for not freezing": raw(FrameKind.NOT_FROZEN, payload=b"x" * (MAX_TEXT + 1)),
    "thawed with an unknown flag": raw(FrameKind.THAWED, payload=struct.pack(">I", 2)),
    "short thawed": raw(FrameKind.THAWED, payload=b"\0\0\0"),
    "long thawed": raw(FrameKind.THAWED, payload=bytes(5)),
    "a host's freeze": raw(FrameKind.FREEZE, payload=bytes(4)),
    "a host's thaw": raw(FrameKind.THAW, payload=bytes(48)),
    "short open": raw(FrameKind.OPEN, stream=2, payload=b"\0"),
}


@pytest.mark.parametrize("data", BAD_BYTES.values(), ids=BAD_BYTES.keys())
def test_a_guest_that_breaks_the_protocol_is_refused(data: bytes) -> None:
    with pytest.raises(ChannelProtocolError, match="the guest broke the channel's protocol"):
        list(FrameDecoder().feed(data))


def test_frames_before_a_bad_one_are_delivered() -> None:
    frames = FrameDecoder().feed(encode(Ready()) + raw(99))
    assert next(frames) == Ready()
    with pytest.raises(ChannelProtocolError):
        next(frames)


def test_the_largest_length_is_refused_before_its_payload_comes() -> None:
    decoder = FrameDecoder()
    with pytest.raises(ChannelProtocolError, match="4294967295"):
        list(decoder.feed(struct.pack(">BBHII", FrameKind.DATA, 0, 0, 2, 2**32 - 1)))
    assert decoder.pending <= HEADER_BYTES


def test_a_payload_that_is_too_long_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="at most 65536"):
        encode(Stdin(1, b"x" * (MAX_PAYLOAD + 1)))


BAD_CONFIGS: dict[str, dict[str, object]] = {
    "not a host name": {"hostname": "a b"},
    "Unix time": {"time_ns": 0},
    "entropy": {"entropy": b"short"},
    "size in bytes": {"scratch": -1},
    "scratch of at least": {"scratch": 0},
    "128 MiB to 1 TiB": {"order": DirectoryOrder.REVERSED, "scratch": (1 << 27) - 1},
    "reversed directories need": {"order": DirectoryOrder.REVERSED, "scratch": (1 << 40) + 1},
    "writable paths": {"writable": tuple(f"/w{number}" for number in range(65))},
    "not clean absolute paths": {"writable": ("/tmp/../etc",)},
    "not clean": {"writable": ("/",)},
    "clean absolute": {"writable": ("//tmp",)},
    "or one twice": {"ports": (80, 80)},
    "not TCP ports": {"ports": (0,)},
    "verb stream": {"verbs": frozenset({Verb.EXEC})},
    "neither a workload": {"workload": None, "verbs": frozenset({Verb.STREAM})},
    "takes more than": {"writable": tuple("/" + "w" * 2000 + str(number) for number in range(64))},
}


@pytest.mark.parametrize(("why", "changes"), BAD_CONFIGS.items(), ids=BAD_CONFIGS.keys())
def test_a_configuration_refuses_what_a_guest_would(why: str, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=why):
        config(**changes)


BAD_COMMANDS: dict[str, Workload] = {
    "at least a program": Workload((), {}, "/", USER),
    "needs at least": Workload(("",), {}, "/", USER),
    "absolute working directory": Workload(("x",), {}, "tmp", USER),
    "not an absolute": Workload(("x",), {}, "/tmp/..", USER),
    "equals sign": Workload(("x",), {"A=B": "c"}, "/", USER),
    "name is empty": Workload(("x",), {"": "c"}, "/", USER),
    "NUL": Workload(("x", "a\0b"), {}, "/", USER),
    "more than 65536": Workload(("x", "a" * 70000), {}, "/", USER),
}


@pytest.mark.parametrize(("why", "work"), BAD_COMMANDS.items(), ids=BAD_COMMANDS.keys())
def test_a_command_refuses_what_a_guest_would(why: str, work: Workload) -> None:
    with pytest.raises(ValueError, match=why):
        ExecRequest(work)


@pytest.mark.parametrize("timeout_ms", [-1, 2**63])
def test_a_time_limit_is_a_number_of_milliseconds(timeout_ms: int) -> None:
    with pytest.raises(ValueError, match="milliseconds"):
        ExecRequest(WORK, timeout_ms)


@pytest.mark.parametrize("tasks", [-1, MOST_TASKS + 1])
def test_tasks_out_of_bounds(tasks: int) -> None:
    with pytest.raises(ValueError, match="not a number of tasks"):
        config(tasks=tasks)


def test_a_configuration_without_limits_keeps_its_bytes() -> None:
    """An agent that knows of none takes it."""
    plain = config().encode()
    assert config(system_calls=SystemCalls.DEFAULT, tasks=0).encode() == plain
    assert config(tasks=1).encode() != plain


def test_a_network_stands_between_the_data_disk_s_place_and_the_command() -> None:
    """Its bytes as docs/reference/channel.md has them; without one, a configuration keeps those that it had."""
    told = config(data="/data", network=NETWORK).encode()
    assert b"\0\0\0\5/data" + bytes.fromhex("c613ff02 1e c613ff01 026d766d0001 05dc c613ff01 000003e8") in told
    assert config(data="/data", network=None).encode() == config(data="/data").encode()


def test_a_configuration_without_secrets_keeps_its_bytes() -> None:
    """So that an agent of before understands it."""
    variables = (Secret("TOKEN", SecretTarget.VARIABLE, b"hush"),)
    plain = config(workload=Workload(WORK.argv, {**WORK.environment, "TOKEN": "hush"}, WORK.directory, WORK.user))
    assert config(secrets=variables).encode() == plain.encode()
    assert read_config(config(secrets=variables).encode()) == plain


def test_a_configuration_forgets_its_secrets_and_never_shows_them() -> None:
    told = config(secrets=(Secret("A", SecretTarget.FILE, b"hush-1"), Secret("B", SecretTarget.VARIABLE, b"hush-2")))
    assert "hush" not in repr(told)
    assert told.without_secrets() == config()


@pytest.mark.parametrize(
    "changes",
    [
        {"secrets": tuple(Secret(f"A{n}", SecretTarget.FILE, b"x") for n in range(MOST_SECRETS + 1))},
        {
            "secrets": tuple(
                Secret(f"A{n}", SecretTarget.FILE, b"x" * LARGEST_SECRET)
                for n in range(LARGEST_SECRETS // LARGEST_SECRET + 1)
            )
        },
        {"secrets": (Secret("A", SecretTarget.VARIABLE, b"x"),), "workload": None},
    ],
    ids=["too many", "too large", "a variable of nobody"],
)
def test_secrets_out_of_bounds(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"secrets|variables"):
        config(**changes)


@pytest.mark.parametrize(
    ("agent", "is_late"),
    [
        *((version, True) for version in ("0.2.0", "0.2.1", "0.10.0", "1.0.0")),
        *(
            (version, False)
            for version in (
                "0.1.0",
                "0.1.99",
                "",
                "fake",
                "0.2",
                "0.2.0-rc",
                "0.2.0\n",
                "-1.2.0",
                "\N{ARABIC-INDIC DIGIT ONE}.2.0",
            )
        ),
    ],
)
def test_which_agents_bind_disks_late(agent: str, is_late: bool) -> None:
    assert Hello(2, agent, "6.12").binds_disks_late is is_late


def test_no_guest_is_told_of_snapshots() -> None:
    assert config(verbs=frozenset(Verb)).encode() == config(verbs=frozenset(Verb) - {Verb.SNAPSHOT}).encode()


@pytest.mark.parametrize(
    ("agent", "freezes"),
    [("0.3.0", True), ("0.10.0", True), ("0.2.9", False), ("0.3", False), ("fake", False), ("0.3.0 ", False)],
)
def test_which_agents_freeze_commands(agent: str, *, freezes: bool) -> None:
    assert Hello(2, agent, "6.12").freezes_commands is freezes


@pytest.mark.parametrize(
    "changes",
    [
        {"time_ns": -1},
        {"time_ns": 2**63},
        {"entropy": bytes(31)},
        {"entropy": bytes(33)},
        {"hostname": "a.b"},
        {"hostname": "A"},
        {"hostname": "a" * 64},
    ],
)
def test_a_thaw_refuses_what_a_guest_would(changes: dict[str, object]) -> None:
    good = Thaw(is_renewed=True, time_ns=1, entropy=bytes(32))
    with pytest.raises(ValueError, match=r"not a time|entropy has|not a host name"):
        replace(good, **changes)  # type: ignore[arg-type]


def test_a_thaw_never_shows_its_entropy() -> None:
    assert "sesame" not in repr(Thaw(is_renewed=True, time_ns=1, entropy=b"sesame".ljust(32)))
