"""What a program gives that can't be: it is told, and nothing runs without what was asked for."""

import inspect
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from types import FunctionType, UnionType
from typing import Any, TypeAliasType, get_args, get_origin, get_type_hints

import pytest

import mvmnix
from mvmnix import Allow, DataDisk, Deny, Preset, Publish, Secret, Share
from mvmnix.api import PlanOptions
from mvmnix.plan.limits import PlanLimits
from mvmnix.plan.share import Danger
from mvmnix.sdk import commands, errors, users, values
from mvmnix.sdk.arguments import check_options, seconds
from mvmnix.sdk.preparation import SandboxOptions, plan_options, plan_terms
from mvmnix.words import Words
from tests.unit.sdk.faces import TWINS


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
    "start": "cold",
    "snapshot_with_secrets": True,
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
        ({"shares": ["./docs:/d"]}, "shares[0] is a Share, and this one is a str"),
        ({"secrets": [Secret.env("A"), "hunter2"]}, "secrets[1] is a Secret, and this one is a str"),
        ({"command": ["sleep", 1]}, "command[1] is a str, and this one is an int"),
        ({"network": True}, "network is a Sequence[Allow or a Deny or a Preset or a Publish], and this one is a bool"),
        ({"data": 100}, "data is a DataDisk, and this one is an int"),
        ({"verbs": "exec"}, "verbs is a list of words: ['exec']"),
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
        ({"verbs": ["exec", "run"]}, "verbs[1] is 'run', and not 'exec' or 'shell' or 'copy' or 'snapshot'"),
        ({"idle_timeout": 0}, "idle_timeout is 0, and not a number of seconds above 0"),
        ({"memory_mib": 0}, "memory_mib is 0, and not a number from 96 to 1048576"),
        ({"vcpus": 0}, "vcpus is 0, and not a number from 1 to 64"),
        ({"scratch_mib": -1}, "scratch_mib is -1, and not a number from 1 to"),
    ],
    ids=str,
)
def test_an_argument_that_is_out_of_its_bounds(options: Any, words: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=re.escape(words)) as wrong:
        plan_options(options)
    assert str(wrong.value).count("Next:") == 1


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


#: By an annotation, a value that conforms.
FITTING: dict[Any, Any] = {str: "x", bytes: b"x", int: 1, float: 1.0, bool: False}
KINDS = [*TWINS, *TWINS.values(), Secret]


def fitting(hint: Any) -> Any:
    if isinstance(hint, TypeAliasType):
        return fitting(hint.__value__)
    choices = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return FITTING.get(choices[0], ["x"])


def takes_text(hint: Any) -> bool:
    return fitting(hint) == "x" or hint is Words or get_origin(hint) is Sequence


def is_call(value: object) -> bool:
    return isinstance(value, FunctionType | classmethod | staticmethod)


def arguments() -> Iterator[tuple[str, str, Callable[[Any], object], Any]]:
    """Each argument of each public method: where it is, its name, a call with a value in its place, its annotation."""
    for kind in KINDS:
        made: Any = object.__new__(kind)  # a method looks at its arguments before it looks at the object
        for method in (name for name, value in vars(kind).items() if not name.startswith("_") and is_call(value)):
            call = getattr(made, method)
            hints, needed = get_type_hints(call), inspect.signature(call).parameters.values()
            for each in needed:
                if each.kind is not each.VAR_KEYWORD:
                    others = {
                        other.name: fitting(hints[other.name]) for other in needed if other.default is other.empty
                    }
                    others = {name: value for name, value in others.items() if name not in {each.name, "options"}}
                    where = f"{kind.__module__}.{kind.__name__}.{method}({each.name})"
                    yield where, each.name, partial(_call, call, others, each.name), hints[each.name]


def _call(call: Callable[..., object], others: Mapping[str, Any], name: str, value: Any) -> object:
    return call(**others, **{name: value})


ARGUMENTS = {where: row for where, *row in arguments()}


def test_the_walk_sees_the_arguments() -> None:
    assert len(ARGUMENTS) > 150
    for name in ("blocking.Sandbox.exec(argv)", "blocking.Files.write(data)", "asyncio_commands.Process.wait(timeout)"):
        assert f"mvmnix.sdk.{name}" in ARGUMENTS


@pytest.mark.parametrize("where", ARGUMENTS)
def test_an_argument_of_another_type_is_named_by_each_method(where: str) -> None:
    name, call, hint = ARGUMENTS[where]
    for wrong in (object(), 3 if str in (hint, *get_args(hint)) else object(), [object()]):
        with pytest.raises(TypeError, match=rf"^{name}(\[0\])? is "):
            call(wrong)


@pytest.mark.parametrize("where", [where for where, (_, _, hint) in ARGUMENTS.items() if takes_text(hint)])
def test_a_character_that_no_guest_takes_is_told_of_the_argument(where: str) -> None:
    name, call, hint = ARGUMENTS[where]
    if name == "text":
        return
    wrong: Any = "a\0b" if fitting(hint) == "x" else ["a\0b"]
    with pytest.raises(errors.InvalidArgument, match=rf"^{name}(\[0\])? has a NUL character"):
        call(wrong)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Share(3, "/x"),  # type: ignore[arg-type]
        lambda: Share("/usr", b"/x"),  # type: ignore[arg-type]
        lambda: Share("/usr", "/x", acknowledge="credentials"),
        lambda: Allow(3),  # type: ignore[arg-type]
        lambda: Deny(b"example.org"),  # type: ignore[arg-type]
        lambda: Preset(None),  # type: ignore[arg-type]
        lambda: Publish("80", 80),  # type: ignore[arg-type]
        lambda: mvmnix.verify("file", key="k"),
        lambda: mvmnix.verify([b"file"], key="k"),  # type: ignore[list-item]
    ],
)
def test_what_is_made_of_another_type(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"^[a-z_]+(\[0\])? is a"):
        make()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"env": {"A": "\0"}}, "env['A'] has a NUL character"),
        ({"env": {"A\0": "x"}}, "a name in env has a NUL character"),
        ({"env": {"A": "\udcff"}}, "env['A'] has half of a surrogate pair"),
        ({"cwd": "/\0"}, "cwd has a NUL character"),
        ({"user": "\0"}, "user has a NUL character"),
        ({"labels": {"a": "\0"}}, "labels['a'] has a NUL character"),
        ({"command": ["a", "\0"]}, "command[1] has a NUL character"),
    ],
    ids=ascii,
)
def test_an_option_that_no_guest_takes(options: Any, words: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=re.escape(words)):
        plan_options(options)


def test_each_danger_that_can_be_acknowledged_is_listed() -> None:
    with pytest.raises(
        errors.InvalidArgument, match=r"acknowledge\[0\] is 'all', and not 'root-directory' or "
    ) as wrong:
        Share("/usr", "/data", acknowledge=["all"])
    for danger in Danger:
        assert f"'{danger}'" in str(wrong.value)
        assert f'"{danger}"' in str(inspect.getdoc(Share))
