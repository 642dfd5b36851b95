"""The two faces are one table of names, arguments and documents; the package hands out what is listed, lazily."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache

import pytest

import mvmnix
from mvmnix import aio
from mvmnix.sdk import errors, hints
from mvmnix.sdk.values import Allow, Deny, Preset, Publish, Secret, Share, network_options
from tests.repository import ROOT
from tests.unit import sdk_page
from tests.unit.rooms import imported
from tests.unit.sdk.faces import TWINS


def methods(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(value)
        for name in vars(kind)
        if not name.startswith("_") and callable(value := getattr(kind, name))
    }


@pytest.mark.parametrize(("kind", "twin"), TWINS.items(), ids=lambda kind: kind.__qualname__)
def test_each_method_has_a_twin_with_the_same_arguments(kind: type, twin: type) -> None:
    ours, theirs = methods(kind), methods(twin)
    assert list(ours) == list(theirs)
    for name, signature in ours.items():
        given = [(each.name, each.kind, each.default) for each in signature.parameters.values()]
        assert given == [(each.name, each.kind, each.default) for each in theirs[name].parameters.values()], name


def test_functions_of_both_faces_have_the_same_arguments() -> None:
    for name in ("initialize", "verify"):
        assert inspect.signature(getattr(mvmnix, name)).parameters == inspect.signature(getattr(aio, name)).parameters


def test_the_package_hands_out_what_its_stub_has() -> None:
    stub = {name: source for source, name in imported(ast.parse((ROOT / "mvmnix/__init__.pyi").read_text()))}
    assert sorted(mvmnix.__all__) == sorted(stub)
    for name, source in stub.items():
        home = importlib.import_module(source if name != "aio" else "mvmnix.aio")
        assert getattr(mvmnix, name) is (home if name == "aio" else getattr(home, name))
    assert set(mvmnix.__all__) <= set(dir(mvmnix))
    with pytest.raises(AttributeError, match="no attribute 'House'"):
        _ = mvmnix.House  # type: ignore[attr-defined]


def test_each_public_thing_is_documented() -> None:
    for name in mvmnix.__all__:
        assert inspect.getdoc(getattr(mvmnix, name)), name


@cache
def texts() -> dict[str, str]:
    """Each text of an error that the application, and what lies below, may hand to the SDK; and as it is told."""
    return {text: hints.for_python(text) for text in _constants()}


def _constants() -> Iterator[str]:
    for path in sorted((ROOT / "mvmnix").rglob("*.py")):
        if path.relative_to(ROOT / "mvmnix").parts[0] in {"cli", "sdk", "aio.py"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.mark.parametrize("option", hints.ARGUMENTS)
def test_no_option_with_an_argument_is_left_in_an_error(option: str) -> None:
    assert option not in hints.for_python(f"give it {option} X, or `{option}`; {option}=X").split()
    for text, left in texts().items():
        assert not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", left), (text, left)


@pytest.mark.parametrize("command", hints.CALLS)
def test_no_command_with_a_call_is_left_in_an_error(command: str) -> None:
    for text, left in texts().items():
        assert not re.search(rf"(?<![\w-]){re.escape(command)}(?![\w-])", left), (text, left)


def test_errors_are_also_those_of_python() -> None:
    rows: list[tuple[type[Exception], type[Exception]]] = [
        (errors.TimedOut, TimeoutError),
        (errors.FileNotFound, FileNotFoundError),
        (errors.FileExists, FileExistsError),
        (errors.FileForbidden, PermissionError),
        (errors.FileIsDirectory, IsADirectoryError),
        (errors.FileNotDirectory, NotADirectoryError),
        (errors.FileFailed, OSError),
        (errors.NotGranted, PermissionError),
        (errors.NotFound, LookupError),
        (errors.InvalidArgument, ValueError),
        (errors.Unreachable, ConnectionError),
    ]
    for kind, builtin in rows:
        assert issubclass(kind, builtin)
        assert issubclass(kind, errors.Error)


def test_a_secret_is_never_given() -> None:
    with pytest.raises(TypeError, match="named by where it lies"):
        Secret("hunter2")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="named by where it lies"):
        Secret()
    with pytest.raises(errors.InvalidArgument, match="not the name of a secret"):
        Secret.env("TOKEN", name="a/b")
    rows = [
        (Secret.env("TOKEN"), "env:TOKEN", "file"),
        (Secret.env("TOKEN", as_variable=True), "env:TOKEN", "environment"),
        (Secret.file("/run/token", name="T"), "file:/run/token", "file"),
        (Secret.keyring("service", "user", name="T"), "keyring:service/user", "file"),
        (Secret.command(["/usr/bin/pass", "show", "a b"], name="T"), "command:/usr/bin/pass show 'a b'", "file"),
    ]
    assert [(str(each.to_plan()), each.to_plan().target) for each, _, _ in rows] == [row[1:] for row in rows]


def test_shares_and_networks_are_those_of_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    assert Share("./share", "/data").to_plan().typed == "/usr/share:/data:ro"
    assert Share("/usr", "/data", writable=True, acknowledge=["system-directory"]).to_plan().typed == (
        "/usr:/data:rw,acknowledge=system-directory"
    )
    for wrong in (
        {"target": "data"},
        {"target": "/data", "writable": True, "follow": True},
    ):
        with pytest.raises(errors.InvalidArgument, match="Share\\("):
            Share("/usr", **wrong)
    made = network_options([Allow("https://api.example.com"), Deny("example.org"), Preset("pip"), Publish(8080, 80)])
    assert [rule.id for rule in made.rules] == ["allow-1", "deny-1"]
    assert ([each.name for each in made.presets], [each.typed for each in made.ports]) == (
        ["pip"],
        ["localhost:8080:80"],
    )
    for part in (Allow("nonsense:"), Deny(""), Preset("/"), Publish(0, 80), Publish(80, 80, "localhost.example")):
        with pytest.raises(errors.InvalidArgument, match="network=\\["):
            network_options([part])


def test_the_page_has_what_the_programs_and_docstrings_say() -> None:
    assert sdk_page.PAGE.read_text() == sdk_page.page(), "run: .venv/bin/python -m tests.unit.sdk_page"
