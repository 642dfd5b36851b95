"""Completion in real bash, zsh and fish, by the scripts that mvm prints; and names of attributes beside those of Nix.

mvm is started as users start it: where root starts it, it is another user before it answers.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from mvmnix.cli.main import COMMANDS
from mvmnix.model import FlakeRef
from tests.repository import ROOT
from tests.seat import Seat
from tests.unit.cli.conftest import station as user
from tests.unit.cli.station import Station, ready

__all__ = ["user"]
pytestmark = pytest.mark.integration

FLAKE = "{ outputs = { g, ... }: { packages.x86_64-linux = { hello = g.mkGuest { }; tools = g.mkGuest { }; }; }; }"
#: What is typed, and what stands there after the Tab key; a bar is the cursor.
COMPLETED = {
    "mvm pau": "mvm pause ",
    "mvm run --evid": "mvm run --evidence ",
    "mvm run --backend q": "mvm run --backend qemu ",
    "mvm run --backend=q": "mvm run --backend=qemu ",
    "mvm run --env=A=b:c --evid": "mvm run --env=A=b:c --evidence ",
    "mvm logs ol": "mvm logs old ",
    "mvm rm ol": "mvm rm old ",
    "mvm stop ol": "mvm stop ol",
    "mvm image rm hel": "mvm image rm held ",
    "mvm run image:hel": "mvm run image:held ",
    "mvm launch ./pl": "mvm launch ./plan.json ",
    "mvm plan create --out=./pl": "mvm plan create --out=./plan.json ",
    "mvm build ./gue": "mvm build ./guest/",
    "mvm build path:./gue": "mvm build path:./guest/",
    "mvm build .#he": "mvm build .#hello ",
    "mvm run .#to": "mvm run .#tools ",
    "mvm plan create .#he": "mvm plan create .#hello ",
    "mvm build .#x": "mvm build .#x",
    "mvm build ./guest/#he": "mvm build ./guest/#held ",
    "mvm run path:./guest#he": "mvm run path:./guest#held ",
    "mvm run path:.?dir=guest#wr": "mvm run path:.?dir=guest#written ",
    "mvm run ./a@b#he": "mvm run ./a@b#hello ",
    "mvm build .#he| --again": "mvm build .#hello --again",
    "true; A=b:c mvm run -m 96 .#he": "true; A=b:c mvm run -m 96 .#hello ",
}


def program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"apt-get install {name}"
    return found


@pytest.fixture
def place(user: Station) -> Path:
    """A directory with flakes in it; an image of one is kept, and a machine has ended."""
    ready(user)
    place = user.path / "place"
    for where, text in (("", FLAKE), ("a@b", FLAKE), ("guest", FLAKE.replace("hello", "written"))):
        (place / where).mkdir()
        (place / where / "flake.nix").write_text(text)
    (place / "plan.json").write_text("{}")
    user.built(FlakeRef(str(place / "guest"), "held", copy=True), "held")
    assert user.mvm("run", "--name", "old", f"path:{place}/guest#held", "--", "true").code == 0
    program = user.path / "bin/mvm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -P -m mvmnix.cli "$@"\n')
    program.chmod(0o755)
    return place


def environment(user: Station) -> dict[str, str]:
    path = f"{user.path}/bin:{os.environ['PATH']}"
    return {"HOME": str(user.home), "PATH": path, "TERM": "dumb", "LANG": "C.UTF-8", "PS1": "> ", "PROMPT": "> "}


def typed(user: Station, place: Path, argv: list[str], start: str, lines: Iterable[str] = COMPLETED) -> dict[str, str]:
    """What each line is after the key; control and X then has the shell show it between brackets, and begin another."""
    program(argv[0])
    seat = Seat(["setsid", "--ctty", "--wait", *argv], environment(user), place)
    seat.types(f"{start}; echo rea''dy\n".encode())
    seat.until(b"ready\r\n")
    found = {}
    for line in lines:
        before, _, behind = line.partition("|")
        seat.types(f"{before}{behind}".encode() + b"\x02" * len(behind) + b"\t\x18")
        seat.until(b"[[")
        found[line] = seat.until(b"]]").decode()
    seat.types(b"\x04")
    seat.leaves()
    return found


def test_bash(user: Station, place: Path) -> None:
    shown = r"""bind -x '"\C-x": echo "[[$READLINE_LINE]]"; READLINE_LINE='"""
    argv = ["bash", "--norc", "--noprofile", "-i"]
    assert typed(user, place, argv, f'eval "$(mvm completion bash)"; {shown}') == COMPLETED


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ('compinit -u -D; eval "$(mvm completion zsh)"', [*COMPLETED]),
        # the same script, found by zsh: whatever it completes is right
        ("mvm completion zsh > ../bin/_mvm; fpath=($PWD/../bin $fpath); compinit -u -D", ["mvm pau", "mvm logs ol"]),
    ],
)
def test_zsh(user: Station, place: Path, script: str, lines: list[str]) -> None:
    shown = 'show() { print -r -- "[[$BUFFER]]"; BUFFER=; }; zle -N show; bindkey "^X" show'
    start = f"setopt extendedglob; autoload -Uz compinit; {script}; {shown}"
    quoted = {line: it.replace("#", r"\#").replace("?", r"\?") for line, it in COMPLETED.items() if line != it}
    quoted["mvm build .#he| --again"] = r"mvm build .\#hello  --again"  # zsh takes the blank for none of its own
    expected = COMPLETED | quoted
    assert typed(user, place, ["zsh", "-f", "-i"], start, lines) == {line: expected[line] for line in lines}


def test_fish(user: Station, place: Path) -> None:
    shown = r'bind ctrl-x "echo [[(commandline)]]; commandline \"\""'
    written = "~/.config/fish/completions/mvm.fish"
    start = f"mkdir -p (path dirname {written}); mvm completion fish > {written}; {shown}"
    assert typed(user, place, ["fish", "-i"], start) == COMPLETED


def test_fish_says_what_is_offered_for(user: Station, place: Path) -> None:
    ask = "mvm completion fish | source; complete -C 'mvm doc'; complete -C 'mvm build .#'"
    argv = [program("fish"), "--no-config", "-c", ask]
    done = subprocess.run(argv, env=environment(user), cwd=place, capture_output=True, check=True, text=True)
    assert done.stdout == f"doctor\t{COMMANDS['doctor'][2]}\n.#hello\n.#tools\n"
    assert done.stderr == ""
