"""The two faces are one table of names, arguments and documents; the package hands out what is listed, lazily."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache

import click
import pytest

import mvmnix
from mvmnix import aio
from mvmnix.cli.main import cli
from mvmnix.sdk import errors, hints
from mvmnix.sdk.values import Allow, Deny, Preset, Publish, Secret, Share, network_options
from tests.repository import ROOT
from tests.unit.rooms import imported
from tests.unit.sdk.faces import TWINS
from tools.site import sdk


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
        if path.relative_to(ROOT / "mvmnix").parts[0] in {"cli", "claims", "sdk", "aio.py"}:
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        documents = {node.value for node in nodes if isinstance(node, ast.Expr)}
        yield from (
            node.value
            for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documents
        )


@cache
def command_line() -> tuple[frozenset[str], frozenset[str]]:
    """The names of all commands, and all options."""
    names, options = set[str](), set[str]()

    def visit(command: click.Command, name: str) -> None:
        names.add(name)
        options.update(each for option in command.params for each in option.opts if each.startswith("--"))
        if isinstance(command, click.Group):
            context = click.Context(command)
            for each in command.list_commands(context):
                if (inner := command.get_command(context, each)) is not None:
                    visit(inner, f"{name} {each}")

    visit(cli, "mvm")
    return frozenset(names - {"mvm"}), frozenset(options)


#: Commands without a call in Python, by why a program's errors may name them; `mvm` is typed into a shell there.
SHELL_ALONE = {
    "looks at this host, for the person who mends it": {"mvm doctor"},
    "keys, policies and the audit log are begun anew by a person": {
        *("mvm key create", "mvm key show", "mvm policy check", "mvm policy create", "mvm audit new-log"),
        *("mvm audit prove", "mvm trusted-root export", "mvm schema"),
    },
    "flakes, their locks and pins are files that a person commits": {
        *("mvm init", "mvm lock", "mvm pin", "mvm pin fetch", "mvm pin python", "mvm pin update"),
    },
    "what is kept is looked through and removed by a person": {
        *("mvm image load", "mvm image prune", "mvm image rm", "mvm image save", "mvm image testify"),
        *("mvm launcher stop", "mvm net show", "mvm plan ls", "mvm plan rm", "mvm rm", "mvm store gc"),
        "mvm snapshot recipient",
    },
    "a machine that such a command made isn't a program's": {"mvm create", "mvm start"},
}
#: Options without an argument in Python, by why an error may name them.
OPTIONS_ALONE = {
    "a plan's network is made with them on the command line": {
        *("--connection-rate", "--network-proxy", "--when-gateway-ends"),
    },
    "the command line's build, copy and verification alone have them": {
        *("--disk", "--rebuild", "--force", "--certificate-identity-regexp", "--trusted-root", "--identity-token"),
        *("--trust-config",),
    },
    "of a command that only a shell has": {
        *("--all", "--directory", "--from", "--lock-dir", "--pinned", "--suite", "--to"),
    },
    "another program's": {"--format", "--json", "--quiet", "--user", "--version"},
}


def test_what_an_error_says_of_the_command_line_is_listed() -> None:
    """An option or command that has a twin in Python is translated, and a new one comes into one list or the other."""
    prose = [left for text, left in texts().items() if " " in text]
    for known, alone in zip(command_line(), (SHELL_ALONE, OPTIONS_ALONE), strict=True):
        longest = "|".join(sorted(map(re.escape, known), key=len, reverse=True))
        found = {each for left in prose for each in re.findall(rf"(?<![\w-])(?:{longest})(?![\w-])", left)}
        assert found == {each for group in alone.values() for each in group}


def test_no_placeholder_is_left_beside_an_argument() -> None:
    for text, left in texts().items():
        assert not re.search(r"(\)|=|\}|\]) (\[IP:\])?/?[A-Z]{3,}\b", left) or left == text, (text, left)


@pytest.mark.parametrize("option", hints.ARGUMENTS)
def test_no_option_with_an_argument_is_left_in_an_error(option: str) -> None:
    assert option not in hints.for_python(f"give it {option} X, or `{option}`; {option}=X").split()
    for text, left in texts().items():
        own = left.replace("systemd-run --user", "")
        assert not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", own), (text, left)


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


def test_the_reference_has_each_public_name_and_each_program() -> None:
    page = sdk.text()
    assert [name for name in mvmnix.__all__ if f"### `{name}`" not in page] == ["aio"]
    assert not [path for path in sdk.EXAMPLES.glob("*.py") if path.read_text() not in page]
