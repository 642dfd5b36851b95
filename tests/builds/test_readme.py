"""What the README tells a newcomer to type does what it says, with the exit codes that stand beside it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import World
from tests.pages import expected_exit, run_page
from tests.patience import PATIENCE
from tests.repository import ROOT

pytestmark = pytest.mark.vm

README = (ROOT / "README.md").read_text()


def section(heading: str) -> str:
    """What stands under a heading of the README."""
    return README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory without the user's home in it, which would be taken for a checkout's."""
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


def shell(line: str, copied: World, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """A line as it would be typed, `mvm` being the one of this tree."""
    python = f"{shlex.quote(sys.executable)} -P -m mvmnix.cli"
    script = f'mvm() {{ {python} "$@"; }}\n{line}'
    return subprocess.run(
        ["bash", "-c", script],
        cwd=cwd,
        env={**copied.home.environment, "PYTHONPATH": str(ROOT), "GIT_CONFIG_NOSYSTEM": "1"},
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
        command = line.partition("  # ")[0]
        done = shell(command, copied, checkout)
        assert done.returncode == expected_exit(line), f"{command}\n{done.stdout}{done.stderr}"


def test_every_block_of_commands_is_followed() -> None:
    """Those of the release by tests/unit/cli/test_verify_page.py; the first is what runs these tests."""
    headings = re.findall(r"(?m)^## (.*)$", README)
    blocks = {heading: count for heading in headings if (count := section(heading).count("```sh\n"))}
    assert blocks == {"Five minutes": 2, "A guest of your own": 2, "In a release workflow": 1, "Step by step": 1}


def test_a_guest_of_your_own(copied: World, checkout: Path, elsewhere: Path) -> None:
    text = section("A guest of your own")
    (flake,) = re.findall(r"```nix\n(.*?)```", text, re.DOTALL)
    first, commands = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    written = shell(first, copied, elsewhere)
    assert (written.returncode, written.stdout) == (0, "Hello from a verified microVM.\n"), written.stderr
    kept = copied.home.mvm("image", "ls")
    assert any(line.split()[0] == b"greeter" for line in kept.stdout.splitlines()[1:])
    named = shell("mvm run path:greeter -- /bin/busybox whoami", copied, elsewhere)
    assert (named.returncode, named.stdout) == (0, "mvm\n"), named.stderr
    (place,) = re.findall(r"`(guests/\w+/flake\.nix)`:", text)
    (checkout / place).parent.mkdir(parents=True)
    (checkout / place).write_text(flake)
    done = shell(f"set -e\n{commands}", copied, checkout)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\w{3} \w{3} [ \d]\d .* UTC \d{4}\n", done.stdout.splitlines(keepends=True)[-1])
    (checkout / place).write_text(flake.replace('"-u"', '"+edited"'))
    refused = shell("mvm run ./guests/clock", copied, checkout)
    assert (refused.returncode, "[flake-dirty]" in refused.stderr) == (126, True)
    restored = shell("git checkout guests", copied, checkout)
    assert restored.returncode == 0, restored.stderr
    environment = Path(sys.executable).parents[1]
    # those that look at every file, now that there is one more; the others run beside this test
    pytest_ = f"{environment}/bin/python -m pytest tests/unit/test_house.py"
    made = f"make -o {environment}/.tests-done VENV={environment} PYTEST='{pytest_}' test-fast"
    tested = shell(made, copied, checkout)
    assert tested.returncode == 0, tested.stdout


def test_the_first_screen_shows_what_is_printed(copied: World, checkout: Path) -> None:
    first, _, _ = README.partition("\n## ")
    assert len(first.splitlines()) < 50
    run_page(first, checkout, copied.home.environment)


def test_what_follows_the_demonstration(python_user: World, checkout: Path) -> None:
    """The commands below `make demo`; the programs they run are in the example."""
    blocks = re.findall(r"```sh\n(.*?)```", section("Five minutes"), re.DOTALL)
    lines = [line.partition("  # ")[0].strip() for line in blocks[1].splitlines()]
    said = {line: shell(line, python_user, checkout) for line in lines}
    assert all(done.returncode == 0 for done in said.values()), {line: done.stderr for line, done in said.items()}
    assert said["mvm run ./examples/hello"].stdout == "Hello from a verified microVM.\n"
    assert "42\n" in [done.stdout for done in said.values()]
    numpy = said["mvm run ./examples/python"].stdout
    assert re.fullmatch(r"numpy [0-9.]+ on Linux: x = \[2\.0, 3\.0\]\n", numpy)
