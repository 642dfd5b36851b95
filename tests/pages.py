"""Types a page of the documents: its blocks of sh and Python, in order, in one shell; compares what it shows.

A command's exit status is 0, or what the remark behind it says (`# exit 126`). A block of text that follows at once is
what is printed: each of its lines is found in that order, `…` standing for anything.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.patience import PATIENCE
from tests.repository import ROOT

_BLOCK: Final = re.compile(r"(?ms)^( *)```(\w+)\n(.*?)^ *```$(?:\n+ *```text\n(.*?)^ *```$)?")
#: Programs of an administrator or from elsewhere, which a test doesn't run: each is a stand-in that succeeds.
_NOT_RUN: Final = ("apt-get", "pipx", "sudo")


@dataclass(frozen=True, slots=True)
class Block:
    """What is typed: sh or Python, and what is printed then, if the page shows it."""

    language: str
    text: str
    printed: str


def blocks(page: str) -> Iterator[Block]:
    """Find the blocks of a page that are run."""
    for indent, language, text, printed in _BLOCK.findall(page):
        if language in {"sh", "python"}:
            yield Block(language, re.sub(rf"(?m)^{indent}", "", text), printed)


def run_page(page: str, directory: Path, environment: Mapping[str, str]) -> None:
    """Type a page's blocks in a directory, as the user whose environment is given; fails where one does."""
    programs = directory / ".programs"
    programs.mkdir()
    for name, line in _programs().items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    found = list(blocks(page))
    assert found, "nothing to type"
    script = "\n".join(_script(number, block) for number, block in enumerate(found))
    path = f"{programs}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=directory,
        env={**environment, "PATH": path, "PYTHONPATH": str(ROOT), "GIT_CONFIG_NOSYSTEM": "1", "TRIES": str(programs)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    for number, block in enumerate(found):
        if block.printed:
            _compare(block.printed, (programs / f"printed.{number}").read_text())


def _programs() -> Mapping[str, str]:
    python = f'exec {sys.executable} -P "$@"'
    mvm = f'exec {sys.executable} -P -m mvmnix.cli "$@"'
    return {"mvm": mvm, "python3": python, **dict.fromkeys(_NOT_RUN, ":")}


def _script(number: int, block: Block) -> str:
    """Return a block as a script whose output goes to a file, and which ends the shell at an unexpected status."""
    if block.language == "python":
        block = Block("sh", f"python3 - <<'END_OF_PYTHON'\n{block.text}END_OF_PYTHON\n", block.printed)
    lines = [f"{command}\nexpect {expected_exit(command)} $? {number}" for command in _commands(block.text)]
    expect = """expect() { [ "$1" = "$2" ] || { echo "block $3: exit $2, and not $1" >&2; exit 99; }; }"""
    body = "\n".join(lines)
    return (
        f"set -o pipefail\n{expect}\nexec 3>&1\nexec >$TRIES/printed.{number} 2>&1\n"
        f"trap 'cat $TRIES/printed.{number} >&3' EXIT\n{body}\ntrap - EXIT\nexec >&3 2>&3\n"
    )


def _commands(text: str) -> Iterator[str]:
    """Part a block into commands: as many lines as the shell takes for a whole one, here-documents included."""
    held = ""
    for line in text.splitlines(keepends=True):
        held += line
        checked = subprocess.run(["bash", "-n", "-c", held], capture_output=True, check=False)
        if not checked.returncode and not checked.stderr and not held.rstrip().endswith("\\"):
            if held.strip() and not held.lstrip().startswith("#"):
                yield held.rstrip()
            held = ""
    assert not held, f"not a whole command: {held}"


def expected_exit(command: str) -> int:
    """Return the exit status that a remark behind a command says, or 0."""
    remark = re.search(r"(?m)^.*  # exit (\d+)", command)
    return int(remark[1]) if remark else 0


def _compare(shown: str, printed: str) -> None:
    rest = printed.splitlines()
    for line in filter(None, map(str.rstrip, shown.splitlines())):
        pattern = ".*".join(map(re.escape, line.strip().split("…")))
        while rest and not re.search(pattern, rest[0]):
            rest.pop(0)
        assert rest, f"not printed: {line}\n{printed}"
        rest.pop(0)
