"""The wheel: the tracked files and no others, the same bits each time, and an installation with its own flake."""

import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from mvmnix.builder import bootstrap
from mvmnix.system import own_flake
from tests.conftest import Home, committed_copy
from tests.repository import ROOT, tracked
from tests.wheel import Installation, build, install

pytestmark = pytest.mark.integration

#: What a checkout may hold besides: caches, an earlier build, the agent compiled for its tests.
BESIDES = (
    *("mvmnix/__pycache__/nar.cpython-313.pyc", "modules/oci/__pycache__/merge.cpython-313.pyc", ".venv/bin/python"),
    *("build/lib/mvmnix/removed.py", "build/lib/mvmnix/flake/modules/removed.nix", "dist/mvmnix-0.0.9.tar.gz"),
    *("modules/agent/agent", "modules/agent/agent-test", "modules/agent/agent-sanitized", ".mypy_cache/x.json"),
)
PROGRAM = Path("modules/oci/program")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout as people have one, with one more file: a program, as none of the flake's is one."""
    copy = committed_copy(tmp_path_factory.mktemp("checkout") / "mvmnix")
    for name in (*BESIDES, str(PROGRAM)):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(name)
    (copy / PROGRAM).chmod(0o755)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", checkout, tmp_path_factory.mktemp("sdist"))


def of_the_flake(path: Path) -> bool:
    return path.parts[0] in own_flake.FILES


def test_it_holds_the_tracked_files_and_no_others(wheel: Path, checkout: Path) -> None:
    files = [*tracked(checkout), PROGRAM]
    wanted = {f"mvmnix/flake/{path}": checkout / path for path in files if of_the_flake(path)}
    wanted |= {str(path): checkout / path for path in files if path.parts[0] == "mvmnix"}
    with zipfile.ZipFile(wheel) as archive:
        held = {entry.filename: entry for entry in archive.infolist() if ".dist-info/" not in entry.filename}
        assert held.keys() == wanted.keys()
        for name, path in wanted.items():
            assert archive.read(name) == path.read_bytes(), name
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            assert held[name].external_attr >> 16 == stat.S_IFREG | mode, name
    assert wanted[f"mvmnix/flake/{PROGRAM}"].stat().st_mode & 0o100


def test_a_second_build_gives_the_same_bits(wheel: Path, checkout: Path, tmp_path: Path) -> None:
    """In another directory, of files that another umask made, under another umask."""
    copy = shutil.copytree(checkout, tmp_path / "copy", ignore=shutil.ignore_patterns("build"))
    for path in copy.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode | 0o060 if os.access(path, os.X_OK) else 0o660)
    again = build("wheel", copy, tmp_path / "again", umask=0o077)
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {Path(*Path(entry.name).parts[1:]) for entry in archive if entry.isfile()}
        archive.extractall(tmp_path, filter="data")
    assert not names & {*map(Path, BESIDES)}
    (unpacked,) = tmp_path.iterdir()
    assert build("wheel", unpacked, tmp_path / "out").read_bytes() == wheel.read_bytes()


@pytest.fixture(scope="module")
def installation(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Installed by root where pipx has it: in a hidden directory of a home that others can't enter."""
    base = tmp_path_factory.mktemp("installed")
    copy = shutil.copytree(tree, base / "tree", ignore=shutil.ignore_patterns(".git"))
    return install(build("wheel", copy, base / "wheel"), base / "home/.local/share/pipx/venvs/mvmnix")


def test_it_runs_in_an_empty_directory_by_a_new_user(installation: Installation, home: Home, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    help_ = installation.run("mvm", "--help", home=home, cwd=empty)
    assert help_.returncode == 0, help_.stderr.decode()
    assert help_.stdout.startswith(b"Usage: mvm ")
    written = installation.run("mvm", "init", "fresh", home=home, cwd=empty)
    assert written.returncode == 0, written.stderr.decode()
    copied = {path.relative_to(empty / "fresh/mvmnix") for path in (empty / "fresh/mvmnix").rglob("*")}
    assert {path for path in copied if (empty / "fresh/mvmnix" / path).is_file()} == {*filter(of_the_flake, tracked())}
    fetched = installation.run("mvm", "pin", "fetch", "--store-only", home=home, cwd=empty)
    assert fetched.returncode == 0, fetched.stderr.decode()


def test_its_builder_is_the_checkout_s(
    installation: Installation, home: Home, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it ran and Python has compiled what is in it, the flake too."""
    compiled = list((installation.package / "flake").rglob("__pycache__"))
    assert compiled, "pip compiles what it installs"
    script = "from mvmnix.builder import bootstrap; print(bootstrap.request().flake.store_path)"
    asked = installation.run("python", "-P", "-c", script, home=home, cwd=Path("/"))
    monkeypatch.setattr(own_flake, "directory", lambda: tree)
    assert asked.stdout.decode().strip() == str(bootstrap.request().flake.store_path), asked.stderr.decode()


def test_the_flake_of_a_checkout_is_beside_the_package() -> None:
    assert own_flake.directory() == ROOT
