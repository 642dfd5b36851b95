"""An mvm that was installed from its wheel builds and runs guests, with the checkout's builder image bit by bit."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import World
from tests.support.claims import claim_in
from tests.wheel import build, install

pytestmark = pytest.mark.vm


@pytest.mark.in_turn
def test_from_a_wheel_to_a_guest(copied: World, tmp_path: Path) -> None:
    """By a user who has no checkout and no image; only the sources and mvm's own parts are kept from before."""
    for entry in (copied.home.state / "builds").iterdir():
        entry.unlink()
    source = shutil.copytree(copied.tree, tmp_path / "source", ignore=shutil.ignore_patterns(".git"))
    installed = install(build("wheel", source, tmp_path / "wheel"), tmp_path / "installed")
    shutil.rmtree(source)
    empty = tmp_path / "empty"
    empty.mkdir()

    written = installed.run("mvm", "init", "fresh", home=copied.home, cwd=empty)
    assert written.returncode == 0, written.stderr.decode()
    built = installed.run("mvm", "build", "--out", "image", "path:fresh", home=copied.home, cwd=empty)
    assert built.returncode == 0, built.stderr.decode()
    assert b"building the builder" in built.stderr
    bundles = (image / "provenance.sigstore.json" for image in (empty / "image", copied.hello))
    first, second = (claim_in(bundle.read_bytes()).builder_image for bundle in bundles)
    assert first == second != ()
    run = installed.run("mvm", "run", "path:fresh", home=copied.home, cwd=empty)
    assert (run.returncode, run.stdout) == (0, b"Hello from a verified microVM.\n"), run.stderr.decode()
