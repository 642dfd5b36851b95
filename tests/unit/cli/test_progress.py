"""What long steps show: nothing that a stranger wrote is markup."""

import io
import re

import pytest
from rich.console import Console

from mvmnix.cli.progress import Steps


def shown() -> tuple[Steps, io.StringIO]:
    said = io.StringIO()
    return Steps(Console(file=said, width=200)), said


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
