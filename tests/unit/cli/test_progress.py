"""What long steps show: nothing that a stranger wrote is markup."""

import io
import re

import click
import pytest
from rich.console import Console

from mvmnix.cli.output import notice
from mvmnix.cli.progress import Steps


def shown() -> tuple[Steps, io.StringIO]:
    said = io.StringIO()
    return Steps(lambda: Console(file=said, width=80)), said


@pytest.mark.parametrize("name", ["[/red]", "[bold]x", "x[/]", "\x1b[2J", "[link=https://host.example]x"])
def test_names_are_no_markup(name: str) -> None:
    steps, said = shown()
    steps.step("fetching")
    steps.advance(name, 1 << 20)
    steps.received(f"https://host.example/{name}", 1 << 20, None)
    steps.notice(name)
    steps.step(f"unpacking {name}")
    steps.received("https://host.example/x", 1 << 20, None)
    steps.close()
    assert "\x1b" not in said.getvalue()
    assert name.replace("\x1b", "\\u001b") in said.getvalue()
    assert re.search(r"✓ fetching \([0-9.]+ s, 1 file\)", said.getvalue())


LONG = "accelerator: TCG (software emulation); /dev/kvm may not be opened (`mvm doctor` says how it can be)"


def test_without_a_terminal_no_line_is_wrapped() -> None:
    steps, said = shown()
    steps.step(LONG)
    steps.notice(LONG)
    steps.close()
    assert [LONG in line for line in said.getvalue().splitlines()] == [True, True, True]


def test_without_a_terminal_a_line_says_what_has_begun() -> None:
    steps, said = shown()
    steps.step("building 47 parts")
    heard = said.getvalue()
    steps.stop()
    assert heard == "… building 47 parts\n"


def test_a_command_shows_a_notice_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that builds first starts several machines, all on the same accelerator."""
    times = list[int]()
    with click.Context(click.Command("mvm")):
        for _ in range(2):
            steps, said = shown()
            steps.notice(LONG)
            notice(LONG)
            times.append(said.getvalue().count(LONG) + capsys.readouterr().err.count(LONG))
    assert times == [1, 0]
    with click.Context(click.Command("mvm")):
        notice(LONG)
    assert LONG in capsys.readouterr().err


def test_each_step_counts_its_own_files() -> None:
    steps, said = shown()
    steps.step("fetching")
    steps.advance("a", 1)
    steps.step("starting")
    steps.close()
    assert ["1 file" in line for line in said.getvalue().splitlines() if line.startswith("✓")] == [True, False]
