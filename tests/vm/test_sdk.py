"""The programs of examples/sdk, each in real machines, from an installed wheel and without a checkout."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import World
from tests.repository import ROOT
from tests.vm.networked import FLAKE
from tests.wheel import Installation, build, install

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def installed(world: World, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """A clean environment with the wheel of this tree."""
    place = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(world.tree, place / "source", ignore=shutil.ignore_patterns(".git"))
    return install(build("wheel", source, place / "wheel"), place / "installed")


def ran(installed: Installation, world: World, cwd: Path, name: str, *arguments: str) -> list[str]:
    """The lines that a program prints."""
    cwd = cwd / "work"  # beside the home: a checkout has no policy of its user's in it
    cwd.mkdir()
    program = shutil.copy2(ROOT / "examples/sdk" / name, cwd / name)
    done: subprocess.CompletedProcess[bytes] = installed.run(
        "python", "-I", program, *arguments, home=world.home, cwd=cwd
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b"", "without a frontend nothing is shown"
    return done.stdout.decode().splitlines()


def test_untrusted_code(installed: Installation, copied: World, minimal: str, tmp_path: Path) -> None:
    said = ran(installed, copied, tmp_path, "untrusted_code.py", minimal)
    assert said == ["I could have been anything", "and have nothing to break", "exit code 0"]


def test_build_and_verify(installed: Installation, copied: World, minimal: str, tmp_path: Path) -> None:
    built, changed = ran(installed, copied, tmp_path, "build_and_verify.py", minimal, str(tmp_path / "image"))
    assert built == "built minimal, SLSA Build L1"
    assert changed.startswith("changed afterwards: artifact-mismatch")


def test_a_data_job(installed: Installation, copied: World, minimal: str, tmp_path: Path) -> None:
    places = [tmp_path / "data", tmp_path / "results"]
    for place in places:
        place.mkdir()
    (places[0] / "words").write_text("b\na\n")
    assert ran(installed, copied, tmp_path, "data_job.py", minimal, *map(str, places)) == ["a", "b"]


def test_the_tools_of_an_agent(installed: Installation, copied: World, minimal: str, tmp_path: Path) -> None:
    assert ran(installed, copied, tmp_path, "agent_tools.py", minimal) == [
        "write_file: wrote /tmp/hello.sh",
        "run: exit code 0",
        "hello from agent",
        "read_file: error: /tmp/nosuch: No such file or directory",
        "run: error: the command 'sh' did not end in its time, and was killed",
        "list_files: hello.sh",
    ]


def test_many_sandboxes_of_one_loop(installed: Installation, copied: World, minimal: str, tmp_path: Path) -> None:
    """Twenty in all, as many at once as software emulation takes."""
    assert ran(installed, copied, tmp_path, "many.py", minimal, "20", "4") == ["2470"]


def test_the_cells_of_a_notebook(installed: Installation, copied: World, minimal: str, tmp_path: Path) -> None:
    said = ran(installed, copied, tmp_path, "notebook_cell.py", minimal)
    assert said == ["from a cell", "as it comes", "exit code 0", "stopped"]


def test_a_service(installed: Installation, copied: World, tmp_path: Path) -> None:
    guest = shutil.copytree(copied.tree, tmp_path / "tree") / "guests/connected"
    guest.mkdir(parents=True)
    shutil.copy2(copied.tree / "examples/hello/flake.lock", guest / "flake.lock")
    (guest / "flake.nix").write_text(FLAKE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    said = ran(installed, copied, tmp_path, "service.py", f"path:{tmp_path}/tree?dir=guests/connected", port)
    assert said == ["healthy"]
    assert b"response:200" in (tmp_path / "work/service.log").read_bytes()
