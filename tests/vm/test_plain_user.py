"""A user without root builds with a Nix store of their own, and launches real machines in all the rest of the jail."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.launch.vmm.confinement import IsolationLayer
from tests.conftest import TREE, World
from tests.vm.test_gap import carry, far_side, trusting

pytestmark = pytest.mark.vm

USER = 61_000
#: mvm may lie where only root can read it, so all of it is imported first. The kernel keeps a process that changed its
#: uid from its own files under /proc until it says otherwise (PR_SET_DUMPABLE).
PLAINLY = """
import ctypes, importlib, os, pkgutil, sys
import mvmnix
for module in pkgutil.walk_packages(mvmnix.__path__, "mvmnix."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
user = int(sys.argv.pop(1))
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
from mvmnix.cli.main import main
main()
"""


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that somebody else can reach, which those of tests are not."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-plain-") as name:
        yield Path(name)


def plainly(home: Path, *arguments: str | Path, tree: Path = TREE) -> subprocess.CompletedProcess[bytes]:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(tree), "LANG": "C.UTF-8"}
    argv = [sys.executable, "-P", "-c", PLAINLY, str(USER), *map(str, arguments)]
    return subprocess.run(argv, env=environment, cwd="/", capture_output=True, timeout=600, check=False)


def test_a_machine_without_root(copied: World, open_place: Path) -> None:
    carried = open_place / "carried"
    carried.mkdir()
    far = far_side(open_place / "far", trusting(copied))
    carry(copied, carried)
    subprocess.run(["chown", "-R", f"{USER}:{USER}", open_place], check=True)
    launch = ("launch", "--image", carried / "image", "--vsa", carried / "vsa.json", carried / "plan.json")
    done = plainly(far.path, *launch)
    assert (done.returncode, done.stdout) == (0, b"Hello from a verified microVM.\n"), done.stderr.decode()
    (receipt,) = far.path.rglob("receipt.sigstore.json")
    assert receipt.stat().st_uid == USER
    said = json.loads(
        plainly(
            far.path,
            "verify",
            "--print-provenance",
            "--key",
            host_key(far.path),
            "--bundle",
            receipt,
            carried / "image/kernel",
        ).stdout
    )
    layers = said["predicate"]["observedByHost"]["confinement"]
    assert {IsolationLayer.NAMESPACES, IsolationLayer.SECCOMP} <= set(layers)
    assert IsolationLayer.OWN_UID not in layers
    assert plainly(far.path, "audit", "verify").returncode == 0


def test_a_build_and_a_run_without_root_and_without_a_daemon(world: World, open_place: Path) -> None:
    """From a clone of the user's own, and the same bits as root's; only sources and parts are kept from before."""
    home, tree = open_place / "home", open_place / "tree"
    shutil.copytree(world.home.path, home)  # no hard links: their owner changes
    shutil.copytree(world.tree, tree, symlinks=True)
    for entry in (home / ".local/state/mvmnix/builds").iterdir():
        entry.unlink()
    sources = Path(world.home.environment["XDG_CACHE_HOME"]) / "mvmnix/sources"
    shutil.copytree(sources, home / ".cache/mvmnix/sources", ignore=shutil.ignore_patterns("*.tmp"), dirs_exist_ok=True)
    subprocess.run(["chown", "-R", f"{USER}:{USER}", open_place], check=True)

    built = plainly(home, "build", "--out", open_place / "hello", tree / "examples/hello", tree=tree)
    assert built.returncode == 0, built.stderr.decode()
    assert "building the builder" in built.stderr.decode()
    for name in ("kernel", "initrd", "rootfs", "manifest.json"):
        assert (open_place / "hello" / name).read_bytes() == (world.hello / name).read_bytes(), name
    own = home / ".local/share/mvmnix/nix"
    assert list(own.glob("nix/store/*-guest-builder"))
    assert {path.stat().st_uid for path in own.rglob("*") if not path.is_symlink()} == {USER}

    run = plainly(home, "run", tree / "examples/hello", tree=tree)
    assert (run.returncode, run.stdout) == (0, b"Hello from a verified microVM.\n"), run.stderr.decode()
    said = {
        one["what"]: one["said"] for one in json.loads(plainly(home, "doctor", "--json", tree=tree).stdout)["result"]
    }
    assert said["Nix store"].startswith(f"{own}/nix/store (own): uid {USER} may not write to /nix/store")


def test_a_clone_of_another_user_is_refused_by_gits_own_rule(world: World, open_place: Path) -> None:
    (open_place / "home").mkdir()
    shutil.copytree(world.tree, open_place / "tree", symlinks=True)
    subprocess.run(["chown", f"{USER}:{USER}", open_place, open_place / "home"], check=True)
    open_place.chmod(0o755)
    run = plainly(open_place / "home", "build", open_place / "tree/examples/hello", tree=open_place / "tree")
    assert run.returncode == 126, run.stderr.decode()
    assert "git reads a repository for its owner alone" in run.stderr.decode()


def host_key(home: Path) -> Path:
    key = home / "host.pub"
    key.write_bytes(plainly(home, "key", "show", "host").stdout)
    return key
