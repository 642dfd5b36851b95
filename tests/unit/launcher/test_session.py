"""A fork of the launcher from its request to its end: whatever goes wrong there is its caller's to hear."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UsageError, refuse
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.start_messages import Created, Mode, StartRequest, Taken
from mvmnix.launcher import main, session
from mvmnix.launcher.conversation import Conversation
from mvmnix.launcher.start import Performed
from mvmnix.system.private_dirs import Directory
from tests.descriptors import nothing_left_open
from tests.patience import until
from tests.support.processes import count_threads
from tests.unit.import_lists import loaded_by
from tests.unit.launcher.talk import Talk, own_descriptors

REQUEST = StartRequest(mode=Mode.CREATED, created="0" * 12)
CREATED = Created("0" * 12)


def serve(said: Talk) -> int:
    """Serve the caller in this process; what the conversation closes is closed."""
    descriptors = own_descriptors(len(REQUEST.descriptors))
    said.say(REQUEST, descriptors)
    for fd in descriptors:
        os.close(fd)
    own = said.conversation._connection
    return session.serve(own, CallerCheck.of_this_process())


def test_a_request_is_taken_and_performed(said: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    def perform(
        _talk: Conversation,
        check: CallerCheck,
        request: StartRequest,
        descriptors: Mapping[str, int],
        *,
        held: None,
        waiting: None,
    ) -> Performed:
        assert (held, waiting) == (None, None)
        assert (check, request) == (CallerCheck.of_this_process(), REQUEST)
        assert tuple(descriptors) == REQUEST.descriptors
        return Performed(CREATED)

    monkeypatch.setattr("mvmnix.launcher.start.perform", perform)
    assert serve(said) == 0
    assert [said.heard(), said.heard()] == [Taken(os.getpid()), CREATED]
    assert said.caller.recv(1) == b""


def test_what_follows_is_done_once_the_caller_was_let_go(said: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = list[object]()

    def follow_up() -> None:
        heard.extend([said.heard(), said.heard(), said.caller.recv(1)])

    monkeypatch.setattr("mvmnix.launcher.start.perform", lambda *_, **_own: Performed(CREATED, follow_up))
    assert serve(said) == 0
    assert heard == [Taken(os.getpid()), CREATED, b""]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x"), 2),
        (MvmnixError("x"), 125),
        (refuse(ReasonCode.SHARE_UNAVAILABLE, "what", "why", "hint"), 126),
        (ValueError("x"), 125),
        (MemoryError(), 125),
        (OSError(28, "No space left on device"), 125),
    ],
    ids=repr,
)
def test_what_goes_wrong_is_the_callers_answer(
    said: Talk, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def perform(*_: object, **_own: object) -> Performed:
        raise error

    monkeypatch.setattr("mvmnix.launcher.start.perform", perform)
    assert serve(said) == status
    said.heard()
    failure = said.heard()
    assert isinstance(failure, Failure)
    assert failure.exit_code == status
    if isinstance(error, RefusedError):
        assert failure.reasons == error.reasons


def test_a_request_that_can_not_be_read_is_answered(said: Talk) -> None:
    said.say(b"{}")
    with nothing_left_open():
        own = os.dup(said.conversation._connection.fileno())
        assert session.serve(said.conversation._connection, CallerCheck.of_this_process()) == UsageError.exit_code
        os.dup(own)
        os.close(own)
    failure = said.heard()
    assert isinstance(failure, Failure)
    assert "can't be read" in failure.message


def test_a_caller_that_is_gone_is_nothing_to_fail_of(said: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    def perform(*_: object, **_own: object) -> Performed:
        said.caller.close()
        return Performed(CREATED)

    monkeypatch.setattr("mvmnix.launcher.start.perform", perform)
    assert serve(said) == 0


def test_nothing_is_done_for_a_caller_that_did_not_wait(said: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sent its request to a launcher that stood still, and may have sent it to another one since."""

    def perform(*_: object, **_own: object) -> Created:
        raise AssertionError

    monkeypatch.setattr("mvmnix.launcher.start.perform", perform)
    descriptors = own_descriptors(len(REQUEST.descriptors))
    said.say(REQUEST, descriptors)
    for fd in descriptors:
        os.close(fd)
    said.caller.close()
    before = count_threads()
    with nothing_left_open():
        own = os.dup(said.conversation._connection.fileno())
        assert session.serve(said.conversation._connection, CallerCheck.of_this_process()) == 125
        until(lambda: count_threads() <= before)
        os.dup(own)
        os.close(own)


@pytest.mark.parametrize("found", ["another", FileNotFoundError(2, "gone")], ids=repr)
def test_a_launcher_whose_code_is_replaced_while_it_imports_ends(tmp_path: Path, found: str | OSError) -> None:
    """A caller that reached it meanwhile is hung up on, and tries again."""

    def find_key() -> str:
        if isinstance(found, OSError):
            raise found
        return found

    with Directory.create(str(tmp_path / "launchers")) as directory:
        main._listen(directory, "0" * 32, CallerCheck.of_this_process(), os.open(os.devnull, os.O_WRONLY), find_key)
        assert directory.names() == ()


@pytest.mark.parametrize("error", [MemoryError(), ImportError("x: failed to map segment from shared object")], ids=repr)
def test_what_a_launcher_can_not_import_is_a_forks_to_report(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr("importlib.import_module", fail)
    main._import()


def test_forks_load_nothing_of_what_a_start_takes() -> None:
    """What is imported where it is used, for callers don't need it, the launcher has."""
    taken = {f"mvmnix.machines.{name}" for name in ("console_log", "names", "network_log", "output_log")}
    taken |= {"mvmnix.api.signing", "mvmnix.images.store", "mvmnix.provenance.policy.policy_files"}
    assert taken <= loaded_by("from mvmnix.launcher import main; main._import()")


class SetPools:
    """Pools of which one is set."""

    are_set = True

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("is_shown", [False, True])
def test_a_machine_that_waits_is_for_those_who_reach_the_directories(
    said: Talk, monkeypatch: pytest.MonkeyPatch, is_shown: bool
) -> None:
    """Another caller is refused, and no machine ends for it."""
    request, pools = StartRequest(mode=Mode.DETACHED), SetPools()
    monkeypatch.setattr("mvmnix.launcher.claims.hand_over", lambda *_: True)
    monkeypatch.setattr("mvmnix.launcher.claims.check_shown", lambda *_: None if is_shown else refused())
    monkeypatch.setattr("mvmnix.launcher.start.perform", lambda *_, **_own: Performed(CREATED))
    descriptors = own_descriptors(len(request.descriptors))
    said.say(request, descriptors)
    for fd in descriptors:
        os.close(fd)
    assert session.serve(said.conversation._connection, CallerCheck.of_this_process(), pools=pools) == 0  # type: ignore[arg-type]
    if is_shown:
        assert said.caller.recv(1) == b"", "this process has let go of it"
    else:
        assert [said.heard(), said.heard()] == [Taken(os.getpid()), CREATED]


def refused() -> None:
    raise refuse(ReasonCode.CALLER_REFUSED, "the caller", "it reaches nothing", "hint")
