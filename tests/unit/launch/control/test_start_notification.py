"""What a detached supervisor says is raised again in its caller; a caller that is gone is noticed."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from mvmnix.errors import GuestTimeoutError, MvmnixError, Reason, ReasonCode, RefusedError, UsageError
from mvmnix.launch.control.start_notification import Failure, notify_start, read_start_notification
from tests.patience import EVENT_PATIENCE

REASONS = (
    Reason(ReasonCode.ACCELERATOR_UNAVAILABLE, "the plan's accelerator", "there is no KVM", "use TCG"),
    Reason(ReasonCode.PLAN_EXPIRED, "the plan", "it is over", "sign it again"),
)


def heard(word: str | Failure) -> str:
    ours, theirs = socket.socketpair()
    with ours:
        assert notify_start(theirs, word)
        assert not notify_start(theirs, "0123456789ab")
        return read_start_notification(ours)


def test_a_machine_that_is_ready() -> None:
    assert heard("0123456789ab") == "0123456789ab"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MvmnixError("it failed\nbadly", hint="repair it"), MvmnixError),
        (UsageError("no such name", hint="another"), UsageError),
        (GuestTimeoutError("too long", hint="more time"), GuestTimeoutError),
        (RefusedError(*REASONS), RefusedError),
    ],
)
def test_an_error_is_raised_again(error: MvmnixError, kind: type[MvmnixError]) -> None:
    with pytest.raises(MvmnixError) as caught:
        heard(Failure.of(error))
    assert type(caught.value) is kind
    assert (str(caught.value), caught.value.exit_code) == (str(error), error.exit_code)


def test_a_refusal_for_much_is_raised_again_with_all_of_it() -> None:
    """A start is refused for all of a plan's shares at once, and the hint repeats both paths of each."""
    reasons = [
        Reason(ReasonCode.SHARE_FORBIDDEN, f"the share /{number}", "\U0001f512" * 1024, "/long" * 400)
        for number in range(56)
    ]
    ours, theirs = socket.socketpair()
    with ThreadPoolExecutor(1) as another, ours:
        said = another.submit(notify_start, theirs, Failure.of(RefusedError(*reasons)))
        with pytest.raises(RefusedError) as caught:
            read_start_notification(ours)
        assert said.result(EVENT_PATIENCE)
    assert caught.value.reasons == tuple(reasons)


def test_a_mistake_of_ours_is_an_error_too() -> None:
    with pytest.raises(MvmnixError, match=r"supervisor failed: ZeroDivisionError\('division by zero'\)") as caught:
        heard(Failure.of(ZeroDivisionError("division by zero")))
    assert caught.value.exit_code == 125
    with pytest.raises(MvmnixError, match=r"supervisor failed: ValueError\('aaa"):
        heard(Failure.of(ValueError("a" * 100_000)))


def test_a_caller_that_is_gone() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    assert not notify_start(theirs, "0123456789ab")


@pytest.mark.parametrize("data", [b"{}", b"[", b'{"machine":"../x"}', b'{"machine":"0123456789ab","more":1}'])
def test_other_words_are_no_news(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(data)
    with ours, pytest.raises(ValueError):
        read_start_notification(ours)
