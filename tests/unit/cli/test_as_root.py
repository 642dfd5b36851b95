"""Whom root's mvm becomes, by the command line alone: before the step nothing else of it is read."""

import os
from collections.abc import Sequence

import pytest

from mvmnix.api import held_files
from mvmnix.cli import as_root
from mvmnix.cli.main import COMMANDS
from mvmnix.errors import MvmnixError
from mvmnix.system import system_user
from mvmnix.system.system_user import Become


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who this process was to be."""
    found = list[str]()

    def become(name: str) -> Become:
        found.append(name)
        return Become("no group", "/closed")

    def become_unprivileged(kept: Sequence[int] = ()) -> None:
        found.append(f"nobody, with {len(kept)}")

    monkeypatch.setattr(system_user, "drop_variables", lambda _: None)
    monkeypatch.setattr(system_user, "become", become)
    monkeypatch.setattr(system_user, "become_unprivileged", become_unprivileged)
    monkeypatch.setattr(system_user, "exists", lambda _: True)
    monkeypatch.setattr(held_files, "hold", lambda words: tuple(range(len(words))))
    monkeypatch.setattr(as_root, "_step", [])
    monkeypatch.setattr(as_root, "_stayed", [])
    monkeypatch.delenv("_MVM_COMPLETE", raising=False)
    return found


@pytest.mark.parametrize(
    ("words", "whom"),
    [
        ("ps", "mvmnix"),
        ("--quiet --verbose ps", "mvmnix"),
        ("--user ci ps", "ci"),
        ("--user=ci --quiet ps --user other", "ci"),
        ("run --user 1:1 ./guest", "mvmnix"),
        ("-- ps", "mvmnix"),
        ("no-such-command", "mvmnix"),
        ("exec web -- ls --help", "mvmnix"),
        ("run --help", "nobody, with 0"),
        ("run -h", "nobody, with 0"),
        ("plan create --help", "nobody, with 0"),
        ("trusted-root export -h", "nobody, with 0"),
        ("plan --help create", "mvmnix"),
        ("plan create --out p --help", "mvmnix"),
        ("plan create -- --help", "mvmnix"),
        ("plan no-such-command --help", "mvmnix"),
        ("exec web ls --help", "mvmnix"),
        ("run ./guest --help", "mvmnix"),
        ("ps ps --help", "mvmnix"),
        ("man run", "nobody, with 0"),
        ("schema", "nobody, with 0"),
        ("explain", "nobody, with 0"),
        ("lint --help", "nobody, with 0"),
        ("verify --key k app", "nobody, with 3"),
        ("--user ci verify --key k app", "ci"),
        ("--user ci", "ci"),
        ("--user", "mvmnix"),
    ],
)
def test_whom(words: str, whom: str, steps: list[str]) -> None:
    as_root.leave(words.split(), COMMANDS)
    assert steps == ([whom] if words != "--user" else [])


@pytest.mark.parametrize("words", ["", "--version", "--help", "-h", "--quiet", "--user"])
def test_without_a_command_nothing_is_left_and_no_command_begins(words: str, steps: list[str]) -> None:
    as_root.leave(words.split(), COMMANDS)
    assert steps == []
    with pytest.raises(MvmnixError, match="still root's"):
        as_root.tell()


def test_variables_are_dropped_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries read some when they are loaded: OPENSSL_CONF names code."""
    done = list[str]()
    monkeypatch.setattr(system_user, "drop_variables", lambda it: done.append("drop" if it is os.environ else "other"))
    monkeypatch.setattr("importlib.import_module", done.append)
    as_root.leave(["ps"], COMMANDS)
    assert done == ["drop", "mvmnix.api.failure_log", "mvmnix.cli.output", "mvmnix.cli.commands.ps"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_shell_that_asks_is_answered_by_the_system_user(
    monkeypatch: pytest.MonkeyPatch, steps: list[str], exists: bool
) -> None:
    monkeypatch.setitem(os.environ, "_MVM_COMPLETE", "bash_complete")
    monkeypatch.setattr(system_user, "exists", lambda _: exists)
    as_root.leave([], COMMANDS)
    assert steps == (["mvmnix"] if exists else ["nobody, with 0"])


def test_what_came_of_it_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    as_root.leave(["ps"], COMMANDS)
    as_root.tell()
    assert capsys.readouterr().err == "mvm: /closed is closed to this user, so mvm works in /\n"
    as_root.tell()
    assert capsys.readouterr().err == ""
