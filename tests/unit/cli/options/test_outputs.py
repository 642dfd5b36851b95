"""All options and arguments that name what is written have the types of options/outputs.py, by which no link counts."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import click
import pytest

from mvmnix.cli.main import ALIASES, cli
from mvmnix.cli.options.outputs import OutputType, Stdout
from mvmnix.errors import UsageError
from mvmnix.system.output_files import NewDirectory, NewFile, OutputDirectory, OutputFile
from tests.support.outputs import DATA, Output, write

#: By command: the option or argument, what it is, and whether `-` is standard output.
OUTPUTS: Final = {
    "audit checkpoint --out": (OutputFile, True),
    "audit export target": (NewDirectory, False),
    "audit prove --out": (OutputFile, True),
    "build --out": (NewDirectory, False),
    "bundle export --directory": (NewDirectory, False),
    "bundle export --out": (NewFile, True),
    "image pull --out": (NewDirectory, False),
    "image save --out": (NewFile, False),
    "init directory": (OutputDirectory, False),
    "plan create --out": (OutputFile, True),
    "plan sign --out": (OutputFile, True),
    "show --html": (OutputFile, True),
    "snapshot export --out": (NewFile, False),
    "trusted-root export --out": (NewFile, True),
    "verify --vsa": (NewFile, False),
}
#: Other paths, which are read. For what `mvm pin`, `lock` and `cp` write, see tests/unit/api/test_pins.py,
#: builder/flakes/test_worktree.py and launch/copy/test_files.py.
PATHS: Final = {
    *(f"audit {command} --directory" for command in ("checkpoint", "prove", "show", "tail", "verify")),
    *("build --trust-config", "plan sign --trust-config"),
    *(f"pin {command} --lock-dir" for command in ("debian", "fetch", "python", "update")),
}


@cache
def parameters() -> dict[str, click.Parameter]:
    return dict(walk(cli, ""))


def walk(command: click.Command, words: str) -> Iterator[tuple[str, click.Parameter]]:
    context = click.Context(command)
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        if not words and name in ALIASES:
            continue
        inner = command.get_command(context, name) if isinstance(command, click.Group) else None
        assert inner is not None
        yield from walk(inner, f"{words}{name} ")
    for parameter in command.params:
        yield f"{words}{parameter.opts[0]}", parameter


def output_type(name: str) -> OutputType[Output]:
    found = parameters()[name].type
    assert isinstance(found, OutputType)
    return found


def test_every_output_is_one_of_them() -> None:
    found = {
        name: (parameter.type.noun, parameter.type.prints)
        for name, parameter in parameters().items()
        if isinstance(parameter.type, OutputType)
    }
    assert found == OUTPUTS


def test_no_other_is_a_path_that_could_be_written() -> None:
    """click's own types for paths are for what is read; and what is called as outputs are is one."""
    paths = {name for name, it in parameters().items() if isinstance(it.type, click.Path | click.File)}
    assert paths == PATHS
    called = {name for name, it in parameters().items() if {"--out", "-o", "--html"} & {*it.opts}}
    assert called <= OUTPUTS.keys()


@pytest.mark.parametrize("name", [name for name, (_, prints) in OUTPUTS.items() if prints])
def test_a_dash_is_standard_output(name: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    out = output_type(name).convert("-", None, None)
    assert isinstance(out, Stdout)
    assert out.write(DATA) is False
    assert capfdbinary.readouterr().out == DATA


def write_to(name: str, path: Path) -> None:
    out = output_type(name).convert(str(path), None, None)
    assert not isinstance(out, Stdout)
    write(out)


@pytest.mark.parametrize("name", OUTPUTS)
def test_each_writes_where_it_was_told(tmp_path: Path, name: str) -> None:
    write_to(name, tmp_path / "out")
    written = tmp_path / "out" if (tmp_path / "out").is_file() else tmp_path / "out/inner"
    assert written.read_bytes() == DATA


@pytest.mark.parametrize("target", ["../.bashrc", "../new", "..", "../home"])
@pytest.mark.parametrize("place", ["out", "out/below"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_none_follows_a_link_of_the_checkout(tmp_path: Path, name: str, target: str, place: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / ".bashrc").write_bytes(b"mine")
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout/out").symlink_to(target)
    with pytest.raises(UsageError):
        write_to(name, tmp_path / "checkout" / place)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert found == [".bashrc", "checkout", "checkout/out", "home"]
    assert (tmp_path / ".bashrc").read_bytes() == b"mine"
    assert (tmp_path / "checkout/out").is_symlink()
