"""What long steps show and what they log: bounded, and nothing that a stranger wrote is markup."""

import io
import re

import pytest
from rich.console import Console

from mvmnix.cli import progress
from mvmnix.cli.progress import Steps


def shown(log: io.BytesIO) -> tuple[Steps, io.StringIO]:
    said = io.StringIO()
    return Steps(Console(file=said, width=200), log), said


def test_a_builder_that_floods_its_log_fills_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MOST_LOGGED", 1000)
    log = io.BytesIO()
    steps, _ = shown(log)
    for _ in range(100):
        steps.log(b"flooding\n" * 7)
    assert log.getvalue() == (b"flooding\n" * 112)[:1000] + b"\nmvm: the log ends here, after 1000 bytes\n"


@pytest.mark.parametrize("name", ["[/red]", "[bold]x", "x[/]", "\x1b[2J", "[link=https://host.example]x"])
def test_names_are_no_markup(name: str) -> None:
    steps, said = shown(io.BytesIO())
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
