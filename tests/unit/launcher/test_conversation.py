"""A fork of the launcher with its caller: each packet is bounded, typed and judged, and nothing of it stays open."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UsageError, refuse
from mvmnix.launch.agent.commands import Command
from mvmnix.launch.control.codec import LIMIT, encode
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.messages import Ping, Stream
from mvmnix.launch.control.server import Control
from mvmnix.launch.control.start_messages import (
    MOST_DESCRIPTORS,
    Connect,
    Detach,
    GuestConnected,
    Mode,
    Notice,
    Question,
    Reply,
    SecretsResolved,
    SecretsWanted,
    SharesOpened,
    SharesWanted,
    StartRequest,
    StopRequest,
    TerminalResized,
)
from mvmnix.launch.shares.opening import OpenedShares, open_shares
from mvmnix.plan.secret_reference import LARGEST_SECRETS, SecretReference, SecretSource, SecretTarget
from mvmnix.plan.share import Access, Share
from mvmnix.system.loop import Loop
from mvmnix.system.stop_signals import StopRequestedError
from mvmnix.system.store import sealed_memory
from tests.descriptors import nothing_left_open
from tests.patience import SHORT, until
from tests.support.confinement import filter_calls
from tests.support.forks import fork_that
from tests.unit.launcher.talk import Talk, fill, own_descriptors, stream_socket

REQUEST = StartRequest(mode=Mode.DETACHED, created="0" * 12, can_ask=True)
COUNT = len(REQUEST.descriptors)


@contextmanager
def all_closed() -> Iterator[None]:
    """Expect that what is closed apart is closed in the end, too."""
    with nothing_left_open():
        yield
        until(lambda: not [each for each in threading.enumerate() if each.name == "mvm-close"])


@contextmanager
def sent(said: Talk, message: object, count: int = 0) -> Iterator[None]:
    """Say something with so many descriptors; all of them are closed at the end."""
    descriptors = own_descriptors(count)
    said.say(message, descriptors)
    for fd in descriptors:
        os.close(fd)
    with all_closed():
        yield


# the request


def test_a_request_and_its_descriptors_are_read(said: Talk) -> None:
    with sent(said, REQUEST, COUNT):
        request, named = said.conversation.read_request()
        assert request == REQUEST
        assert tuple(named) == REQUEST.descriptors
        assert not any(os.get_inheritable(fd) for fd in named.values())
        assert said.conversation.can_ask()
        for fd in named.values():
            os.close(fd)


@pytest.mark.parametrize(
    ("message", "count", "words"),
    [
        (REQUEST, COUNT - 1, "more descriptors than were announced, or fewer"),
        (REQUEST, COUNT + 1, "more descriptors than were announced, or fewer"),
        (REQUEST, 0, "more descriptors than were announced, or fewer"),
        (REQUEST, MOST_DESCRIPTORS + 1, f"with more than {MOST_DESCRIPTORS} descriptors"),
        (replace(REQUEST, streams=(Stream.STDIN, Stream.STDIN)), COUNT + 2, "one of them twice"),
        (replace(REQUEST, image=("kernel", "kernel")), COUNT + 2, "one of them twice"),
        (encode(REQUEST)[:-20], COUNT, "not JSON"),
        (b"x" * (LIMIT + 1), 0, f"more than {LIMIT} bytes"),
        (encode(REQUEST).replace(b'"version":2', b'"version":3'), COUNT, "speaks version 3"),
        (encode(REQUEST).replace(b'"mode":"detached"', b'"mode":"sideways"'), COUNT, "mode"),
        (encode(REQUEST).replace(b'"mode"', b'"made":1,"mode"'), COUNT, "unknown"),
        (Ping(), 0, "not one message of a kind that is expected here"),
        (StopRequest(1), 2, "not one message of a kind that is expected here"),
    ],
    ids=[
        *("fewer", "more", "none", "too many", "stream twice", "file twice", "half", "long", "version"),
        *("mode", "field", "call", "later"),
    ],
)
def test_what_is_no_request_is_one_clear_error(said: Talk, message: object, count: int, words: str) -> None:
    with sent(said, message, count), pytest.raises(UsageError, match=words) as caught:
        said.conversation.read_request()
    assert "version" in caught.value.hint or "another mvm" in caught.value.hint


def test_a_caller_that_closes_before_its_request(said: Talk) -> None:
    said.caller.close()
    with pytest.raises(StopRequestedError):
        said.conversation.read_request()


def test_a_caller_that_says_nothing_is_given_up(said: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.launcher.conversation._PATIENCE", SHORT)
    with pytest.raises(StopRequestedError):
        said.conversation.read_request()


def test_a_request_of_a_confined_process_is_refused(said: Talk) -> None:
    def send() -> None:
        filter_calls()
        said.say(REQUEST, own_descriptors(COUNT))

    with fork_that(send), all_closed(), pytest.raises(RefusedError) as refused:
        said.conversation.read_request()
    assert refused.value.codes == (ReasonCode.CALLER_REFUSED,)


# the frontend


def test_a_question_is_answered(said: Talk) -> None:
    said.say(Reply("a passphrase"))
    assert said.conversation.ask("The passphrase\0?") == "a passphrase"
    assert said.heard() == Question("The passphrase\N{REPLACEMENT CHARACTER}?")


def test_a_terminal_that_is_resized_answers_no_question(said: Talk) -> None:
    said.say(TerminalResized(24, 80))
    said.say(Reply("a passphrase"))
    assert said.conversation.ask("?") == "a passphrase"


@pytest.mark.parametrize(
    ("message", "count", "kind", "words"),
    [
        (Failure.of(UsageError("no terminal")), 0, UsageError, "no terminal"),
        (SharesOpened(()), 2, MvmnixError, "SharesOpened out of turn"),
        (Connect(), 1, MvmnixError, "Connect out of turn"),
        (StopRequest(signal.SIGINT), 0, StopRequestedError, "SIGINT"),
        (StopRequest(signal.SIGKILL), 1, StopRequestedError, "SIGTERM"),
        (b'{"reply":', 1, UsageError, "not JSON"),
        (b"x" * (LIMIT + 1), 1, UsageError, "more than"),
        (Reply("x"), MOST_DESCRIPTORS + 1, UsageError, "descriptors"),
        (Ping(), 0, UsageError, "expected here"),
    ],
    ids=["failure", "other", "connect", "signal", "other signal", "half", "long", "descriptors", "call"],
)
def test_what_is_no_answer(said: Talk, message: object, count: int, kind: type[MvmnixError], words: str) -> None:
    with sent(said, message, count), pytest.raises(kind, match=words):
        said.conversation.ask("?")


def test_an_answer_with_descriptors_leaves_none_open(said: Talk) -> None:
    with sent(said, Reply("x"), 3):
        assert said.conversation.ask("?") == "x"


def test_a_caller_that_closes_while_it_is_asked(said: Talk) -> None:
    said.caller.close()
    with pytest.raises(StopRequestedError) as ended:
        said.conversation.ask("?")
    assert ended.value.number == signal.SIGHUP


@pytest.mark.parametrize("ask", [lambda talk: talk.ask("?"), lambda talk: talk.open_shares((SHARE,))])
def test_an_answer_of_a_confined_process_is_refused(said: Talk, ask: Callable[[object], object]) -> None:
    def send() -> None:
        filter_calls()
        said.say(Reply("x"), own_descriptors(2))

    with fork_that(send), all_closed(), pytest.raises(RefusedError) as refused:
        ask(said.conversation)
    assert refused.value.codes == (ReasonCode.CALLER_REFUSED,)


def test_a_caller_that_reads_nothing_is_not_waited_for(said: Talk) -> None:
    fill(said.conversation._connection)
    said.conversation.notice("x")
    with pytest.raises(StopRequestedError):
        said.conversation.ask("?")


@pytest.mark.parametrize("text", ["x" * 100_000, "\N{GRINNING FACE}" * 100_000, "\udcff\0"])
def test_a_notice_arrives_whatever_is_in_it(said: Talk, text: str) -> None:
    said.conversation.notice(text)
    found = said.heard()
    assert isinstance(found, Notice)
    assert found.text


def test_a_caller_without_a_user_is_not_asked(said: Talk) -> None:
    with sent(said, replace(REQUEST, can_ask=False), COUNT):
        _, named = said.conversation.read_request()
        assert not said.conversation.can_ask()
        for fd in named.values():
            os.close(fd)


# shares

SHARE = Share("/srv", "/data")


@pytest.fixture
def shared(tmp_path: Path) -> tuple[Share, Share]:
    """One share to read and one to write."""
    for name in ("read", "write", "other"):
        (tmp_path / name).mkdir()
    return (
        Share(str(tmp_path / "read"), "/read"),
        Share(str(tmp_path / "write"), "/write", Access.READ_WRITE),
    )


def hand_over(said: Talk, found: OpenedShares, opened: tuple[str, ...] | None = None) -> None:
    """Hand over what was opened, as a caller does; it is closed here."""
    said.say(
        SharesOpened(tuple(found.directories) if opened is None else opened, tuple(found.reasons)), found.descriptors
    )
    found.close()


def test_the_directories_of_shares_are_handed_over(said: Talk, shared: tuple[Share, Share]) -> None:
    hand_over(said, open_shares(shared))
    with all_closed():
        found = said.conversation.open_shares(shared)
        assert said.heard() == SharesWanted(shared)
        assert found.reasons == []
        for share in shared:
            assert os.path.samestat(os.fstat(found.directories[share.guest]), Path(share.host).stat())
        found.close()
    assert list(Path(shared[1].host).iterdir()) == []


def test_a_share_that_the_caller_can_not_have_says_why(said: Talk, shared: tuple[Share, Share]) -> None:
    missing = (shared[0], Share(f"{shared[0].host}/none", "/none"))
    hand_over(said, open_shares(missing))
    found = said.conversation.open_shares(missing)
    assert [reason.code for reason in found.reasons] == [ReasonCode.SHARE_UNAVAILABLE]
    found.close()


Wrong = Callable[[OpenedShares, Path], None]


def put(place: str, fd: int, kind: str = "directories") -> Callable[[OpenedShares], None]:
    """Return what puts a descriptor in the place of another."""

    def change(found: OpenedShares) -> None:
        descriptors = getattr(found, kind)
        os.close(descriptors[place])
        descriptors[place] = fd

    return change


def with_path_alone(found: OpenedShares, here: Path) -> None:
    """A directory that isn't open for reading."""
    put("/read", os.open(here / "read", os.O_PATH | os.O_DIRECTORY))(found)


def with_another_directory(found: OpenedShares, here: Path) -> None:
    """Another directory than the plan's."""
    put("/read", os.open(here / "other", os.O_RDONLY | os.O_DIRECTORY))(found)


def with_file(found: OpenedShares, _: Path) -> None:
    """A file in a directory's place."""
    put("/read", os.open(__file__, os.O_RDONLY))(found)


def with_socket(found: OpenedShares, _: Path) -> None:
    """A socket in a directory's place."""
    put("/read", socket.socket(socket.AF_UNIX).detach())(found)


def with_others_proof(found: OpenedShares, here: Path) -> None:
    """A proof that was made elsewhere."""
    put("/write", os.open(here / "other", os.O_TMPFILE | os.O_RDWR, 0o600), "proofs")(found)


def with_read_proof(found: OpenedShares, here: Path) -> None:
    """A file that is there, and open for reading alone."""
    (here / "write/file").write_text("")
    put("/write", os.open(here / "write/file", os.O_RDONLY), "proofs")(found)


def with_path_proof(found: OpenedShares, here: Path) -> None:
    """A file that is there, and not open at all."""
    (here / "write/file").write_text("")
    put("/write", os.open(here / "write/file", os.O_PATH), "proofs")(found)


def with_pipe_proof(found: OpenedShares, here: Path) -> None:
    """A FIFO in the directory."""
    os.mkfifo(here / "write/fifo")
    put("/write", os.open(here / "write/fifo", os.O_RDWR), "proofs")(found)


def without_proof(found: OpenedShares, _: Path) -> None:
    """No proof at all."""
    os.close(found.proofs.pop("/write"))


def with_proof_below(found: OpenedShares, here: Path) -> None:
    """A proof that was made in a directory below, which another user may have opened up."""
    (here / "write/below").mkdir()
    put("/write", os.open(here / "write/below", os.O_TMPFILE | os.O_RDWR, 0o600), "proofs")(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_path_alone, "is no directory that is open for reading"),
        (with_file, "is no directory that is open for reading"),
        (with_socket, "is no directory that is open for reading"),
        (with_another_directory, "is another directory"),
        (with_others_proof, "doesn't show that it may be written"),
        (with_read_proof, "doesn't show that it may be written"),
        (with_path_proof, "doesn't show that it may be written"),
        (with_pipe_proof, "doesn't show that it may be written"),
        (without_proof, "doesn't show that it may be written"),
        (with_proof_below, "doesn't show that it may be written"),
    ],
)
def test_a_descriptor_that_proves_nothing_is_refused(
    said: Talk, shared: tuple[Share, Share], tmp_path: Path, change: Wrong, words: str
) -> None:
    opened = open_shares(shared)
    change(opened, tmp_path)
    hand_over(said, opened)
    with all_closed():
        found = said.conversation.open_shares(shared)
        assert {reason.code for reason in found.reasons} == {ReasonCode.SHARE_UNAVAILABLE}
        assert words in found.reasons[0].why
        found.close()


def test_a_directory_that_was_replaced_is_another(said: Talk, shared: tuple[Share, Share], tmp_path: Path) -> None:
    hand_over(said, open_shares(shared))
    (tmp_path / "read").rename(tmp_path / "moved")
    (tmp_path / "read").mkdir()
    found = said.conversation.open_shares(shared)
    assert ["is another directory" in reason.why for reason in found.reasons] == [True]
    found.close()


@pytest.mark.parametrize("opened", [(), ("/read",), ("/read", "/write", "/more")], ids=["none", "one", "names"])
def test_shares_without_descriptors_and_reasons_end_the_start(
    said: Talk, shared: tuple[Share, Share], opened: tuple[str, ...]
) -> None:
    said.say(SharesOpened(opened))
    with all_closed(), pytest.raises(MvmnixError, match="out of turn"):
        said.conversation.open_shares(shared)


def test_descriptors_that_no_share_has_are_closed(said: Talk, shared: tuple[Share, Share]) -> None:
    opened = open_shares(shared)
    more = own_descriptors(3)
    said.say(SharesOpened(tuple(opened.directories)), (*opened.descriptors, *more))
    opened.close()
    for fd in more:
        os.close(fd)
    with all_closed():
        found = said.conversation.open_shares(shared)
        assert found.reasons == []
        found.close()


# secrets

SECRETS = tuple(
    SecretReference(name, SecretTarget.FILE, SecretSource.FILE, (f"/{name}",)) for name in ("first", "second")
)


def memory(data: bytes) -> int:
    """Return memory that is not sealed."""
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(fd, data)
    return fd


def test_secrets_come_as_sealed_memory(said: Talk) -> None:
    fd = sealed_memory(b"onetwo!", name="x")
    said.say(SecretsResolved((3, 4)), (fd,))
    os.close(fd)
    with all_closed():
        found = said.conversation.resolve_secrets(SECRETS)
    assert [(secret.name, secret.value) for secret in found] == [("first", b"one"), ("second", b"two!")]
    assert said.heard() == SecretsWanted(SECRETS)


@pytest.mark.parametrize(
    ("make", "sizes", "words"),
    [
        (lambda: memory(b"onetwo!"), (3, 4), "it is not sealed memory"),
        (lambda: os.open(__file__, os.O_RDONLY), (3, 4), "it is not sealed memory"),
        (lambda: os.open("/", os.O_PATH), (3, 4), "it is not sealed memory"),
        (lambda: os.eventfd(0), (3, 4), "it is not sealed memory"),
        (lambda: sealed_memory(b"onetwo!", name="x"), (3, 3), "more values than references, or fewer"),
        (lambda: sealed_memory(b"onetwo!", name="x"), (7,), "more values than references, or fewer"),
        (lambda: sealed_memory(b"onetwo!", name="x"), (1, 2, 4), "more values than references, or fewer"),
        (lambda: sealed_memory(b"x" * (LARGEST_SECRETS + 1), name="x"), (3, 4), "are allowed"),
        (lambda: sealed_memory(b"x" * (16 << 10) + b"x" * (16 << 10), name="x"), (16 << 10, 16 << 10), ""),
    ],
    ids=["unsealed", "file", "path", "event", "size", "one", "three", "large", "as large as it may be"],
)
def test_memory_that_is_something_else(said: Talk, make: Callable[[], int], sizes: tuple[int, ...], words: str) -> None:
    fd = make()
    said.say(SecretsResolved(sizes), (fd,))
    os.close(fd)
    with all_closed():
        if not words:
            assert len(said.conversation.resolve_secrets(SECRETS)) == 2
            return
        with pytest.raises(RefusedError) as refused:
            said.conversation.resolve_secrets(SECRETS)
    assert set(refused.value.codes) == {ReasonCode.SECRET_UNAVAILABLE}
    assert words in refused.value.reasons[0].why


@pytest.mark.parametrize(
    ("message", "count"), [(SecretsResolved((1, 1)), 0), (SecretsResolved((1, 1)), 2), (Reply("x"), 1)]
)
def test_secrets_that_do_not_come(said: Talk, message: object, count: int) -> None:
    with sent(said, message, count), pytest.raises(MvmnixError, match="out of turn"):
        said.conversation.resolve_secrets(SECRETS)


def test_a_refusal_of_the_callers_is_the_starts(said: Talk) -> None:
    said.say(Failure.of(refuse(ReasonCode.SECRET_UNAVAILABLE, "the secret first", "there is nothing", "put it there")))
    with pytest.raises(RefusedError) as refused:
        said.conversation.resolve_secrets(SECRETS)
    assert refused.value.codes == (ReasonCode.SECRET_UNAVAILABLE,)


# while the machine runs


class Adopted(Control):
    """A control socket that takes in connections, and nothing else."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []

    def adopt(self, connection: socket.socket) -> None:
        self.connections.append(connection)


@pytest.fixture
def loop(said: Talk) -> Iterator[Loop]:
    """A loop that serves the caller."""
    made = Loop()
    said.conversation.watch(made)
    yield made
    said.conversation.close()
    made.close()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_the_caller_ends_its_machine(said: Talk, loop: Loop, number: int) -> None:
    said.say(StopRequest(number))
    with pytest.raises(StopRequestedError) as ended:
        loop.turn(0)
    assert ended.value.number == number


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (b"", 0),
        (b"x", 1),
        (b"x" * (LIMIT + 1), 1),
        (Reply("x"), 2),
        (SharesOpened(()), 1),
        (Connect(), 1),
        (Failure.of(UsageError("x")), 0),
        (Ping(), 0),
    ],
    ids=["nothing", "no message", "long", "reply", "shares", "connect", "failure", "call"],
)
def test_who_says_what_is_not_expected_has_hung_up(said: Talk, loop: Loop, message: object, count: int) -> None:
    descriptors = own_descriptors(count)
    said.say(message, descriptors)
    for fd in descriptors:
        os.close(fd)
    keep, fd = os.dup(said.caller.fileno()), said.conversation._connection.fileno()
    with all_closed():
        with pytest.raises(StopRequestedError) as ended:
            loop.turn(0)
        assert os.dup(keep) == fd, "it is open still"
    assert ended.value.number == signal.SIGHUP
    os.close(fd)
    os.close(keep)


def test_a_caller_that_is_gone_ends_its_machine(said: Talk, loop: Loop) -> None:
    said.caller.close()
    with pytest.raises(StopRequestedError) as ended:
        loop.turn(0)
    assert ended.value.number == signal.SIGHUP


def test_a_confined_process_in_the_callers_place_has_hung_up(said: Talk, loop: Loop) -> None:
    def send() -> None:
        filter_calls()
        said.say(StopRequest(signal.SIGTERM))

    with fork_that(send), pytest.raises(StopRequestedError) as ended:
        loop.turn(0)
    assert ended.value.number == signal.SIGHUP


def test_a_detached_machine_goes_on(said: Talk, loop: Loop) -> None:
    said.say(Detach())
    loop.turn(0)
    assert said.conversation.is_detached
    assert said.caller.recv(1) == b"", "it was not hung up on"
    with pytest.raises(StopRequestedError):
        said.conversation.ask("?")


def test_a_terminal_is_resized_once_a_command_has_it(said: Talk, loop: Loop) -> None:
    sizes: list[tuple[int, int]] = []

    class Resized(Command):
        def __init__(self) -> None:
            """Have no guest."""

        def resize(self, rows: int, columns: int) -> None:
            sizes.append((rows, columns))

    said.say(TerminalResized(1, 2))
    loop.turn(0)
    said.conversation.drive(Resized())
    said.say(TerminalResized(24, 80))
    loop.turn(0)
    assert sizes == [(24, 80)]


def test_a_connection_of_the_callers_is_served(said: Talk, loop: Loop) -> None:
    control = Adopted()
    said.conversation.serve(control)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            said.say(Connect(), (theirs.fileno(),))
        loop.turn(0)
        (taken,) = control.connections
        with taken:
            ours.send(b"x")
            assert taken.recv(1) == b"x"


@pytest.mark.parametrize(
    "make",
    [
        stream_socket,
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach(),
        lambda: socket.socket(socket.AF_INET).detach(),
        lambda: os.open(__file__, os.O_RDONLY),
        lambda: os.open("/", os.O_PATH),
        lambda: os.eventfd(0),
    ],
    ids=["stream", "datagrams", "internet", "file", "path", "event"],
)
def test_what_is_no_connection(said: Talk, loop: Loop, make: Callable[[], int]) -> None:
    control = Adopted()
    said.conversation.serve(control)
    fd = make()
    said.say(Connect(), (fd,))
    os.close(fd)
    with pytest.raises(StopRequestedError):
        loop.turn(0)
    assert control.connections == []


def test_a_connection_of_the_guests_is_handed_over(said: Talk) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert said.conversation.guest_connected(80, theirs.fileno())
        assert said.heard() == GuestConnected(80)
        fill(said.conversation._connection)
        assert not said.conversation.guest_connected(80, theirs.fileno())


def test_closing_twice_is_closing_once(said: Talk, loop: Loop) -> None:
    said.conversation.close()
    said.conversation.close()
    assert loop is not None
    assert not said.conversation.say(Notice("x"))
