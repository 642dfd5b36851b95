"""Every verb in machines of both postures: refused and allowed where it should be, each time in the audit log."""

import errno
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from mvmnix.api.calls import Call, call, connect
from mvmnix.audit.record import RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats import strict
from mvmnix.launch.agent.file_entries import FileEntryReader, FileKind
from mvmnix.launch.agent.operations import CopyDirection, FileOperation
from mvmnix.launch.control.calls import take_snapshot
from mvmnix.launch.control.codec import LIMIT, encode
from mvmnix.launch.control.drivers import run
from mvmnix.launch.control.messages import Copy, Exec, Files, GuestCall, Resize, Shell, Stream
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines import control_socket, registry
from mvmnix.model import Posture, Verb
from mvmnix.system.descriptors import receive_packet, send_packet
from tests.descriptors import close_all
from tests.patience import until
from tests.unit.launch.channel_house import Services
from tests.unit.launch.house import House, detach
from tests.unit.launch.saving import host_of

TERMINAL = (Stream.STDIN, Stream.STDOUT)


def running(here: House, posture: Posture, *verbs: Verb) -> str:
    """A detached machine; its command runs on. Returns its id."""
    ports = (80,) if Verb.STREAM in verbs else ()
    with here.plan("linger", posture=posture, verbs=frozenset(verbs), ports=ports) as plan:
        return detach(plan, partial(host_of, here) if Verb.SNAPSHOT in verbs else here.host, name="web")


class Terminal:
    """A shell in the machine, and our ends of its pipes."""

    def __init__(self, here: House, asked: Shell) -> None:
        (theirs_in, self.typing), (self.screen, theirs_out) = os.pipe(), os.pipe()
        self.call: Call = call(here.directory("machines"), "web", asked, (theirs_in, theirs_out))
        close_all((theirs_in, theirs_out))

    def until(self, words: bytes) -> bytes:
        """What the screen shows up to these words."""
        shown = b""
        while words not in shown:
            data = os.read(self.screen, 4096)
            assert data, shown
            shown += data
        return shown

    def close(self) -> None:
        close_all((self.typing, self.screen))


def asked_to(here: House, asked: GuestCall) -> Callable[[], None]:
    """Ask for it with as many pipes as it wants; what it prints is nobody's."""

    def ask() -> None:
        pipes = [os.pipe() for _ in asked.streams]
        theirs = tuple(
            ends[0 if stream is Stream.STDIN else 1] for stream, ends in zip(asked.streams, pipes, strict=True)
        )
        with call(here.directory("machines"), "web", asked, theirs) as it:
            close_all(tuple(fd for ends in pipes for fd in ends if fd != pipes[0][1]))
            if asked.streams[:1] == (Stream.STDIN,):
                with suppress(BrokenPipeError):  # whoever was refused may have nobody to type for already
                    os.write(pipes[0][1], b"\x04")
            os.close(pipes[0][1])
            it.wait()

    return ask


ASKED: dict[Verb, GuestCall] = {
    Verb.EXEC: Exec(("true",), streams=(Stream.STDOUT,)),
    Verb.SHELL: Shell((), 24, 80, "xterm"),
    Verb.COPY: Copy(CopyDirection.OUT, "/hello", streams=(Stream.STDOUT, Stream.STDERR)),
}
ERRORS = (Stream.STDERR,)
#: What is asked for, of which posture, what the plan grants, and whether that is allowed.
MATRIX = [
    pytest.param(verb, posture, verbs, allowed, id=f"{verb}-{posture}-{name}")
    for verb in Verb
    for name, posture, verbs, allowed in (
        ("none", Posture.SEALED, frozenset[Verb](), False),
        ("none", Posture.DEV, frozenset[Verb](), False),
        ("others", Posture.DEV, frozenset(Verb) - {verb}, False),
        ("this", Posture.DEV, frozenset({verb}), True),
    )
]


@pytest.mark.parametrize(("verb", "posture", "verbs", "allowed"), MATRIX)
def test_each_verb_is_granted_by_itself(
    here: House, verb: Verb, posture: Posture, verbs: frozenset[Verb], *, allowed: bool
) -> None:
    if verb is Verb.STREAM:
        ports = (80,) if verb in verbs else ()
        with here.plan("true", posture=posture, verbs=verbs, ports=ports) as plan:

            def ask() -> None:
                with start_machine(plan, here.host(), services={80: Services()}):
                    pass

            judge(here, ask, allowed=allowed)
        return
    machine = running(here, posture, *verbs)
    judge(here, partial(snapshot, here) if verb is Verb.SNAPSHOT else asked_to(here, ASKED[verb]), allowed=allowed)
    assert here.log()[-1].machine == machine


def snapshot(here: House) -> None:
    with connect(here.directory("machines"), "web") as connection:
        run(take_snapshot(connection, ends=False))


def judge(here: House, ask: Callable[[], None], *, allowed: bool) -> None:
    if allowed:
        ask()
        assert RecordKind.REFUSAL not in {it.kind for it in here.log()}
        return
    with pytest.raises(RefusedError) as caught:
        ask()
    assert caught.value.codes == (ReasonCode.VERB_NOT_GRANTED,)
    assert (here.log()[-1].kind, here.log()[-1].reasons) == (RecordKind.REFUSAL, (ReasonCode.VERB_NOT_GRANTED,))


@pytest.mark.parametrize("verb", Verb)
def test_no_sealed_plan_can_be_made_with_a_verb(here: House, verb: Verb) -> None:
    ports = (80,) if verb is Verb.STREAM else ()
    with pytest.raises(ValueError, match="sealed"):
        here.plan(posture=Posture.SEALED, verbs=frozenset({verb}), ports=ports)


def test_a_shell_and_its_terminal(here: House) -> None:
    machine = running(here, Posture.DEV, Verb.SHELL)
    terminal = Terminal(here, Shell(("sh", "-i"), 30, 100, "vt220"))
    with terminal.call:
        assert terminal.until(b"\r\n") == b"a shell sh -i vt220 30x100\r\n"
        os.write(terminal.typing, b"ls")
        terminal.until(b"<ls>")
        terminal.call.resize(50, 132)
        terminal.until(b"[50x132]")
        os.write(terminal.typing, b"\x04")
        assert terminal.call.wait().exit_code == 7
    terminal.close()
    (record,) = [it for it in here.log() if it.kind is RecordKind.SHELL]
    assert (record.machine, record.digests) == (machine, {"argv": Digest.of(strict.canonical(["sh", "-i"]))})


@pytest.mark.parametrize("way", CopyDirection)
def test_a_copy_is_in_the_log_by_its_way_and_the_digest_of_its_path(here: House, way: CopyDirection) -> None:
    machine = running(here, Posture.DEV, Verb.COPY)
    asked_to(here, Copy(way, "/hello", streams=(Stream.STDOUT,)))()
    (record,) = [it for it in here.log() if it.kind is RecordKind.COPY]
    assert (record.machine, record.digests) == (machine, {f"copied-{way}": Digest.of(strict.canonical(["/hello"]))})
    kept = [path for path in here.path.rglob("*") if path.is_file() and b"/hello" in path.read_bytes()]
    assert kept == []


@pytest.mark.parametrize(
    ("verbs", "allowed"), [(frozenset(Verb) - {Verb.COPY, Verb.STREAM}, False), ({Verb.COPY}, True)]
)
@pytest.mark.parametrize("operation", FileOperation)
def test_file_operations_are_granted_by_the_verb_copy(
    here: House, operation: FileOperation, verbs: frozenset[Verb], *, allowed: bool
) -> None:
    running(here, Posture.DEV, *verbs)
    target = "/b" if operation is FileOperation.RENAME else ""
    judge(here, asked_to(here, Files(operation, "/a", target, streams=(Stream.STDOUT, *ERRORS))), allowed=allowed)


def test_a_file_operation_is_in_the_log_by_its_name_and_the_digest_of_its_paths(here: House) -> None:
    machine = running(here, Posture.DEV, Verb.COPY)
    steps = (
        Files(FileOperation.MKDIR, "/planted-a/b", parents=True, streams=ERRORS),
        Files(FileOperation.RENAME, "/planted-a", "/planted-c", streams=ERRORS),
        Files(FileOperation.REMOVE, "/planted-c", recursive=True, streams=ERRORS),
    )
    for asked in steps:
        asked_to(here, asked)()
    records = [(it.machine, it.digests) for it in here.log() if it.kind is RecordKind.COPY]
    paths = {"mkdir": ["/planted-a/b"], "rename": ["/planted-a", "/planted-c"], "remove": ["/planted-c"]}
    assert records == [(machine, {f"files-{it}": Digest.of(strict.canonical(path))}) for it, path in paths.items()]
    kept = [path for path in here.path.rglob("*") if path.is_file() and b"/planted-" in path.read_bytes()]
    assert kept == []


def answered(here: House, asked: Files) -> tuple[int, bytes]:
    """Its exit status and output."""
    reading, writing = os.pipe()
    with call(here.directory("machines"), "web", asked, (writing,)) as it:
        os.close(writing)
        code = it.wait().exit_code
    with os.fdopen(reading, "rb") as file:
        return code, file.read()


def test_what_file_operations_answer_reaches_the_caller(here: House) -> None:
    running(here, Posture.DEV, Verb.COPY)
    out = (Stream.STDOUT,)
    assert answered(here, Files(FileOperation.MKDIR, "/d/e", streams=out)) == (errno.ENOENT, b"")
    assert answered(here, Files(FileOperation.MKDIR, "/d/e", parents=True, streams=out)) == (0, b"")
    code, listed = answered(here, Files(FileOperation.LIST, "/d", streams=out))
    reader = FileEntryReader()
    reader.write(listed)
    assert (code, [(it.name, it.kind) for it in reader.listing()]) == (0, [("e", FileKind.DIRECTORY)])
    assert answered(here, Files(FileOperation.REMOVE, "/d", streams=out)) == (errno.ENOTEMPTY, b"")
    assert answered(here, Files(FileOperation.STAT, "/nosuch", streams=out)) == (errno.ENOENT, b"")


def test_a_shell_hears_that_its_caller_hung_up(here: House) -> None:
    running(here, Posture.DEV, Verb.SHELL)
    terminal = Terminal(here, Shell((), 24, 80, "xterm"))
    with terminal.call:
        terminal.until(b"24x80")
    assert os.read(terminal.screen, 100) == b""  # the supervisor has let go of it: the shell has ended
    terminal.close()


def test_who_asks_twice_has_hung_up(here: House) -> None:
    """The first command is not left to itself, with descriptors that may become somebody else's."""
    running(here, Posture.DEV, Verb.EXEC)
    reading, writing = os.pipe()
    first = Exec(("linger",), streams=(Stream.STDOUT,))
    with call(here.directory("machines"), "web", first, (writing,)) as it:
        os.close(writing)
        until(lambda: here.log()[-1].kind is RecordKind.EXEC)
        send_packet(it._connection._end, encode(Exec(("true",))))
        assert it.wait().exit_code == 128 + signal.SIGKILL
    assert os.read(reading, 1) == b""
    os.close(reading)


@pytest.mark.parametrize(
    "data",
    [
        encode(Shell((), 24, 80, "xterm", streams=())).replace(b"24", b"0"),
        encode(Shell((), 24, 80, "xterm", streams=())).replace(b"80", b"4097"),
        encode(Shell((), 24, 80, "xterm", streams=())).replace(b"xterm", b"../../etc"),
        encode(Shell(("",), 24, 80, "xterm", streams=())),
        encode(Resize(24, 80)),
        encode(Copy(CopyDirection.OUT, "")),
        encode(Copy(CopyDirection.IN, "/tmp", "a/b")),
        encode(Copy(CopyDirection.IN, "/tmp", "..")),
        encode(Copy(CopyDirection.OUT, "/tmp", "name")),
        encode(Copy(CopyDirection.OUT, "/tmp")).replace(b"out", b"up"),
        encode(Files(FileOperation.STAT, "")),
        encode(Files(FileOperation.STAT, "a\0b")),
        encode(Files(FileOperation.STAT, "a" * 4097)),
        encode(Files(FileOperation.STAT, "a", "b")),
        encode(Files(FileOperation.RENAME, "a")),
        encode(Files(FileOperation.RENAME, "a", "b\0c")),
        encode(Files(FileOperation.LIST, "a", recursive=True)),
        encode(Files(FileOperation.REMOVE, "a", parents=True)),
        encode(Files(FileOperation.STAT, "a")).replace(b"stat", b"read"),
        encode(Files(FileOperation.STAT, "a")).replace(b'"parents":false', b'"parents":2'),
    ],
)
def test_what_nobody_can_have(here: House, data: bytes) -> None:
    machine = running(here, Posture.DEV, Verb.SHELL, Verb.COPY)
    entry = registry.find_machine(here.directory("machines"), machine)
    assert entry.supervisor is not None
    with (
        here.directory("machines").existing(machine) as directory,
        control_socket.connect(directory, entry.supervisor) as connection,
    ):
        send_packet(connection, data)
        answer = receive_packet(connection, LIMIT, 3).data
        assert b"failure" in answer
    assert not {RecordKind.SHELL, RecordKind.COPY} & {it.kind for it in here.log()}
