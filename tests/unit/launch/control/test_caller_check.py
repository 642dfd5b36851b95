"""Who may start machines, and call them: each sender is judged by what the kernel says of it at that moment."""

import os
import re
import socket
from collections.abc import Callable, Iterator

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.control import caller_check
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.system import prctl, process_identity
from mvmnix.system.descriptors import Sender, ask_for_senders, receive_packet, send_packet
from mvmnix.system.process_identity import ProcessIdentity
from tests.descriptors import nothing_left_open
from tests.support.confinement import (
    enter_landlock,
    enter_namespaces,
    filter_calls,
    forbid_new_privileges,
    hide,
    lower_hard_limit,
)
from tests.support.forks import fork_that, result_of

CHECK = CallerCheck.of_this_process()
BOTH = (CHECK.check_start, CHECK.check_call)


def sender(process: int, user: int | None = None) -> Sender:
    """Return a sender as a kernel before Linux 6.5 names it."""
    return Sender(process, os.geteuid() if user is None else user, None)


def nothing() -> None:
    """Change nothing."""


def why(check: Callable[[Sender | None], None], found: Sender | None) -> str:
    """Return why a sender is refused; "" where it isn't."""
    try:
        with nothing_left_open():
            check(found)
    except RefusedError as refused:
        assert refused.codes == (ReasonCode.CALLER_REFUSED,)
        assert "--private-launcher" in refused.hint
        return refused.reasons[0].why
    return ""


@pytest.mark.parametrize("check", BOTH)
def test_a_process_like_this_one_may_do_both(check: Callable[[Sender | None], None]) -> None:
    assert why(check, sender(os.getpid())) == ""
    with fork_that(nothing) as child:
        assert why(check, sender(child)) == ""


@pytest.mark.parametrize("check", BOTH)
@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "lives in another PID namespace"),
        (sender(0), "lives in another PID namespace"),
        (sender(-1), "lives in another PID namespace"),
        (sender(os.getpid(), os.geteuid() + 1), "runs as uid"),
        (sender(2**22 - 1), "can't be looked at"),
    ],
    ids=["unnamed", "invisible", "negative", "user", "gone"],
)
def test_a_sender_that_is_another_is_refused(
    check: Callable[[Sender | None], None], found: Sender | None, words: str
) -> None:
    assert words in why(check, found)


@pytest.mark.parametrize("check", BOTH)
@pytest.mark.parametrize("change", [forbid_new_privileges, filter_calls, enter_landlock, enter_namespaces])
def test_a_confined_sender_is_refused(check: Callable[[Sender | None], None], change: Callable[[], object]) -> None:
    with fork_that(change) as child:
        assert re.match("it differs from this process in: |it is confined", why(check, sender(child)))


@pytest.mark.parametrize("change", [lower_hard_limit, lambda: os.nice(1)], ids=["limit", "niceness"])
def test_other_limits_take_another_launcher_and_no_other_machine(change: Callable[[], object]) -> None:
    """They bound what a caller does, and not what the machine does that it calls."""
    with fork_that(change) as child:
        assert "it differs from this process in" in why(CHECK.check_start, sender(child))
        assert why(CHECK.check_call, sender(child)) == ""


@pytest.mark.parametrize(
    ("field", "more", "lacking"),
    [
        ("Groups", "4242", "group 4242"),
        ("CapPrm", f"{1 << 50:016x}", "capability 50"),
        ("Gid", "7\t7\t7\t7", "group 7"),
    ],
)
def test_a_caller_has_each_right_of_the_machine_s_process(field: str, more: str, lacking: str) -> None:
    """Or the machine would be a way to what a group may read."""
    fields = dict(CHECK.own.fields)
    richer = CallerCheck(ProcessIdentity(tuple(sorted((fields | {field: more}).items()))))
    assert lacking in why(richer.check_call, sender(os.getpid()))


@pytest.mark.root("only root leaves groups, drops capabilities and makes a network namespace without a user namespace")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: os.setgroups([]), "group"),
        (prctl.drop_capabilities, "capability"),
        (lambda: os.unshare(os.CLONE_NEWNET), "namespace net"),
    ],
    ids=["groups", "capabilities", "network"],
)
def test_a_service_that_gave_rights_up_calls_no_machine(change: Callable[[], object], words: str) -> None:
    def judge() -> str:
        os.setgroups([0, 4, 24])
        with fork_that(change) as child:
            return why(CallerCheck.of_this_process().check_call, sender(child))

    assert words in result_of(judge)


@pytest.mark.parametrize("check", BOTH)
def test_a_sender_that_ended_is_refused_though_its_number_is_there(check: Callable[[Sender | None], None]) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # nobody has reaped it
    try:
        assert why(check, sender(child))
    finally:
        os.waitpid(child, 0)


def test_the_judgement_holds_for_the_process_that_the_kernel_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """1: a number that became another's while it was read is noticed, by the descriptor of the process itself."""
    with fork_that(nothing) as child:
        pidfd = os.pidfd_open(child)
    monkeypatch.setattr(ProcessIdentity, "read", lambda _: CHECK.own)
    found = Sender(os.getpid(), os.geteuid(), pidfd)
    assert why(CHECK.check_start, found) == "it has ended"
    monkeypatch.setattr(caller_check, "is_readable", lambda *_: False)
    assert why(CHECK.check_start, found) == ""
    os.close(pidfd)


def test_a_process_that_is_not_dumpable_is_refused() -> None:
    def judge(child: int) -> str:
        prctl.drop_capabilities()
        return why(CallerCheck.of_this_process().check_start, sender(child))

    with fork_that(hide) as child:
        assert "isn't dumpable" in result_of(lambda: judge(child))


def test_a_parent_that_is_not_dumpable_is_served_by_its_own_child() -> None:
    def be_caller() -> tuple[str, str]:
        prctl.drop_capabilities()
        caller = os.getpid()

        def judge() -> tuple[str, str]:
            check = CallerCheck.for_parent()
            os.close(ready[1])
            os.read(hidden[0], 1)
            return why(check.check_start, sender(caller)), why(check.check_call, sender(caller))

        ready, hidden = os.pipe(), os.pipe()
        prctl.set_dumpable(dumpable=False)
        os.write(hidden[1], b"x")
        return result_of(judge)

    assert result_of(be_caller) == ("", "")


@pytest.mark.parametrize("change", [forbid_new_privileges, filter_calls, enter_namespaces, lower_hard_limit])
def test_a_parent_that_hides_and_confines_itself_later_is_refused(change: Callable[[], object]) -> None:
    def be_caller() -> str:
        caller, begun, hidden = os.getpid(), os.pipe(), os.pipe()
        prctl.drop_capabilities()
        child = os.fork()
        if child == 0:
            try:
                check = CallerCheck.for_parent()
                os.write(begun[1], b"x")
                os.read(hidden[0], 1)
                os.write(begun[1], (why(check.check_start, sender(caller)) or "served").encode())
            finally:
                os._exit(0)
        os.read(begun[0], 1)
        change()
        prctl.set_dumpable(dumpable=False)
        os.write(hidden[1], b"x")
        os.waitpid(child, 0)
        return os.read(begun[0], 4096).decode()

    assert "it differs from this process in" in result_of(be_caller)


def test_no_other_process_passes_for_the_parent() -> None:
    """The number of a parent that has ended may be another's."""

    def judge(child: int) -> str:
        prctl.drop_capabilities()
        return why(CallerCheck(ProcessIdentity.read(os.getpid()), child).check_start, sender(child))

    with fork_that(hide) as child:
        assert "isn't dumpable" in result_of(lambda: judge(child))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A caller's end of a connection, and the end of a process that judges."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ask_for_senders(theirs)
        yield ours, theirs


@pytest.mark.parametrize("change", [forbid_new_privileges, filter_calls, enter_landlock, enter_namespaces])
def test_a_socket_that_was_handed_to_a_confined_child_is_of_no_use_to_it(
    pair: tuple[socket.socket, socket.socket], change: Callable[[], object]
) -> None:
    ours, theirs = pair

    def send() -> None:
        change()
        send_packet(ours, b"as its parent")

    send_packet(ours, b"by itself")
    with fork_that(send):
        for data, is_served in ((b"by itself", True), (b"as its parent", False)):
            packet = receive_packet(theirs, 100, 0)
            assert packet.data == data
            for check in BOTH:
                assert (why(check, packet.sender) == "") is is_served
            packet.close()


@pytest.mark.root("only root can become another user")
@pytest.mark.parametrize("check", BOTH)
def test_a_peer_of_another_uid_is_refused(
    pair: tuple[socket.socket, socket.socket], check: Callable[[Sender | None], None]
) -> None:
    ours, theirs = pair

    def send() -> None:
        os.setresuid(65534, 65534, 65534)
        send_packet(ours, b"x")

    with fork_that(send):
        packet = receive_packet(theirs, 100, 0)
        assert why(check, packet.sender) == "it runs as uid 65534"
        packet.close()


@pytest.mark.root("only root has a second uid to keep beside")
def test_a_sender_with_a_second_uid_is_refused() -> None:
    """2: credentials name the effective uid alone (unix(7))."""
    with fork_that(lambda: os.setresuid(0, 0, 65534)) as child:
        for check in BOTH:
            assert "Uid" in why(check, sender(child, 0))


def test_each_step_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """3, 4: without the fields that they compare, a confined process of this user passes."""
    with fork_that(filter_calls) as child:
        assert why(CHECK.check_call, sender(child))
        monkeypatch.setattr(ProcessIdentity, "is_confined", False)
        assert why(CHECK.check_call, sender(child)) == ""
    monkeypatch.undo()
    with fork_that(enter_namespaces) as child:
        assert why(CHECK.check_call, sender(child))
        monkeypatch.setattr(caller_check, "SAME_REACH", process_identity.CONFINEMENT)
        assert why(CHECK.check_call, sender(child)) == ""
