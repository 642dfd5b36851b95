"""What the README tells a newcomer to type does what it says, with the exit codes that stand beside it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import World
from tests.patience import PATIENCE
from tests.repository import ROOT

pytestmark = pytest.mark.vm

README = (ROOT / "README.md").read_text()


def section(heading: str) -> str:
    """What stands under a heading of the README."""
    return README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


@pytest.fixture
def checkout(world: World, tmp_path: Path) -> Path:
    """A clone of this repository that a newcomer may write into."""
    subprocess.run(["cp", "-a", world.tree, tmp_path / "mvmnix"], check=True)
    return tmp_path / "mvmnix"


def shell(line: str, copied: World, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """A line as it would be typed, `mvm` being the one of this tree."""
    python = f"{shlex.quote(sys.executable)} -P -m mvmnix.cli"
    script = f'mvm() {{ {python} "$@"; }}\n{line}'
    environment = {**copied.home.environment, "PYTHONPATH": str(ROOT), "GIT_CONFIG_NOSYSTEM": "1"}
    identity = {f"GIT_{who}_{what}": "t@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return subprocess.run(
        ["bash", "-c", script],
        cwd=cwd,
        env=environment | identity,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_step_by_step(copied: World, checkout: Path) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", section("Step by step"), re.DOTALL)
    lines = block.splitlines()
    assert len(lines) > 10
    for line in lines:
        command, _, remark = line.partition("  # ")
        expected = re.match(r"exit (\d+)", remark)
        done = shell(command, copied, checkout)
        assert done.returncode == (int(expected[1]) if expected else 0), f"{command}\n{done.stdout}{done.stderr}"


def test_a_guest_of_your_own(copied: World, checkout: Path) -> None:
    text = section("A guest of your own")
    (flake,) = re.findall(r"```nix\n(.*?)```", text, re.DOTALL)
    first, commands = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert "mvm init clock" in first, "tests/builds/test_init.py runs it"
    (place,) = re.findall(r"`(guests/\w+/flake\.nix)`:", text)
    (checkout / place).parent.mkdir(parents=True)
    (checkout / place).write_text(flake)
    done = shell(f"set -e\n{commands}", copied, checkout)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\w{3} \w{3} [ \d]\d .* UTC \d{4}\n", done.stdout.splitlines(keepends=True)[-1])
    (checkout / place).write_text(flake.replace('"-u"', '"+edited"'))
    refused = shell("mvm run ./guests/clock", copied, checkout)
    assert (refused.returncode, "[flake-dirty]" in refused.stderr) == (126, True)


def test_what_is_shown_first(python_user: World, checkout: Path) -> None:
    """The commands below `make demo`; the programs they run are in the example."""
    blocks = re.findall(r"```sh\n(.*?)```", section("Five minutes"), re.DOTALL)
    lines = [line.partition("  # ")[0].strip() for line in blocks[1].splitlines()]
    said = {line: shell(line, python_user, checkout) for line in lines}
    assert all(done.returncode == 0 for done in said.values()), {line: done.stderr for line, done in said.items()}
    assert said["mvm run ./examples/hello"].stdout == "Hello from a verified microVM.\n"
    assert "42\n" in [done.stdout for done in said.values()]
    numpy = said["mvm run ./examples/python"].stdout
    assert re.fullmatch(r"numpy [0-9.]+ on Linux: x = \[2\.0, 3\.0\]\n", numpy)
