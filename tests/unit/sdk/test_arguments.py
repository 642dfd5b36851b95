"""What a program gives that can't be: it is told, and nothing runs without what was asked for."""

import pickle
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

import mvmnix
from mvmnix import Allow, DataDisk, Deny, Secret, Share
from mvmnix.api import PlanOptions
from mvmnix.plan.limits import PlanLimits
from mvmnix.sdk import commands, errors, users, values
from mvmnix.sdk.arguments import check_options, seconds
from mvmnix.sdk.preparation import SandboxOptions, plan_options, plan_terms


@pytest.mark.parametrize("value", [0, -5, float("nan"), float("inf"), 2**31])
def test_what_is_no_time(value: float) -> None:
    with pytest.raises(errors.InvalidArgument, match="not a number of seconds above 0"):
        seconds(value, "timeout")
    with pytest.raises(errors.InvalidArgument, match="timeout is"):
        commands.exec_message(("true",), {}, value)


def test_an_argument_that_there_is_not() -> None:
    with pytest.raises(TypeError, match="unexpected arguments: timeut; known: "):
        check_options({"timeut": 1}, commands.ExecOptions)


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


#: Each argument of a sandbox, with a value that isn't what is taken where it is left out.
GIVEN: SandboxOptions = {
    "command": ["/bin/true"],
    "cwd": "/work",
    "user": "1000:100",
    "env": {"A": "1"},
    "shares": [Share("/usr", "/data")],
    "network": [Allow("https://api.example.com"), Deny("example.org")],
    "secrets": [Secret.env("TOKEN")],
    "verbs": ["exec"],
    "labels": {"job": "7"},
    "memory_mib": 256,
    "vcpus": 2,
    "scratch_mib": 64,
    "data": DataDisk(64, "/var/data"),
    "accelerator": "tcg",
    "backend": "container",
    "timeout": 300,
    "idle_timeout": 60,
    "tasks": 100,
    "cpu_percent": 50,
    "cpu_weight": 10,
    "console_kib": 64,
    "output_kib": 65,
    "shared_kib": 66,
    "system_calls": "strict",
}


def test_a_program_can_say_all_that_a_plan_says() -> None:
    """Each field of a plan's options and limits is reached by an argument, and no argument is without effect."""
    assert GIVEN.keys() == SandboxOptions.__annotations__.keys()
    usual = plan_terms({}, None, single_use=False)
    made = plan_terms(GIVEN, 2, single_use=True)
    for kind, ours, theirs in ((PlanOptions, made, usual), (PlanLimits, made.limits, usual.limits)):
        assert [each.name for each in fields(kind) if getattr(ours, each.name) == getattr(theirs, each.name)] == []
    for name in GIVEN:
        without = plan_options({key: value for key, value in GIVEN.items() if key != name})  # type: ignore[arg-type]
        assert without != plan_options(GIVEN), name


@pytest.mark.parametrize(
    "options",
    [{"user": "0"}, {"user": "app"}, {"accelerator": "gpu"}, {"system_calls": "none"}, {"tasks": 0}, {"verbs": ["x"]}],
    ids=str,
)
def test_what_no_plan_can_say(options: SandboxOptions) -> None:
    with pytest.raises(errors.InvalidArgument):
        plan_options(options)


PASSWD = b"root:x:0:0::/root:/bin/sh\napp:x:1000:100:A:/:/bin/sh\n+::::::\n\xff:x:1:1::/:\nshort:x:1\nodd:x:-1:1::/:\n"


def test_a_user_s_name_is_looked_up_in_the_guest_s_own_file() -> None:
    assert users.find_user(PASSWD, "app") == "1000:100"
    assert users.find_user(PASSWD, "app", "7") == "1000:7"
    for name in ("nobody", "short", "odd", "", "ap"):
        with pytest.raises(errors.InvalidArgument, match="has no user"):
            users.find_user(PASSWD, name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"user": 1000}, "user is a str, and this one is an int"),
        ({"timeout": "60"}, "timeout is a float, and this one is a str"),
        ({"tasks": True}, "tasks is an int, and this one is a bool"),
        ({"memory_mib": "256M"}, "memory_mib is an int, and this one is a str"),
        ({"labels": {"a": 1}}, "labels is a Mapping[str, str], and this one is a dict of int"),
        ({"env": ["A=1"]}, "env is a Mapping[str, str], and this one is a list of str"),
        ({"shares": Share("/usr", "/x")}, "shares is a Sequence[Share], and this one is a Share"),
        ({"shares": ["./docs:/d"]}, "shares is a Sequence[Share], and this one is a list of str"),
        ({"secrets": ["hunter2"]}, "secrets is a Sequence[Secret], and this one is a list of str"),
        ({"network": True}, "network is a Sequence[Allow or a Deny or a Preset or a Publish], and this one is a bool"),
        ({"data": 100}, "data is a DataDisk, and this one is an int"),
        ({"verbs": "exec"}, "verbs is a list[str] or a tuple[str], and this one is a str"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_argument_of_another_type_is_named_and_not_repeated(options: Any, words: str) -> None:
    with pytest.raises(TypeError, match=re.escape(words)) as wrong:
        plan_options(options)
    assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accelerator": "gpu"}, "accelerator is 'gpu', and not 'any' or 'kvm' or 'tcg'"),
        ({"memory_mib": 0}, "memory_mib is 0, and not a number from 96 to 1048576"),
        ({"vcpus": 0}, "vcpus is 0, and not a number from 1 to 64"),
        ({"scratch_mib": -1}, "scratch_mib is -1, and not a number from 1 to"),
    ],
    ids=str,
)
def test_an_argument_that_is_out_of_its_bounds(options: Any, words: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=re.escape(words)):
        plan_options(options)


@pytest.mark.parametrize("text", ["1:2:3", "a b", "-u", "app:users", "a" * 33, "1000:", "grüße"])
def test_what_names_no_user(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="names no user of a guest"):
        commands.exec_message(("true",), {"user": text})


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
