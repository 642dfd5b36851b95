"""What a program gives that can't be: it is told, and nothing runs without what was asked for."""

import pickle
from collections.abc import Callable

import pytest

import mvmnix
from mvmnix import Allow, Secret, Share
from mvmnix.sdk import commands, errors, values
from mvmnix.sdk.arguments import refuse_unknown, seconds


@pytest.mark.parametrize("value", [0, -5, float("nan"), float("inf"), 2**31])
def test_what_is_no_time(value: float) -> None:
    with pytest.raises(errors.InvalidArgument, match="not a number of seconds above 0"):
        seconds(value, "timeout")
    with pytest.raises(errors.InvalidArgument, match="timeout is"):
        commands.exec_message(("true",), {}, value)


def test_an_argument_that_there_is_not() -> None:
    with pytest.raises(TypeError, match="unexpected arguments: timeut; known: "):
        refuse_unknown({"timeut": 1}, commands.ExecOptions)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Share("", "/out", writable=True), "the path is empty"),
        (lambda: Share("link/../x", "/x"), "leads elsewhere where a link is before it"),
        (lambda: Secret.file("", name="TOKEN"), "the path is empty"),
        (lambda: Secret.file("../token", name="TOKEN"), "leads elsewhere"),
    ],
)
def test_a_path_that_names_another_place_than_was_meant(make: Callable[[], object], why: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=why):
        make()


def test_a_network_is_a_list_of_its_parts() -> None:
    with pytest.raises(TypeError, match="a network has no str in it"):
        values.network_options("https://api.example.com")  # type: ignore[arg-type]
    assert values.network_options([Allow("https://api.example.com")]) != values.network_options([])


@pytest.mark.parametrize(
    "error",
    [
        errors.Error("it broke", hint="mend it"),
        errors.TimedOut("late", stdout=b"a", stderr=b"b"),
        errors.file_error(2, "/x", "No such file or directory"),
        errors.file_error(5, "/x", "Input/output error"),
        errors.OutputLimitExceeded("too much", stdout=b"a", stderr=b""),
        errors.CommandFailed("no", mvmnix.Result(b"", b"", 1, 0.5)),
        errors.NotVerified("no", reasons=[errors.Cause("artifact-mismatch", "kernel", "why", "hint")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_goes_to_another_process(error: errors.Error) -> None:
    made = pickle.loads(pickle.dumps(error))
    assert type(made) is type(error)
    assert (str(made), vars(made)) == (str(error), vars(error))
    assert (made.args, made.reasons) == (error.args, error.reasons)
    for name in ("errno", "strerror", "filename"):
        assert getattr(made, name, None) == getattr(error, name, None)
